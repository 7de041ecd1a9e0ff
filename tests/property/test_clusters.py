"""Promises of clustering on arbitrary graphs: components, direct evidence, order and split independence."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onceseen.clusters import Candidate, Edge, component_verdicts, connected_components
from onceseen.core.config import KeepConfig
from onceseen.core.records import Verdict

NODES = 24
PAIRS = st.lists(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=60)


def _components_by_search(pairs: list[tuple[int, int]]) -> dict[int, int]:
    beside: dict[int, set[int]] = {}
    for a, b in pairs:
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)
    label: dict[int, int] = {}
    for start in sorted(beside):
        stack = [] if start in label else [start]
        while stack:
            node = stack.pop()
            if node not in label:
                label[node] = start
                stack += beside[node]
    return label


@given(pairs=PAIRS, cuts=st.lists(st.integers(0, 60), max_size=4), seed=st.integers(0, 99))
def test_union_find_is_brute_force_in_any_order_and_split(
    pairs: list[tuple[int, int]], cuts: list[int], seed: int
) -> None:
    shuffled = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))]
    array = np.array(shuffled, dtype=np.int64).reshape(-1, 2)
    blocks = [(part[:, 0], part[:, 1]) for part in np.split(array, sorted(min(c, len(array)) for c in cuts))]
    nodes, roots = connected_components(lambda: blocks)
    assert dict(zip(nodes.tolist(), roots.tolist(), strict=True)) == _components_by_search(pairs)


@st.composite
def components(draw: st.DrawFn) -> tuple[list[Candidate], list[Edge], dict[int, bool]]:
    """One component: some classes with exact members, edges of any direction between heads."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=7))
    members: list[Candidate] = []
    equal: dict[int, bool] = {}
    heads: list[int] = []
    for size in sizes:
        head = len(members)
        heads.append(head)
        for _ in range(size):
            node = len(members)
            sharpness = draw(st.sampled_from([50.0, 100.0, 200.0]))
            members.append(
                Candidate(node, head, f"s/{node:02d}", draw(st.sampled_from([0.0, 0.2])), sharpness, 1.0)
            )
            if node != head:
                equal[node] = draw(st.booleans())
    edges = []
    for i, a in enumerate(heads):
        for b in heads[i + 1 :]:
            if draw(st.booleans()):
                one, other = draw(st.booleans()), draw(st.booleans())
                edges.append(Edge(a, b, "embedding", draw(st.sampled_from([0.6, 0.9])), one, other))
    return members, edges, equal


@settings(max_examples=300)
@given(component=components(), max_copies=st.integers(1, 3), data=st.data())
def test_no_sample_is_dropped_without_direct_evidence(
    component: tuple[list[Candidate], list[Edge], dict[int, bool]], max_copies: int, data: st.DataObject
) -> None:
    members, edges, equal = component
    said = data.draw(
        st.dictionaries(
            st.sampled_from([m.node for m in members]),
            st.sampled_from([Verdict.KEEP, Verdict.DROP]),
            max_size=3,
        )
    )
    verdicts = component_verdicts(members, edges, equal, KeepConfig(max_copies=max_copies), said)
    head_of = {m.sample_id: m.head for m in members}
    by_id = {members[v.node].sample_id: v for v in verdicts}
    allowed = {(e.a, e.b) for e in edges if e.a_droppable} | {(e.b, e.a) for e in edges if e.b_droppable}
    assert len(verdicts) == len(members)
    for verdict in verdicts:
        word = said.get(verdict.node)
        assert word is None or verdict.verdict == word
        if verdict.verdict != Verdict.DROP or word == Verdict.DROP:
            continue
        kept = by_id[verdict.representative_id]
        assert kept.verdict == Verdict.KEEP
        mine, theirs = members[verdict.node].head, head_of[verdict.representative_id]
        if mine == theirs:
            assert verdict.kind in ("bytes", "pixels")
            assert {verdict.evidence_a, verdict.evidence_b} == {
                members[verdict.node].sample_id,
                verdict.representative_id,
            }
        else:
            assert (mine, theirs) in allowed
            assert {head_of[verdict.evidence_a], head_of[verdict.evidence_b]} == {mine, theirs}
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if said.get(verdict.node) != Verdict.DROP:
            groups.setdefault(verdict.representative_id, []).append(verdict.verdict)
    for representative, found in groups.items():
        pinned = sum(1 for m in members if said.get(m.node) == Verdict.KEEP)
        assert 1 <= found.count(Verdict.KEEP) <= max(max_copies, 1 + pinned), representative
        assert len(found) == by_id[representative].copies


@settings(max_examples=150)
@given(component=components(), seed=st.integers(0, 99))
def test_the_order_of_members_and_edges_does_not_matter(
    component: tuple[list[Candidate], list[Edge], dict[int, bool]], seed: int
) -> None:
    members, edges, equal = component
    rng = np.random.default_rng(seed)
    expected = component_verdicts(members, edges, equal, KeepConfig())
    turned = [
        e if rng.random() < 0.5 else Edge(e.b, e.a, e.kind, e.score, e.b_droppable, e.a_droppable)
        for e in (edges[i] for i in rng.permutation(len(edges)))
    ]
    shuffled = [members[i] for i in rng.permutation(len(members))]
    assert component_verdicts(shuffled, turned, equal, KeepConfig()) == expected
