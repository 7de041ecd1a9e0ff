from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.planted.transforms import add_text
from onceseen.verify.overlay import differing, drawn_tiles, explain
from onceseen.verify.tiles import TileMap, compare_tiles
from unit.verify.pictures import photo


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def _tiles(p: NDArray[np.uint8], q: NDArray[np.uint8]) -> TileMap:
    return compare_tiles(_grey(p), _grey(q), np.ones(p.shape[:2], bool), 8, 3.0)


def test_a_picture_agrees_with_itself() -> None:
    rgb = photo("animal-bison")
    tiles = _tiles(rgb, rgb)
    assert not tiles.bad.any()
    assert tiles.ncc[tiles.textured].min() > 0.75
    assert np.median(tiles.ncc[tiles.textured]) > 0.99
    assert tiles.shift.max() < 1e-9


def test_other_pictures_do_not_agree() -> None:
    a, b = photo("animal-bison"), photo("animal-giraffe")
    height, width = min(a.shape[0], b.shape[0]), min(a.shape[1], b.shape[1])
    tiles = _tiles(a[:height, :width], b[:height, :width])
    assert tiles.bad[tiles.textured].mean() > 0.85


def test_displacement_grows_with_motion_and_stays_under_it() -> None:
    """In pixels, drawn towards nothing where there is little detail to hold on to."""
    rgb = photo("monument-taj-mahal")
    found = []
    for shift in (0.0, 0.2, 0.4, 0.8):
        matrix = np.array([[1.0, 0.0, shift], [0.0, 1.0, 0.0]])
        moved = cv2.warpAffine(rgb, matrix, rgb.shape[1::-1], flags=cv2.INTER_CUBIC)
        tiles = _tiles(rgb, np.asarray(moved, dtype=np.uint8))
        strong = tiles.weight > np.quantile(tiles.weight, 0.8)
        found.append(float(np.median(tiles.around[strong])))
    assert found[0] < 0.01
    assert found == sorted(found)
    assert 0.1 < found[2] < 0.45


def test_noise_does_not_move_neighbours_together_but_motion_does() -> None:
    rgb = photo("animal-bison")
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 6, rgb.shape)
    noisy = np.clip(rgb + noise, 0, 255).astype(np.uint8)
    x, y = np.meshgrid(np.arange(rgb.shape[1], dtype=np.float32), np.arange(rgb.shape[0], dtype=np.float32))
    swell = 0.8 * np.sin(x / 60).astype(np.float32)
    warped = np.asarray(cv2.remap(rgb, x + swell, y, cv2.INTER_CUBIC), dtype=np.uint8)
    tiles = [_tiles(rgb, q) for q in (noisy, warped)]
    calm, moving = (np.quantile(t.around[t.textured & ~t.bad], 0.95) for t in tiles)
    assert calm < 0.2
    assert moving > 2 * calm


def test_gradients_are_no_evidence() -> None:
    ramp = np.linspace(60, 200, 256, dtype=np.float32)
    sky = np.repeat(np.broadcast_to(ramp[:, None], (256, 256))[:, :, None], 3, axis=2).astype(np.uint8)
    assert not _tiles(sky, sky).textured.any()


def _explained(p: NDArray[np.uint8], q: NDArray[np.uint8]) -> tuple[float, float, float, float, float]:
    tiles = _tiles(p, q)
    valid = np.ones(p.shape[:2], bool)
    mask = differing(_grey(p), _grey(q), valid, tiles)
    found, drawn = explain(p.astype(np.float32), q.astype(np.float32), mask, valid)
    left = tiles.subset(~drawn_tiles(tiles, drawn, mask))
    bad = float(left.bad.mean()) if left.bad.size else 1.0
    return found.lost, found.own_p, found.own_q, found.natural_share(), bad


@pytest.mark.parametrize("name", ["animal-bison", "farm-owl", "monument-taj-mahal", "nature-swans"])
def test_text_is_drawn_and_its_owner_is_known(name: str) -> None:
    rgb = photo(name).copy()
    marked = add_text(rgb, np.random.Generator(np.random.PCG64(3)))
    lost, own, other, natural, bad = _explained(marked, rgb)
    assert 0.02 < lost < 0.2
    assert own > 20 * other
    assert natural < 0.05
    assert bad < 0.02
    _, own, other, _, _ = _explained(rgb, marked)
    assert other > 20 * own


@pytest.mark.parametrize("name", ["animal-bison", "farm-owl", "monument-taj-mahal"])
def test_a_part_of_another_photograph_is_not_drawn(name: str) -> None:
    rgb = photo(name).copy()
    changed = rgb.copy()
    part = photo("music-orchestra")[100:200, 100:220]
    changed[80:180, 60:180] = part
    _, _, _, natural, _ = _explained(changed, rgb)
    assert natural > 0.12


def test_a_word_replaced_by_another_is_on_both_sides() -> None:
    pages = []
    for word in ("annual balance", "freight goods"):
        page = np.full((200, 420, 3), 252, dtype=np.uint8)
        for row in range(5):
            cv2.putText(
                page, word, (20, 40 + 34 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (30, 30, 30), 2, cv2.LINE_AA
            )
        pages.append(page)
    lost, own, other, _, _ = _explained(*pages)
    assert min(own, other) > 0.25 * lost


def test_nothing_differs_between_equals() -> None:
    rgb = photo("farm-owl")
    assert _explained(rgb, rgb) == (0.0, 0.0, 0.0, 0.0, 0.0)
