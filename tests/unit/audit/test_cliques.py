"""Cliques that are cliques: against components, against networkx, and with too few steps."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.audit import Clique, largest_clique, largest_component, medoid
from onceseen.audit.clique_start import Exchanges, first_clique, peel
from onceseen.audit.cliques import _Search

STEPS = 100_000


def _graph(nodes: int, edges: list[tuple[int, int]]) -> NDArray[np.bool_]:
    found = np.zeros((nodes, nodes), dtype=np.bool_)
    for a, b in edges:
        found[a, b] = found[b, a] = True
    return found


def _complete(nodes: range) -> list[tuple[int, int]]:
    return [(a, b) for a in nodes for b in nodes if a < b]


def _random(seed: int, nodes: int, share: float) -> NDArray[np.bool_]:
    upper = np.triu(np.random.default_rng(seed).random((nodes, nodes)) < share, 1)
    return np.asarray(upper | upper.T, dtype=np.bool_)


def _is_clique(adjacency: NDArray[np.bool_], members: tuple[int, ...]) -> bool:
    among = adjacency[np.ix_(members, members)]
    return bool((among | np.eye(len(members), dtype=np.bool_)).all())


def test_a_chain_is_one_component_and_no_clique() -> None:
    chain = _graph(4, [(0, 1), (1, 2), (2, 3)])
    assert largest_component(chain) == (0, 1, 2, 3)
    clique = largest_clique(chain, STEPS)
    assert (len(clique.members), clique.exact, clique.bound) == (2, True, 2)
    assert _is_clique(chain, clique.members)


def test_two_cliques_on_a_bridge_are_not_one() -> None:
    bridged = _graph(12, [*_complete(range(5)), *_complete(range(5, 12)), (4, 5)])
    assert largest_component(bridged) == tuple(range(12))
    assert largest_clique(bridged, STEPS) == Clique(tuple(range(5, 12)), True, 7)


@pytest.mark.parametrize(
    ("adjacency", "expected"),
    [
        (np.zeros((0, 0), dtype=np.bool_), Clique((), True, 0)),
        (np.ones((1, 1), dtype=np.bool_), Clique((0,), True, 1)),
        (np.ones((40, 40), dtype=np.bool_), Clique(tuple(range(40)), True, 40)),
    ],
)
def test_empty_single_and_complete_graphs(adjacency: NDArray[np.bool_], expected: Clique) -> None:
    assert largest_clique(adjacency, 1) == expected
    assert largest_component(adjacency) == expected.members


def test_without_edges_one_node_is_the_clique_and_the_component() -> None:
    apart = np.zeros((5, 5), dtype=np.bool_)
    clique = largest_clique(apart, STEPS)
    assert (len(clique.members), clique.exact) == (1, True)
    assert largest_component(apart) == (0,)


def test_the_diagonal_does_not_matter() -> None:
    graph = _random(1, 30, 0.6)
    assert largest_clique(graph, STEPS) == largest_clique(graph | np.eye(30, dtype=np.bool_), STEPS)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("nodes", "share"), [(60, 0.2), (60, 0.5), (50, 0.8), (40, 0.95)])
def test_as_large_as_networkx_finds(nodes: int, share: float, seed: int) -> None:
    graph = _random(seed, nodes, share)
    expected, _ = networkx.max_weight_clique(networkx.from_numpy_array(graph), weight=None)
    clique = largest_clique(graph, STEPS)
    assert clique.exact
    assert len(clique.members) == clique.bound == len(expected)
    assert _is_clique(graph, clique.members)


@pytest.mark.parametrize("steps", [1, 2, 20, 100])
def test_cut_short_it_says_so_and_bounds_what_it_missed(steps: int) -> None:
    graph = _random(7, 90, 0.8)
    best, _ = networkx.max_weight_clique(networkx.from_numpy_array(graph), weight=None)
    clique = largest_clique(graph, steps)
    assert not clique.exact
    assert _is_clique(graph, clique.members)
    assert len(clique.members) <= len(best) <= clique.bound
    assert len(clique.members) < clique.bound < 90


def test_wherever_the_search_is_cut_its_bound_holds() -> None:
    # Without a clique to begin with, so that branches far apart are open when it is cut.
    for seed in range(6):
        graph = _random(seed, 26, 0.7)
        best, _ = networkx.max_weight_clique(networkx.from_numpy_array(graph), weight=None)
        for steps in range(1, 80):
            members, bound = _Search(graph, 0, steps).run()
            assert _is_clique(graph, tuple(members))
            assert len(members) <= len(best) <= bound


def test_no_branch_is_searched_twice() -> None:
    # Some 1,000 steps are enough; 15,000 if a node stays a candidate in the branches beside its own.
    assert largest_clique(_random(1, 90, 0.8), 1_500).exact


def test_more_steps_never_give_less() -> None:
    graph = _random(7, 90, 0.8)
    found = [largest_clique(graph, steps) for steps in (1, 20, 500, 5_000, STEPS)]
    assert [len(c.members) for c in found] == sorted(len(c.members) for c in found)
    assert [c.bound for c in found] == sorted((c.bound for c in found), reverse=True)
    assert found[-1].exact


def test_a_noisy_crowd_of_five_hundred_ends() -> None:
    # 500 generations of which almost every two are near: no exact search ends here.
    graph = _random(3, 500, 0.97)
    clique = largest_clique(graph, 20_000)
    assert not clique.exact
    assert _is_clique(graph, clique.members)
    assert 115 <= len(clique.members) <= clique.bound < 300


def test_a_crowd_hidden_among_five_hundred_is_found_exactly() -> None:
    # 200 generations of one picture, 200 that are often near to it, 100 others, in any order.
    graph = _random(4, 500, 0.3)
    graph[:400, :400] |= _random(5, 400, 0.8)
    graph[:200, :200] = True
    order = np.random.default_rng(6).permutation(500)
    graph = graph[np.ix_(order, order)]
    clique = largest_clique(graph, 2_000)
    assert clique.exact
    assert set(np.flatnonzero(order < 200).tolist()) <= set(clique.members)


@pytest.mark.parametrize(("seed", "share"), [(0, 0.5), (1, 0.9), (2, 0.97)])
def test_exchanges_keep_a_clique_and_improve_on_the_first(seed: int, share: float) -> None:
    graph = _random(seed, 200, share)
    first = first_clique(graph, *peel(graph))
    better = Exchanges(graph, first).run(400)
    assert _is_clique(graph, tuple(first))
    assert _is_clique(graph, tuple(better))
    assert len(better) > len(first)


def test_peeling_finds_core_numbers() -> None:
    graph = _random(9, 70, 0.3)
    removed, degrees = peel(graph)
    cores = dict(zip(removed.tolist(), np.maximum.accumulate(degrees).tolist(), strict=True))
    assert cores == networkx.core_number(networkx.from_numpy_array(graph))


def test_the_medoid_is_nearest_to_the_others_and_of_several_the_smallest() -> None:
    places = np.array([0.0, 9, 4, 5, 5, 100])
    distances = np.abs(places[:, None] - places[None, :])
    assert medoid(distances, (0, 1, 2, 3, 4)) == 3
    assert medoid(distances, (4, 3)) == 3
    assert medoid(distances, (5,)) == 5
    with pytest.raises(ValueError, match="no medoid"):
        medoid(distances, ())


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(n, n\) bool"):
        largest_clique(np.zeros((3, 3)), STEPS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not symmetric"):
        largest_component(np.triu(np.ones((3, 3), dtype=np.bool_)))
    with pytest.raises(ValueError, match="0 steps"):
        largest_clique(np.ones((3, 3), dtype=np.bool_), 0)
