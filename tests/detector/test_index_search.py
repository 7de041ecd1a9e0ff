"""The index's two searches against exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import BandsConfig, CellsConfig, ScanConfig
from onceseen.neighbors.cells import Cells, assign_coarse, encode
from onceseen.reference.fine_cells import FineCells, write_fine_cells
from onceseen.reference.pdq_bands import PdqBands, write_bands
from onceseen.reference.store import save


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def test_cells_find_what_exact_search_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    topics = rng.standard_normal((300, 96))
    x = _unit(topics[rng.integers(300, size=12_000)] * 0.7 + rng.standard_normal((12_000, 96)))
    queries = _unit(x[:1_000] + 0.08 * rng.standard_normal((1_000, 96)))
    config = CellsConfig(cell_size=24, max_cell=64, min_cosine=0.6)
    cells = Cells(x[::3_000].copy(), np.eye(96, dtype=np.float32))
    codes = encode(x, np.arange(len(x)), np.zeros(len(x), np.uint8), cells)
    steps: list[int] = []
    write_fine_cells(
        str(tmp_path), codes, assign_coarse(x, cells, 1)[:, 0].astype(np.int32), config, steps.append
    )
    assert sum(steps) == len(x)
    index = FineCells.open(str(tmp_path), cells, config)
    assert np.diff(index.starts).max() <= 64
    assert sorted(index.codes["node"]) == list(range(len(x)))
    scan = ScanConfig()
    assert len(index.centres) > 2 * scan.probes, "some cells are not searched"
    cosine = queries @ x.T
    found = [set(index.nearest(q, scan.probes, scan.neighbors).tolist()) for q in queries]
    best = cosine.argmax(axis=1)
    assert np.mean([b in f for b, f in zip(best, found, strict=True)]) >= 0.999


def test_equal_vectors_are_cut_into_bounded_cells(tmp_path: Path) -> None:
    x = np.tile(_unit(np.ones((1, 8))), (1_000, 1))
    config = CellsConfig(cell_size=16, max_cell=64)
    cells = Cells(x[:1].copy(), np.eye(8, dtype=np.float32))
    codes = encode(x, np.arange(len(x)), np.zeros(len(x), np.uint8), cells)
    write_fine_cells(str(tmp_path), codes, np.zeros(len(x), np.int32), config, lambda _: None)
    index = FineCells.open(str(tmp_path), cells, config)
    assert np.diff(index.starts).max() <= 64
    assert len(index.nearest(x[0], 4, 8)) == 32


def _bands(directory: Path, pdq: NDArray[np.uint8], config: BandsConfig) -> PdqBands:
    save(str(directory), "pdq.npy", pdq)
    save(str(directory), "pdq_sample.npy", np.arange(len(pdq), dtype=np.int64))
    write_bands(str(directory), pdq, config, lambda _: None)
    return PdqBands.open(str(directory), config)


def _flipped(pdq: NDArray[np.uint8], bits: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    unpacked = np.unpackbits(pdq)
    unpacked[rng.permutation(256)[:bits]] ^= 1
    return np.packbits(unpacked)


def test_bands_find_all_within_fifteen_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for number, config in enumerate((BandsConfig(), BandsConfig(bits=24, bands=10))):
        pdq = rng.integers(256, size=(5_000, 32), dtype=np.uint8)
        (tmp_path / str(number)).mkdir()
        index = _bands(tmp_path / str(number), pdq, config)
        within = 15 if number == 0 else 9  # as many bands are disjoint, and one more than bits are flipped
        for k in range(200):
            query = _flipped(pdq[k], within, rng)
            assert index.nearest(query[None], 5) == [k]
        far = rng.integers(256, size=(50, 32), dtype=np.uint8)
        assert index.nearest(far, 5) == []


def test_a_hot_bucket_is_bounded_and_the_right_one_is_still_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    config = BandsConfig(max_bucket=50)
    layout = rng.integers(256, size=32, dtype=np.uint8)
    pdq = np.stack([_flipped(layout, 20, rng) for _ in range(3_000)])
    index = _bands(tmp_path, pdq, config)
    assert len(index._signatures(pdq[0])) <= 32 * 50
    hits = [k in index.nearest(_flipped(pdq[k], 4, rng)[None], 16) for k in range(0, 3_000, 30)]
    assert np.mean(hits) >= 0.95


def test_no_signatures_are_an_empty_answer(tmp_path: Path) -> None:
    index = _bands(tmp_path, np.empty((0, 32), np.uint8), BandsConfig())
    assert index.nearest(np.zeros((1, 32), np.uint8), 3) == []
