"""Tiled distances against a plain loop, and what they see that plain L2 does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit_pictures import held_out, training
from onceseen.audit import cosines, largest_tile, tile_contrasts, tile_distances, to_square, whole_l2


def _edges(side: int) -> list[int]:
    return [int(i * side / 4 + 0.5) for i in range(5)]


def _tile_by_tile(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    side, found = a.shape[1], np.empty((16, len(a), len(b)), dtype=np.float32)
    edges = _edges(side)
    for tile in range(16):
        rows = slice(edges[tile // 4], edges[tile // 4 + 1])
        columns = slice(edges[tile % 4], edges[tile % 4 + 1])
        for i, one in enumerate(a.astype(np.int64)):
            for j, other in enumerate(b.astype(np.int64)):
                squares = (one[rows, columns] - other[rows, columns]) ** 2
                found[tile, i, j] = np.sqrt(squares.sum() / squares.size) / 255
    return found


def _pictures(seed: int, count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [4, 5, 6, 7, 30, 32, 64, 75])
def test_a_matrix_product_gives_the_loops_very_bits(side: int) -> None:
    a, b = _pictures(1, 4, side), _pictures(2, 3, side)
    a[0], b[0], b[1] = 0, 255, a[1]
    np.testing.assert_array_equal(tile_distances(a, b), _tile_by_tile(a, b))


def test_extremes_of_a_large_tile_are_exact() -> None:
    # 12,288 values a tile, over what one float32 sum can hold.
    black, white = np.zeros((1, 256, 256, 3), np.uint8), np.full((1, 256, 256, 3), 255, np.uint8)
    nearly = white.copy()
    nearly[0, 0, 0, 0] = 254
    assert (tile_distances(black, white) == 1).all()
    assert tile_distances(white, nearly)[:, 0, 0].tolist() == [
        np.float32(np.sqrt(1 / 12288) / 255),
        *[0.0] * 15,
    ]


@given(seed=st.integers(0, 2**32 - 1), side=st.integers(4, 12), steps=st.sampled_from([1, 20, 255]))
@settings(max_examples=60)
def test_the_largest_tile_is_a_metric(seed: int, side: int, steps: int) -> None:
    few = np.random.default_rng(seed).integers(0, steps + 1, (5, side, side, 3)).astype(np.uint8)
    few[1] = few[0]
    found = largest_tile(tile_distances(few, few.copy())).astype(np.float64)
    assert (np.diag(found) == 0).all()
    assert (found == found.T).all()
    same = np.array([[np.array_equal(x, y) for y in few] for x in few])
    assert ((found == 0) == same).all()
    assert (found[:, None, :] <= found[:, :, None] + found[None, :, :] + 1e-6).all()


@pytest.mark.parametrize("side", [5, 30, 32])
def test_tiles_add_up_to_the_plain_root_mean_square(side: int) -> None:
    a, b = _pictures(3, 3, side), _pictures(4, 2, side)
    plain = np.sqrt(((a[:, None] / 255 - b[None] / 255) ** 2).mean(axis=(2, 3, 4)))
    np.testing.assert_allclose(whole_l2(tile_distances(a, b), side), plain, rtol=1e-6)


def test_two_things_on_the_same_grey_ground_are_apart_by_tiles_alone() -> None:
    # The paper's reason for tiles: plain L2 finds these within its .15.
    pictures = np.full((2, 64, 64, 3), 128, dtype=np.uint8)
    for picture, thing in zip(pictures, training()[[3, 40]], strict=True):
        picture[16:32, 16:32] = thing[8:24, 8:24]
    tiles = tile_distances(pictures[:1], pictures[1:])
    assert whole_l2(tiles, 64)[0, 0] < 0.15 / 2
    assert largest_tile(tiles)[0, 0] > 0.15


def test_of_photographs_tiles_never_say_less_than_the_whole() -> None:
    tiles = tile_distances(held_out(), training())
    assert (largest_tile(tiles) >= whole_l2(tiles, 32) - 1e-6).all()


def test_contrast_is_of_the_pattern_not_of_the_colour() -> None:
    picture = np.empty((1, 8, 8, 3), dtype=np.uint8)
    picture[:] = (200, 10, 90)
    picture[0, :2, :2, :] = [[[0] * 3, [255] * 3], [[255] * 3, [0] * 3]]
    contrasts = tile_contrasts(picture)[:, 0]
    assert contrasts.tolist() == [0.5, *[0.0] * 15]


def test_squares_hold_the_whole_picture() -> None:
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 20:] = 200
    for side in (4, 16, 64):
        square = to_square(wide, side)
        assert square.shape == (side, side, 3)
        assert square[:, 0].max() == 0
        assert square[:, -1].min() == 200


def test_cosines_are_those_of_unit_vectors_and_of_zeros_nothing() -> None:
    vectors = np.array([[3, 4], [-3, -4], [0, 0], [0, 1]], dtype=np.float16)
    expected = [[1, -1, 0, 0.8], [-1, 1, 0, -0.8], [0, 0, 0, 0], [0.8, -0.8, 0, 1]]
    np.testing.assert_allclose(cosines(vectors, vectors), expected, atol=1e-7)
    assert np.abs(cosines(vectors, vectors)).max() <= 1


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [((2, 8, 8), np.uint8, "expected"), ((2, 8, 9, 3), np.uint8, "expected"), ((2, 8, 8, 3), float, "uint8")],
)
def test_what_is_no_stack_of_squares_is_refused(shape: tuple[int, ...], dtype: type, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tile_distances(np.zeros(shape, dtype=dtype), _pictures(0, 1, 8))


def test_two_sides_and_tiny_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"side 8 and of side 9.*to_square"):
        tile_distances(_pictures(0, 1, 8), _pictures(0, 1, 9))
    with pytest.raises(ValueError, match="side 3; expected at least 4"):
        to_square(_pictures(0, 1, 8)[0], 3)
