from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onceseen.core.config import CellsConfig
from onceseen.neighbors import device
from onceseen.neighbors.cells import Cells, assign_coarse, search_cell, train_cells
from onceseen.neighbors.cells_file import read_cells, write_cells
from onceseen.neighbors.device import require_faiss, search_device
from onceseen.neighbors.packing import code_dtype


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    device._resolved.cache_clear()
    yield
    device._resolved.cache_clear()


def _without_cuda() -> None:
    if hasattr(require_faiss(), "StandardGpuResources"):
        pytest.skip("this faiss has CUDA")


def test_cuda_is_never_replaced_by_the_cpu_in_silence() -> None:
    _without_cuda()
    config = CellsConfig(device="cuda")
    sample = np.eye(4, dtype=np.float32)
    for attempt in (
        lambda: search_device(config),
        lambda: train_cells(sample, 4, config),
        lambda: search_cell(np.empty(0, dtype=code_dtype(4)), config),
    ):
        with pytest.raises(
            ValueError, match=r"cells.device is 'cuda', but .* without CUDA: install onceseen\[gpu\]"
        ):
            attempt()


def test_auto_says_once_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    _without_cuda()
    with caplog.at_level(logging.INFO, "onceseen.neighbors"):
        assert search_device(CellsConfig()) == "cpu"
        assert not caplog.records
        assert {search_device(CellsConfig(device="auto")) for _ in range(3)} == {"cpu"}
    assert len(caplog.records) == 1
    assert "searched on cpu (cells.device: auto; this faiss" in caplog.text


def test_other_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cells.device is 'tpu'; expected auto, cpu or cuda"):
        CellsConfig(device="tpu")


def test_centroids_know_where_they_were_trained(tmp_path: Path) -> None:
    sample = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    cells = train_cells(sample, 4_000, CellsConfig())
    assert cells.trained_on == "cpu"
    path = tmp_path / "centroids.npz"
    write_cells(str(path), replace(cells, trained_on="cuda"))
    again = read_cells(str(path))
    assert again.trained_on == "cuda"
    np.testing.assert_array_equal(again.centroids, cells.centroids)
    np.savez(path, centroids=cells.centroids, components=cells.components)  # as written before
    assert read_cells(str(path)).trained_on == ""


def test_coarse_cells_are_settled_where_float32_leaves_them_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS elsewhere rounds otherwise: with noise as large as TF32's on its cosines, the cells stay the same."""
    rng = np.random.default_rng(4)
    centroids = rng.standard_normal((40, 64))
    centroids[20:] = centroids[:20] + 1e-5 * rng.standard_normal((20, 64))  # each beside another
    x = centroids[rng.integers(40, size=3_000)] + rng.standard_normal((3_000, 64))
    x, centroids = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, centroids))
    x, centroids = x.astype(np.float32), centroids.astype(np.float32)
    cells = Cells(centroids, np.eye(64, dtype=np.float32))
    exact = np.argsort(
        -np.round(x.astype(np.float64) @ centroids.astype(np.float64).T, 9), axis=1, kind="stable"
    )
    faiss, knn = require_faiss(), require_faiss().knn

    def noisy(queries: np.ndarray, base: np.ndarray, k: int, metric: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        cosine, found = knn(queries, base, len(base), metric=metric)
        cosine = cosine + rng.uniform(-2e-4, 2e-4, cosine.shape).astype(np.float32)
        order = np.argsort(-cosine, axis=1)[:, :k]
        return np.take_along_axis(cosine, order, axis=1), np.take_along_axis(found, order, axis=1)

    for probes in (1, 3, 40):
        expected = np.sort(exact[:, :probes], axis=1)
        np.testing.assert_array_equal(assign_coarse(x, cells, probes), expected)
        with monkeypatch.context() as patch:
            patch.setattr(faiss, "knn", noisy)
            np.testing.assert_array_equal(assign_coarse(x, cells, probes), expected)
