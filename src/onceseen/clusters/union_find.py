"""Connected components by union-find over streamed edges, vectorised, on one worker.

Memory: two int64 arrays over the participants (the nodes of at least one edge), 16 bytes each, so 10^9 participants
need 16 GB and fit one large worker; edges are streamed twice and never held. The root of a component is its smallest
node whatever the order of edges, so the result is the same for every split and order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

EdgeStream = Callable[[], Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]]
"""Called once for each pass over the edges; yields (left, right) arrays of node ids."""

MAX_PARTICIPANTS = 2_000_000_000
_MERGE_AT = 1_000_000


class TooManyParticipantsError(RuntimeError):
    """More participants than one worker should hold."""


def connected_components(edges: EdgeStream) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels every participant with the smallest node of its component.

    Args:
        edges: Gives a fresh stream of edge blocks each time it is called; it is called twice.

    Returns:
        (participants, roots): both (p,) int64, participants ascending and unique. Time about O(m log p) for m edges.

    Raises:
        TooManyParticipantsError: Over `MAX_PARTICIPANTS`.
    """
    nodes = _participants(edges)
    parent = np.arange(len(nodes), dtype=np.int64)
    for left, right in edges():
        _union(parent, np.searchsorted(nodes, left), np.searchsorted(nodes, right))
    _compress(parent)
    return nodes, nodes[parent]


def _participants(edges: EdgeStream) -> NDArray[np.int64]:
    """All nodes of the edges, ascending, each once. Pending blocks are merged when they reach a quarter of the rest."""
    nodes = np.empty(0, dtype=np.int64)
    pending: list[NDArray[np.int64]] = []
    waiting = 0
    for left, right in edges():
        block = np.unique(np.concatenate([left, right]))
        pending.append(block)
        waiting += len(block)
        if waiting > max(_MERGE_AT, len(nodes) // 4):
            nodes = np.unique(np.concatenate([nodes, *pending]))
            pending, waiting = [], 0
        if len(nodes) > MAX_PARTICIPANTS:
            raise TooManyParticipantsError(
                f"more than {MAX_PARTICIPANTS:,} samples take part in a pair, the most that one worker holds "
                "(16 bytes each); raise verify.min_score, or run on parts of the input"
            )
    return np.unique(np.concatenate([nodes, *pending])) if pending else nodes


def _union(parent: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    """Hooks the larger root of each edge under the smaller until no edge joins two roots."""
    while len(left):
        left, right = _roots(parent, left), _roots(parent, right)
        apart = left != right
        left, right = left[apart], right[apart]
        if len(left):
            np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))


def _roots(parent: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Root of each index, by pointer jumping with path halving."""
    while True:
        above = parent[index]
        top = parent[above]
        if np.array_equal(above, top):
            return above
        parent[index] = np.minimum(parent[index], top)
        index = top


def _compress(parent: NDArray[np.int64]) -> None:
    """Points every node straight at its root."""
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            return
        parent[:] = above
