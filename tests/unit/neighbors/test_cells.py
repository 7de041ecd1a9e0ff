from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors.cells import Cells, assign_coarse, encode, search_cell, train_cells
from onceseen.neighbors.packing import Asked, Records, unique_pairs


def _planted(count: int, dimensions: int, noise: float = 0.25) -> NDArray[np.float32]:
    """Vectors around topics; row i and row i + count // 2 are near-duplicates."""
    rng = np.random.default_rng(3)
    topics = rng.standard_normal((40, dimensions))
    half = topics[rng.integers(40, size=count // 2)] * 0.7 + rng.standard_normal((count // 2, dimensions))
    x = np.concatenate([half, half + noise * rng.standard_normal(half.shape)]).astype(np.float32)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def _codes(x: NDArray[np.float32], cells: Cells) -> Records:
    return encode(x, np.arange(len(x), dtype=np.int64), np.zeros(len(x), dtype=np.uint8), cells)


def _pairs(x: NDArray[np.float32], config: CellsConfig) -> Records:
    cells = train_cells(x, len(x), config)
    coarse, codes = assign_coarse(x, cells, config.coarse_probes), _codes(x, cells)
    found = [search_cell(codes[(coarse == c).any(axis=1)], config) for c in range(len(cells.centroids))]
    return unique_pairs(np.concatenate(found))


def test_planted_pairs_are_found() -> None:
    x = _planted(4_000, 64)
    config = CellsConfig(cell_size=64, max_cell=256, min_cosine=0.85)
    pairs = {(int(a), int(b)) for a, b in _pairs(x, config).tolist()}
    true = {(i, i + 2_000) for i in range(2_000)}
    assert len(true & pairs) / len(true) > 0.99


def test_what_small_cells_find_is_what_exact_search_finds_in_one_cell() -> None:
    x = _planted(300, 32)
    config = CellsConfig(cell_size=512, max_cell=512, min_cosine=0.6, neighbors=1_000)
    cosine = x @ x.T
    close = {(i, j) for i, j in zip(*np.nonzero(np.triu(cosine, 1) >= 0.64), strict=True)}
    far = {(i, j) for i, j in zip(*np.nonzero(np.triu(cosine, 1) < 0.57), strict=True)}
    pairs = {(int(a), int(b)) for a, b in _pairs(x, config).tolist()}
    assert close <= pairs
    assert not far & pairs


def test_order_of_delivery_does_not_matter() -> None:
    x = _planted(1_000, 32)
    config = CellsConfig(cell_size=32, max_cell=64, min_cosine=0.7)
    codes = _codes(x, train_cells(x, len(x), config))
    expected = search_cell(codes, config)
    assert len(expected) > 400
    for seed in range(3):
        assert np.array_equal(
            search_cell(codes[np.random.default_rng(seed).permutation(len(codes))], config), expected
        )


def test_the_reduction_to_codes_loses_no_pair() -> None:
    """The bound code(x).code(y) + residual(x) residual(y) is never under the cosine, but for int8 rounding."""
    x = _planted(400, 512)
    cells = train_cells(x, len(x), CellsConfig())
    codes = _codes(x, cells)
    assert cells.code_dimensions == 224
    vectors = codes["code"].astype(np.float32) * codes["scale"][:, None]
    bound = vectors @ vectors.T + np.outer(codes["residual"], codes["residual"])
    assert float((x @ x.T - bound).max()) < 0.01


def test_identical_vectors_beyond_the_bound_still_meet_their_neighbours() -> None:
    x = np.tile(_planted(2, 16)[:1], (500, 1))
    config = CellsConfig(cell_size=16, max_cell=32, neighbors=8)
    pairs = search_cell(_codes(x, Cells(x[:1], np.eye(16, dtype=np.float32))), config)
    parent = list(range(500))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for a, b in pairs.tolist():
        parent[root(b)] = root(a)
    assert len({root(i) for i in range(500)}) == 1


def test_training_is_repeatable_and_refuses_nothing() -> None:
    x = _planted(2_000, 32)
    config = CellsConfig(cell_size=16, max_cell=64)
    first, second = train_cells(x, 2_000, config), train_cells(x, 2_000, config)
    assert np.array_equal(first.centroids, second.centroids)
    assert len(first.centroids) > 5
    with pytest.raises(ValueError, match="no vectors"):
        train_cells(x[:0], 0, config)


def test_a_search_from_a_node_on_finds_the_pairs_of_the_whole_search() -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((600, 16)).astype(np.float32)
    x[300:] = x[:300] + 0.1 * rng.standard_normal((300, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    config = CellsConfig(cell_size=64, max_cell=128, min_cosine=0.8)
    codes = _codes(x, Cells(x[:1], np.eye(16, dtype=np.float32)))
    everything = search_cell(codes, config).tolist()
    assert len(everything) > 250
    for since in (0, 250, 599, 600):
        newer = [p for p in everything if p[1] >= since]
        assert search_cell(codes, config, Asked(since)).tolist() == newer
        across = [p for p in newer if p[0] < since]
        assert search_cell(codes, config, Asked(since, across=True)).tolist() == across
