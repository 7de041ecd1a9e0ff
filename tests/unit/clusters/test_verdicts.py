from __future__ import annotations

from collections.abc import Mapping

from onceseen.clusters import Candidate, Edge, SampleVerdict, component_verdicts, worth_a_look
from onceseen.core.config import KeepConfig
from onceseen.core.records import Verdict


def _member(node: int, head: int | None = None, sharpness: float = 100.0) -> Candidate:
    return Candidate(node, node if head is None else head, f"s/{node}", 0.0, sharpness, 0.5)


def _edge(a: int, b: int, a_droppable: bool = True, b_droppable: bool = True, score: float = 0.9) -> Edge:
    return Edge(a, b, "perceptual", score, a_droppable, b_droppable)


def _decide(
    members: list[Candidate],
    edges: list[Edge],
    keep: KeepConfig | None = None,
    equal: Mapping[int, bool] | None = None,
    said: Mapping[int, Verdict] | None = None,
) -> dict[int, SampleVerdict]:
    found = component_verdicts(members, edges, equal or {}, keep or KeepConfig(), said)
    assert [v.node for v in found] == sorted(m.node for m in members)
    return {v.node: v for v in found}


def test_a_chain_does_not_drop_what_was_not_compared() -> None:
    verdicts = _decide([_member(1), _member(2), _member(3)], [_edge(1, 2), _edge(2, 3)])
    assert [verdicts[n].verdict for n in (1, 2, 3)] == ["keep", "drop", "keep"]
    assert verdicts[2].representative_id == "s/1"
    assert (verdicts[2].evidence_a, verdicts[2].evidence_b) == ("s/1", "s/2")
    assert {v.component_id for v in verdicts.values()} == {"s/1"}
    assert {v.component_size for v in verdicts.values()} == {3}
    assert [verdicts[n].copies for n in (1, 2, 3)] == [2, 2, 1]


def test_the_best_takes_first_whatever_its_place_in_the_chain() -> None:
    verdicts = _decide([_member(1), _member(2, sharpness=400), _member(3)], [_edge(1, 2), _edge(2, 3)])
    assert [verdicts[n].verdict for n in (1, 2, 3)] == ["drop", "keep", "drop"]


def test_direction_is_respected() -> None:
    """The crop (2) may go for the whole (1), never the whole for the crop."""
    edge = _edge(1, 2, a_droppable=False)
    assert _decide([_member(1), _member(2)], [edge])[2].verdict == Verdict.DROP
    both = _decide([_member(1), _member(2, sharpness=400)], [edge])
    assert {v.verdict for v in both.values()} == {Verdict.KEEP}


def test_a_group_of_exact_copies_hangs_on_another_by_one_edge() -> None:
    members = [_member(1, sharpness=400), _member(2), _member(3, head=2), _member(4, head=2)]
    verdicts = _decide(members, [_edge(1, 2)], equal={3: True, 4: False})
    assert [verdicts[n].verdict for n in (1, 2, 3, 4)] == ["keep", "drop", "drop", "drop"]
    for node in (2, 3, 4):
        assert (verdicts[node].evidence_a, verdicts[node].evidence_b) == ("s/1", "s/2")
        assert verdicts[node].kind == "perceptual"
        assert verdicts[node].copies == 4


def test_exact_copies_name_themselves_and_the_kept_one() -> None:
    verdicts = _decide([_member(1), _member(2, head=1), _member(3, head=1)], [], equal={2: True, 3: False})
    assert (verdicts[2].kind, verdicts[2].evidence_a, verdicts[2].evidence_b) == ("bytes", "s/1", "s/2")
    assert (verdicts[3].kind, verdicts[3].score) == ("pixels", 1.0)


def test_max_copies_keeps_the_best_of_a_group_and_shares_its_weight() -> None:
    members = [_member(1), _member(2, head=1), _member(3, head=1), _member(4, sharpness=90)]
    verdicts = _decide(members, [_edge(1, 4)], KeepConfig(max_copies=2, alpha=0.5), {2: True, 3: True})
    kept = [v for v in verdicts.values() if v.verdict == Verdict.KEEP]
    assert [v.node for v in kept] == [1, 2]
    assert [v.representative_id for v in kept] == ["s/1", "s/1"]
    assert sum(v.weight for v in kept) == 4**0.5


def test_a_person_may_keep_and_drop() -> None:
    members, edges = [_member(1), _member(2), _member(3)], [_edge(1, 2), _edge(1, 3)]
    kept = _decide(members, edges, said={2: Verdict.KEEP})
    assert [kept[n].verdict for n in (1, 2, 3)] == ["drop", "keep", "keep"]
    dropped = _decide(members, edges, said={1: Verdict.DROP})
    assert [dropped[n].verdict for n in (1, 2, 3)] == ["drop", "keep", "keep"]
    assert (dropped[1].kind, dropped[1].representative_id) == ("decision", "")


def test_among_equal_pixels_the_smallest_file_is_kept() -> None:
    """A PNG made of a JPEG has its pixels and six times its bytes."""
    jpeg = Candidate(2, 1, "s/2", 0.0, 100.0, 0.5)
    png = Candidate(1, 1, "s/1", 0.0, 100.0, 3.0)
    assert _decide([png, jpeg], [])[2].verdict == Verdict.KEEP


def test_only_pairs_with_a_free_class_are_worth_a_look() -> None:
    taken = _edge(1, 2)
    assert worth_a_look([1, 2, 3], [taken], [(1, 3), (2, 3)], patient=True) == [(1, 3)]
    assert worth_a_look([1, 2, 3, 4], [taken], [(2, 3), (3, 4)], patient=True) == [(3, 4)]
    assert worth_a_look([1, 2, 3], [], [(1, 2), (1, 3), (2, 3)], patient=False) == [(1, 2), (1, 3), (2, 3)]
    assert worth_a_look([1, 2], [taken], [], patient=False) == []
