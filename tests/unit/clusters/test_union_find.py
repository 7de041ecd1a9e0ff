from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.clusters import TooManyParticipantsError, connected_components, union_find


def _blocks(*blocks: list[tuple[int, int]]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    return [
        (np.array([a for a, _ in block], dtype=np.int64), np.array([b for _, b in block], dtype=np.int64))
        for block in blocks
    ]


def test_labels_are_the_smallest_node() -> None:
    edges = _blocks([(5, 9), (20, 30)], [], [(9, 2), (7, 7)])
    nodes, roots = connected_components(lambda: edges)
    assert nodes.tolist() == [2, 5, 7, 9, 20, 30]
    assert roots.tolist() == [2, 2, 7, 2, 20, 20]


def test_no_edges_no_participants() -> None:
    nodes, roots = connected_components(lambda: [])
    assert len(nodes) == len(roots) == 0


def test_a_long_chain_is_one_component_whatever_its_order() -> None:
    chain = np.arange(100_000, dtype=np.int64)
    order = np.random.default_rng(0).permutation(len(chain) - 1)
    nodes, roots = connected_components(lambda: [(chain[:-1][order], chain[1:][order])])
    assert len(nodes) == len(chain)
    assert not roots.any()


def test_participants_are_merged_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(union_find, "MAX_PARTICIPANTS", 1_500)
    monkeypatch.setattr(union_find, "_MERGE_AT", 1_000)

    def stream() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for start in range(0, 4_000, 500):
            block = np.arange(start, start + 500, dtype=np.int64)
            yield block, block

    with pytest.raises(TooManyParticipantsError, match="1,500 samples take part"):
        connected_components(stream)
