"""Cells on a GPU: FAISS trains and assigns, torch compares; the pairs are the CPU's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu.conftest import DEVICE
from onceseen.core.config import CellsConfig
from onceseen.neighbors.blocks import NumpyBlocks, TorchBlocks
from onceseen.neighbors.cells import Cells, assign_coarse, encode, search_cell, train_cells
from onceseen.neighbors.packing import Records, unique_pairs

CONFIG = CellsConfig(cell_size=64, max_cell=256, min_cosine=0.85)
COUNT = 20_000


def _planted() -> NDArray[np.float32]:
    """Vectors around topics; row i and row i + COUNT // 2 are near-duplicates."""
    rng = np.random.default_rng(3)
    topics = rng.standard_normal((200, 512))
    half = topics[rng.integers(200, size=COUNT // 2)] * 0.7 + rng.standard_normal((COUNT // 2, 512))
    x = np.concatenate([half, half + 0.25 * rng.standard_normal(half.shape)])
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def _codes(x: NDArray[np.float32], cells: Cells) -> Records:
    return encode(x, np.arange(len(x), dtype=np.int64), np.zeros(len(x), dtype=np.uint8), cells)


def _pairs(x: NDArray[np.float32], cells: Cells, config: CellsConfig) -> Records:
    coarse = assign_coarse(x, cells, config.coarse_probes, config.device)
    codes = _codes(x, cells)
    found = [search_cell(codes[(coarse == c).any(axis=1)], config) for c in range(len(cells.centroids))]
    return unique_pairs(np.concatenate(found))


@pytest.mark.parametrize(("least", "neighbors"), [(0.85, 64), (0.1, 16)])
def test_codes_compared_by_torch_give_the_same_pairs(least: float, neighbors: int) -> None:
    x = _planted()
    codes = _codes(x, Cells(x[:1], np.linalg.qr(x[:512].T)[0][:, :224].astype(np.float32)))
    config = CellsConfig(min_cosine=least, neighbors=neighbors)
    cells = [np.arange(start, COUNT, 50) for start in range(50)]
    on_cpu, on_gpu = NumpyBlocks(codes), TorchBlocks(codes, DEVICE)
    expected = on_cpu.near_pairs(cells, config)
    assert len(expected) > 0
    np.testing.assert_array_equal(on_gpu.near_pairs(cells, config), expected)
    members, seeds = np.arange(COUNT), np.arange(0, COUNT, 77)
    np.testing.assert_array_equal(
        on_gpu.nearest_seeds(members, seeds, 3), on_cpu.nearest_seeds(members, seeds, 3)
    )


@pytest.mark.usefixtures("faiss_on_gpu")
def test_with_the_same_centroids_the_pairs_are_the_cpus() -> None:
    x = _planted()
    cells = train_cells(x, COUNT, CONFIG)
    assert len(cells.centroids) > 10
    expected = _pairs(x, cells, CONFIG)
    assert len(expected) > COUNT // 3
    np.testing.assert_array_equal(_pairs(x, cells, replace(CONFIG, device=DEVICE)), expected)


@pytest.mark.usefixtures("faiss_on_gpu")
def test_centroids_trained_on_the_gpu_serve_as_well() -> None:
    x = _planted()
    on_cpu, on_gpu = (train_cells(x, COUNT, replace(CONFIG, device=device)) for device in ("cpu", DEVICE))
    assert (on_cpu.trained_on, on_gpu.trained_on) == ("cpu", DEVICE)
    assert on_gpu.centroids.shape == on_cpu.centroids.shape
    np.testing.assert_allclose(np.linalg.norm(on_gpu.centroids, axis=1), 1, atol=1e-5)
    near = [float((x @ cells.centroids.T).max(axis=1).mean()) for cells in (on_cpu, on_gpu)]
    assert abs(near[0] - near[1]) < 0.01 * near[0]
    true = {(i, i + COUNT // 2) for i in range(COUNT // 2)}
    found = {(int(a), int(b)) for a, b in _pairs(x, on_gpu, replace(CONFIG, device=DEVICE)).tolist()}
    assert len(true & found) / len(true) > 0.99
