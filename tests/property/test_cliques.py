"""Promises of the clique search on arbitrary graphs, against trying every set."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onceseen.audit import largest_clique, largest_component


@st.composite
def graphs(draw: st.DrawFn) -> NDArray[np.bool_]:
    nodes = draw(st.integers(1, 9))
    pairs = list(combinations(range(nodes), 2))
    chosen = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    found = np.zeros((nodes, nodes), dtype=np.bool_)
    for (a, b), joined in zip(pairs, chosen, strict=True):
        found[a, b] = found[b, a] = joined
    return found


def _is_clique(graph: NDArray[np.bool_], members: tuple[int, ...]) -> bool:
    return all(graph[a, b] for a, b in combinations(members, 2))


def _size_by_trying(graph: NDArray[np.bool_]) -> int:
    nodes = range(len(graph))
    return max(
        k for k in range(1, len(graph) + 1) if any(_is_clique(graph, c) for c in combinations(nodes, k))
    )


@given(graph=graphs(), steps=st.sampled_from([1, 2, 3, 10_000]))
@settings(max_examples=300)
def test_members_are_a_clique_and_the_bound_holds(graph: NDArray[np.bool_], steps: int) -> None:
    expected = _size_by_trying(graph)
    clique = largest_clique(graph, steps)
    assert list(clique.members) == sorted(set(clique.members))
    assert _is_clique(graph, clique.members)
    assert len(clique.members) <= expected <= clique.bound
    assert clique.exact == (len(clique.members) == clique.bound)
    assert clique.exact or steps < 10_000


@given(graph=graphs(), seed=st.integers(0, 999))
@settings(max_examples=150)
def test_its_size_does_not_depend_on_the_order_of_nodes(graph: NDArray[np.bool_], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(graph))
    turned = largest_clique(graph[np.ix_(order, order)], 10_000)
    assert len(turned.members) == len(largest_clique(graph, 10_000).members)


@given(graph=graphs())
@settings(max_examples=150)
def test_a_clique_is_never_larger_than_the_component(graph: NDArray[np.bool_]) -> None:
    component = largest_component(graph)
    assert len(largest_clique(graph, 10_000).members) <= len(component)
    reached, waiting = set(), [component[0]]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += np.flatnonzero(graph[node]).tolist()
    assert reached == set(component)
