"""Products of codes: numpy and torch find the same pairs, bit for bit, and those that the definition asks for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors import blocks
from onceseen.neighbors.blocks import ROUNDING, CodeBlocks, NumpyBlocks, TorchBlocks
from onceseen.neighbors.cells import Cells, encode, search_cell
from onceseen.neighbors.packing import VIEW_FLAG, Asked, Records

DIMENSIONS = 48
CELLS = (
    np.arange(0, 150),
    np.arange(100, 240),
    np.array([3, 9, 77, 260]),
    np.arange(240, 300),
    np.array([5]),
)


def _records() -> Records:
    """300 codes: topics, views of the first twenty, exact repeats, and a residual for each."""
    rng = np.random.default_rng(1)
    topics = rng.standard_normal((12, 96))
    x = topics[rng.integers(12, size=300)] + 0.6 * rng.standard_normal((300, 96))
    x[150:190] = x[150]  # ties
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((96, DIMENSIONS)))[0].astype(np.float32)
    nodes = np.concatenate([np.arange(280), np.arange(20)]).astype(np.int64) * 7
    flags = np.where(np.arange(300) < 280, 0, VIEW_FLAG).astype(np.uint8)
    records = encode(x, nodes, flags, Cells(x[:1], basis))
    return records[np.lexsort((records["flags"], records["node"]))]


def _expected(records: Records, config: CellsConfig) -> set[tuple[int, int]]:
    """By the definition, a row at a time, the product of codes in integers."""
    code, nodes, least = records["code"].astype(np.int64), records["node"], config.min_cosine - ROUNDING
    pairs = set()
    for members in CELLS:
        for i in members:
            dot = (code[members] @ code[i]).astype(np.float32)
            bound = dot * records["scale"][i] * records["scale"][members]
            bound = bound + records["residual"][i] * records["residual"][members]
            bound[nodes[members] == nodes[i]] = -2
            cut = np.sort(bound)[-min(config.neighbors, len(bound))]
            for j in members[(bound >= np.float32(least)) & (bound >= cut)]:
                if nodes[i] != nodes[j]:
                    pairs.add((int(min(nodes[i], nodes[j])), int(max(nodes[i], nodes[j]))))
    return pairs


def _all(records: Records) -> list[CodeBlocks]:
    pytest.importorskip("torch", reason="torch compares codes on a GPU: pip install 'onceseen[openclip]'")
    return [NumpyBlocks(records), TorchBlocks(records, "cpu")]


@pytest.mark.parametrize(("least", "neighbors"), [(0.8, 64), (0.5, 8), (0.3, 1), (-1.0, 3), (-1.0, 500)])
def test_both_find_what_the_definition_asks_for(least: float, neighbors: int) -> None:
    records = _records()
    config = CellsConfig(min_cosine=least, neighbors=neighbors)
    expected = _expected(records, config)
    assert expected
    for one in _all(records):
        assert [tuple(pair) for pair in one.near_pairs(CELLS, config).tolist()] == sorted(expected)
        assert len(one.near_pairs([], config)) == 0


def test_pieces_of_the_work_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    records, config = _records(), CellsConfig(min_cosine=0.4, neighbors=8)
    expected = [one.near_pairs(CELLS, config) for one in _all(records)]
    for rows, entries, gathered in ((7, 2_000, 1 << 18), (64, 1 << 26, 100), (1_024, 1, 1)):
        monkeypatch.setattr(blocks, "_ROWS", rows)
        monkeypatch.setattr(blocks, "_ENTRIES", entries)
        monkeypatch.setattr(blocks, "_GATHERED", gathered)
        for one in _all(records):
            for before in expected:
                np.testing.assert_array_equal(one.near_pairs(CELLS, config), before)


def test_nearest_seeds_are_the_same_and_ties_go_to_the_first() -> None:
    records = _records()
    members, seeds = np.arange(300), np.array([155, 20, 170, 90, 4, 250, 151])
    found = [one.nearest_seeds(members, seeds, 4) for one in _all(records)]
    np.testing.assert_array_equal(found[0], found[1])
    code = records["code"].astype(np.int64)
    score = (code @ code[seeds].T).astype(np.float32) * records["scale"][seeds]
    np.testing.assert_array_equal(found[0], np.argsort(-score, axis=1, kind="stable")[:, :4])


def test_a_whole_coarse_cell_is_searched_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    records = _records()
    config = CellsConfig(cell_size=16, max_cell=24, min_cosine=0.3, neighbors=6, fine_probes=3)
    expected = search_cell(records, config)
    assert len(expected) > 300
    torch_blocks = _all(records)[1]
    monkeypatch.setattr("onceseen.neighbors.cells.code_blocks", lambda *_: torch_blocks)
    np.testing.assert_array_equal(search_cell(records, config), expected)


def test_products_do_not_depend_on_the_order_of_addition() -> None:
    rng = np.random.default_rng(2)
    code: NDArray[np.float32] = rng.choice([-127, 127], (64, 224)).astype(np.float32)  # the largest there are
    order = rng.permutation(224)
    np.testing.assert_array_equal(code @ code.T, code[:, order] @ code[:, order].T)
    assert float(np.abs(code @ code.T).max()) == 224 * 127**2 < 2**24


@pytest.mark.parametrize("across", [False, True])
def test_both_look_for_neighbours_of_newer_nodes_alone(across: bool) -> None:
    records, config = _records(), CellsConfig(min_cosine=0.3, neighbors=500)
    since = int(np.median(records["node"]))
    everything = _all(records)[0].near_pairs(CELLS, config).tolist()
    expected = [p for p in everything if p[1] >= since and (not across or p[0] < since)]
    assert 0 < len(expected) < len(everything)
    for one in _all(records):
        assert one.near_pairs(CELLS, config, Asked(since, across)).tolist() == expected
