"""Distances of pictures of one size: of 4 x 4 tiles (Carlini et al. 2023, arXiv 2301.13188, 4.2.1) and of the whole.

Plain L2 takes two pictures with the same large flat background for near-identical, whatever they show. The largest of
the tiles' distances is small only where every part of the picture agrees.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from onceseen.embed.images import squash

GRID = 4
"""Tiles a side; 16 tiles in all, numbered by rows."""

_EXACT_TERMS = 1024
"""Products of two centred bytes are at most 2^14, so float32 holds any sum of 2^10 of them exactly."""


def to_square(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The whole picture squeezed to a square: area filter to shrink, linear to enlarge.

    Args:
        rgb: (h, w, 3) uint8.
        side: Side in pixels, at least `GRID`.

    Returns:
        (side, side, 3) uint8, contiguous.

    Raises:
        ValueError: If the array is no such picture, or the side is too small.
    """
    _tile_edges(side)
    return squash(rgb, side)


def tile_distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Root mean square difference of each tile of every picture of a and every picture of b, pixels in [0, 1].

    The sums of squares are integers and computed exactly, by float32 matrix products short enough to be exact and
    float64 sums of those: one answer on every processor, thread count and BLAS, rounded once, to float32.

    Args:
        a: (n, side, side, 3) uint8.
        b: (m, side, side, 3) uint8.

    Returns:
        (16, n, m) float32 in [0, 1]. Tiles of a side that is no multiple of 4 differ by a pixel. Cost: 6 n m side^2
        float operations (500 by 500 of side 64: 6 GFLOP), 64 n m bytes for the result, 16 n m at work.

    Raises:
        ValueError: If the stacks are no square RGB pictures of one side of at least 4 pixels.
    """
    _check_stack(a, "a")
    _check_stack(b, "b")
    side = a.shape[1]
    if b.shape[1] != side:
        raise ValueError(f"pictures of side {side} and of side {b.shape[1]}; bring both to one by to_square")
    edges = _tile_edges(side)
    found = np.empty((GRID * GRID, len(a), len(b)), dtype=np.float32)
    for tile in range(GRID * GRID):
        row, column = divmod(tile, GRID)
        cut = np.s_[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
        left = _centred(a[cut])
        right = left if a is b else _centred(b[cut])
        squares = _squared_distances(left, right)
        squares /= left.shape[1]
        np.sqrt(squares, out=squares)
        squares /= 255
        found[tile] = squares
    return found


def largest_tile(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    """The paper's distance: the largest of the tiles'.

    Args:
        tiles: (16, ...) from `tile_distances`.

    Returns:
        (...) float32.
    """
    return np.asarray(tiles.max(axis=0), dtype=np.float32)


def whole_l2(tiles: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Normalised L2 of the whole pictures, sqrt(sum of squares / values): the paper's for matching with training.

    Args:
        tiles: (16, ...) from `tile_distances`.
        side: Side of the pictures that were compared, in pixels: tiles count by their area.

    Returns:
        (...) float32 in [0, 1], within some 1e-7 of the exact value (the tiles' were rounded to float32).
    """
    lengths = np.diff(_tile_edges(side)).astype(np.float64)
    shares = np.outer(lengths, lengths).ravel() / side**2
    mean = np.tensordot(shares, np.square(tiles, dtype=np.float64), axes=1)
    return np.asarray(np.sqrt(mean), dtype=np.float32)


def tile_contrasts(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation of each tile's values around the tile's mean colour, pixels in [0, 1].

    Args:
        pictures: (n, side, side, 3) uint8.

    Returns:
        (16, n) float32: 0 where a tile has one colour, whatever the colour.

    Raises:
        ValueError: As `tile_distances`.
    """
    _check_stack(pictures, "pictures")
    edges = _tile_edges(pictures.shape[1])
    found = np.empty((GRID * GRID, len(pictures)), dtype=np.float32)
    for tile in range(GRID * GRID):
        row, column = divmod(tile, GRID)
        part = pictures[:, edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
        variance = np.var(part, axis=(1, 2), dtype=np.float64).mean(axis=1)
        found[tile] = np.sqrt(variance) / 255
    return found


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cosines of every vector of a and every vector of b.

    Args:
        a: (n, d) float, of any length; a vector of zeros (a picture without embedding) has cosine 0 with all.
        b: (m, d) float.

    Returns:
        (n, m) float32 in [-1, 1]; summed in float64, so that the order of summation does not show.
    """
    left = _unit(a)
    right = left if a is b else _unit(b)
    return np.clip(left @ right.T, -1, 1).astype(np.float32)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(wide / np.where(lengths > 0, lengths, 1), dtype=np.float64)


def _centred(tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, values) float32 integers in [-128, 127]: differences stay, products get small."""
    return tiles.reshape(len(tiles), math.prod(tiles.shape[1:])).astype(np.float32) - np.float32(128)


def _squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, m) sums of squared differences of integers in [-128, 127]; exact."""
    products = np.zeros((len(a), len(b)), dtype=np.float64)
    for start in range(0, a.shape[1], _EXACT_TERMS):
        products += a[:, start : start + _EXACT_TERMS] @ b[:, start : start + _EXACT_TERMS].T
    lengths = [np.einsum("ij,ij->i", x, x, dtype=np.float64) for x in (a, b)]
    products *= -2
    products += lengths[0][:, None]
    products += lengths[1][None, :]
    return products


def _tile_edges(side: int) -> NDArray[np.int64]:
    """(5,) where tiles begin and end."""
    if side < GRID:
        raise ValueError(
            f"pictures of side {side}; expected at least {GRID} pixels, one for each of the tiles"
        )
    return np.array([(2 * i * side + GRID) // (2 * GRID) for i in range(GRID + 1)], dtype=np.int64)


def _check_stack(pictures: NDArray[np.uint8], name: str) -> None:
    shape = pictures.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] != 3 or pictures.dtype != np.uint8:
        raise ValueError(
            f"{name} has shape {shape} and dtype {pictures.dtype}; expected (n, side, side, 3) uint8, as of to_square"
        )
