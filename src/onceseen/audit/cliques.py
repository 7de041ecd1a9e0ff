"""The largest clique of a prompt's generations, exactly where the search ends within its steps.

A clique is a set in which every two are near-identical. The connected component is not: in a chain of small changes its
ends show different pictures, so counting it makes memorised what is not (Carlini et al. 2023, 4.2.1, ask for a clique).

Branch and bound with greedy colouring on bitsets (Tomita and Seki 2003; San Segundo et al. 2011): a set that can be
coloured with k colours holds no clique over k. Python's integers are the bitsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.audit.clique_start import ROUNDS, Exchanges, first_clique, peel
from onceseen.clusters import connected_components

_STEP = 64
"""Nodes of the graph that are coloured in a step, so that it takes about as long in a dense graph as in a thin one."""


@dataclass(frozen=True, slots=True)
class Clique:
    """The largest clique that was found.

    Attributes:
        members: Nodes, ascending; every two are adjacent, also where the search was cut short.
        exact: Whether no clique of the graph is larger.
        bound: No clique of the graph is larger than this; the number of members where exact.
    """

    members: tuple[int, ...]
    exact: bool
    bound: int


def largest_clique(adjacency: NDArray[np.bool_], steps: int) -> Clique:
    """Finds a largest clique.

    Args:
        adjacency: (n, n) bool, symmetric; the diagonal is not read.
        steps: Most steps, at least 1; the search ends there with the best clique found so far. A node of the search
            tree takes one, and one more for every 64 nodes of the graph that it colours: about 20 microseconds each.

    Returns:
        The clique: of several of one size always the same one.

    Raises:
        ValueError: If the matrix is not square and symmetric, or without a step.
    """
    _check(adjacency, steps)
    if not len(adjacency):
        return Clique((), True, 0)
    beside = adjacency & ~np.eye(len(adjacency), dtype=np.bool_)
    removed, degrees = peel(beside)
    cores = np.maximum.accumulate(degrees)
    found = first_clique(beside, removed, degrees)
    if len(found) <= cores.max():
        found = Exchanges(beside, found).run(ROUNDS * len(beside))
    # A larger clique lies among the nodes that have as many neighbours there as this one has members.
    kept = removed[::-1][cores[::-1] >= len(found)]
    best, bound = _Search(beside[np.ix_(kept, kept)], len(found), steps).run()
    members = kept[best].tolist() if best else found
    return Clique(tuple(sorted(members)), bound == len(members), bound)


def largest_component(adjacency: NDArray[np.bool_]) -> tuple[int, ...]:
    """The largest connected component, for comparison only: it says nothing about its members being alike.

    Args:
        adjacency: (n, n) bool, symmetric; the diagonal is not read.

    Returns:
        Nodes, ascending; of several of one size the one with the smallest node. Empty for an empty graph.

    Raises:
        ValueError: If the matrix is not square and symmetric.
    """
    _check(adjacency, 1)
    if not len(adjacency):
        return ()
    left, right = np.nonzero(np.triu(adjacency, 1))
    nodes, roots = connected_components(lambda: [(left, right)])
    if not len(nodes):
        return (0,)
    labels, sizes = np.unique(roots, return_counts=True)
    return tuple(nodes[roots == labels[np.argmax(sizes)]].tolist())


def medoid(distances: NDArray[np.floating], members: tuple[int, ...]) -> int:
    """The member with the smallest sum of distances to the others; of several the smallest node.

    Args:
        distances: (n, n) float.
        members: At least one node.

    Raises:
        ValueError: Without a member.
    """
    if not members:
        raise ValueError("a set without members has no medoid; expected at least one")
    chosen = np.array(sorted(members), dtype=np.int64)
    sums = distances[np.ix_(chosen, chosen)].sum(axis=1, dtype=np.float64)
    return int(chosen[np.argmin(sums)])


@dataclass(slots=True)
class _Frame:
    """A node of the search tree: what may still be added, and the nodes to branch on with their colours, ascending."""

    candidates: int
    order: list[int]
    colours: list[int]


class _Search:
    """Branch and bound below a clique that is known.

    Args:
        beside: (n, n) bool without diagonal, likely members of a large clique first.
        size: Size of the clique to be beaten.
        steps: Most steps.
    """

    def __init__(self, beside: NDArray[np.bool_], size: int, steps: int) -> None:
        self._beside = [_bits(row) for row in beside]
        self._apart = [_bits(row) for row in ~beside & ~np.eye(len(beside), dtype=np.bool_)]
        self._size = size
        self._steps = steps
        self._best: list[int] = []

    def run(self) -> tuple[list[int], int]:
        """Searches.

        Returns:
            Members of the largest clique over `size`, empty if none was found, and the proven upper bound.
        """
        taken: list[int] = []
        stack = [self._open((1 << len(self._beside)) - 1, 0)]
        while stack:
            frame = stack[-1]
            if not frame.order or len(taken) + frame.colours[-1] <= self._size:
                stack.pop()
                if taken:
                    taken.pop()
                continue
            node, colour = frame.order.pop(), frame.colours.pop()
            frame.candidates ^= 1 << node
            left = frame.candidates & self._beside[node]
            if not left:
                self._record([*taken, node])
            elif self._steps < 1:
                return self._best, self._bound(stack, len(taken), colour)
            else:
                taken.append(node)
                stack.append(self._open(left, len(taken)))
        return self._best, self._size

    def _open(self, candidates: int, taken: int) -> _Frame:
        """Colours the candidates one colour class after another; lists those that could lead to a larger clique."""
        self._steps -= 1 + candidates.bit_count() // _STEP
        needed = self._size - taken
        order: list[int] = []
        colours: list[int] = []
        apart = self._apart
        uncoloured = candidates
        colour = 0
        while uncoloured:
            colour += 1
            same = uncoloured
            while same:
                lowest = same & -same
                node = lowest.bit_length() - 1
                uncoloured ^= lowest
                same &= apart[node]
                if colour > needed:
                    order.append(node)
                    colours.append(colour)
        return _Frame(candidates, order, colours)

    def _record(self, members: list[int]) -> None:
        if len(members) > self._size:
            self._best, self._size = members, len(members)

    def _bound(self, stack: list[_Frame], taken: int, colour: int) -> int:
        """The largest clique that the branches left open could hold: members taken and colours left."""
        open_branches = [i + frame.colours[-1] for i, frame in enumerate(stack) if frame.order]
        return max(self._size, taken + colour, *open_branches)


def _bits(row: NDArray[np.bool_]) -> int:
    """A bitset: bit i is set where row[i] is."""
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")


def _check(adjacency: NDArray[np.bool_], steps: int) -> None:
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or adjacency.dtype != np.bool_:
        raise ValueError(
            f"adjacency has shape {adjacency.shape} and dtype {adjacency.dtype}; expected (n, n) bool"
        )
    if not np.array_equal(adjacency, adjacency.T):
        raise ValueError("adjacency is not symmetric; expected an undirected graph")
    if steps < 1:
        raise ValueError(f"{steps} steps; expected at least 1 (audit.clique_steps)")
