"""Templates: which tiles are shared, and which training picture has them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from audit_pictures import SIDE, training
from onceseen.audit import Candidate, MatchedBy, Thresholds, tile_contrasts, tile_distances
from onceseen.audit.templates import find_template, match_template

LIMITS = Thresholds(0.1, 0.75, 0.1, 0.9, min_clique=4, template_tiles=3)
TILE = SIDE // 4


def _patterns(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def _paint(picture: NDArray[np.uint8], source: NDArray[np.uint8], tiles: tuple[int, ...]) -> None:
    for tile in tiles:
        cut = np.s_[tile // 4 * TILE : (tile // 4 + 1) * TILE, tile % 4 * TILE : (tile % 4 + 1) * TILE]
        picture[cut] = source[cut]


def _mask(*tiles: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(16), tiles)


def _find(pictures: NDArray[np.uint8]) -> tuple[tuple[int, ...], NDArray[np.bool_]] | None:
    found = find_template(tile_distances(pictures, pictures), tile_contrasts(pictures), LIMITS)
    return None if found is None else (found.clique.members, found.tiles)


def test_tiles_that_most_members_share_are_the_template() -> None:
    pictures, shared = _patterns(1, 8), training()[3]
    for picture in pictures[:5]:
        _paint(picture, shared, (0, 1, 4, 5))
    for picture in pictures[:2]:
        _paint(picture, shared, (9,))  # two of five only
    found = _find(pictures)
    assert found is not None
    assert found[0] == (0, 1, 2, 3, 4)
    np.testing.assert_array_equal(found[1], _mask(0, 1, 4, 5))


@pytest.mark.parametrize(("sharing", "tiles"), [(3, (0, 1, 2)), (6, (0, 1))])
def test_too_few_members_or_tiles_are_no_template(sharing: int, tiles: tuple[int, ...]) -> None:
    pictures = _patterns(2, 8)
    for picture in pictures[:sharing]:
        _paint(picture, training()[3], tiles)
    assert _find(pictures) is None


def test_tiles_of_one_colour_are_shared_by_chance() -> None:
    pictures = _patterns(3, 8)
    for picture in pictures:
        _paint(picture, np.full((SIDE, SIDE, 3), 240, dtype=np.uint8), (0, 1, 2, 3))
        _paint(picture, training()[3], (8, 9))
    assert _find(pictures) is None


def _match(
    stack: list[NDArray[np.uint8]], components: str, tiles: NDArray[np.bool_]
) -> tuple[str, MatchedBy, int] | None:
    """What is found for the first picture of the stack; the others are the candidates."""
    candidates = tuple(Candidate(i + 1, name) for i, name in enumerate(components))
    found = match_template(stack[0], tiles, candidates, lambda node: stack[node], LIMITS)
    return None if found is None else (found[0].component, found[0].by, found[1])


def test_the_candidate_with_these_tiles_is_the_match_wherever_it_stands() -> None:
    picture, other, source = _patterns(4, 3)
    _paint(source, picture, (0, 5, 6))
    assert _match([picture, other, source], "ab", _mask(0, 5, 6)) == ("b", MatchedBy.TEMPLATE, 3)
    # A tile of the template that is another there speaks against it.
    assert _match([picture, other, source], "ab", _mask(0, 5, 6, 7)) is None


def test_a_part_that_two_training_pictures_have_says_nothing_unless_they_are_copies() -> None:
    picture, one, two = _patterns(5, 3)
    for source in (one, two):
        _paint(source, picture, (0, 5, 6))
    assert _match([picture, one, two], "ab", _mask(0, 5, 6)) is None
    assert _match([picture, one, two], "aa", _mask(0, 5, 6)) == ("a", MatchedBy.TEMPLATE, 3)


def test_a_training_tile_of_one_colour_is_no_evidence() -> None:
    picture, source = _patterns(6, 2)
    grey = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    _paint(picture, grey, (2,))
    _paint(picture, (grey + np.arange(SIDE)[None, :, None] % 2 * 18).astype(np.uint8), (3,))
    _paint(source, picture, (0, 5, 2))
    _paint(source, grey, (3,))
    assert _match([picture, source], "a", _mask(0, 5, 3)) is None  # two tiles with a pattern, one flat
    _paint(source, picture, (6,))
    assert _match([picture, source], "a", _mask(0, 5, 6, 3)) == ("a", MatchedBy.TEMPLATE, 3)


def test_without_candidates_there_is_no_match() -> None:
    assert _match([_patterns(7, 1)[0]], "", _mask(0, 1, 2)) is None
