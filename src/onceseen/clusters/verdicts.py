"""Verdicts of one component: who is kept, who is dropped, for whom and on what evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onceseen.clusters.keep import Candidate, group_weight, order_key
from onceseen.clusters.representatives import Edge, Group, choose_groups
from onceseen.core.config import KeepConfig
from onceseen.core.ids import name_order
from onceseen.core.records import Crawls, PairKind, Verdict


@dataclass(frozen=True, slots=True)
class SampleVerdict:
    """One participant's row of the verdicts table; empty strings where a kept sample has no evidence to name.

    A further copy that is kept (`keep.max_copies`) names its group's representative, not itself.
    """

    node: int
    verdict: Verdict
    representative_id: str
    evidence_a: str
    evidence_b: str
    kind: str
    score: float
    copies: int
    component_id: str
    component_size: int
    weight: float


def component_verdicts(
    members: Sequence[Candidate],
    edges: Sequence[Edge],
    equal_bytes: Mapping[int, bool],
    keep: KeepConfig,
    decisions: Mapping[int, Verdict] | None = None,
    crawls: Crawls = (),
) -> list[SampleVerdict]:
    """Decides one component.

    Args:
        members: All its samples.
        edges: Verified edges between the heads of its exact classes.
        equal_bytes: For members that are not heads: whether their bytes equal their head's.
        keep: Copies to keep, preferred field, alpha.
        decisions: A person's word on single samples, by node: KEEP or DROP.
        crawls: As in `choose_groups`.

    Returns:
        One verdict a member, by node.
    """
    decided = decisions or {}
    names = {m.node: m.sample_id for m in members}
    component = (names[min(names)], len(members))
    refused = [m for m in members if decided.get(m.node) == Verdict.DROP]
    classes = classes_best_first([m for m in members if decided.get(m.node) != Verdict.DROP], keep)
    pinned = frozenset(m.head for m in members if decided.get(m.node) == Verdict.KEEP)
    out = [_decided_drop(m, component) for m in refused]
    present = [e for e in edges if e.a in classes and e.b in classes]
    for group in choose_groups(list(classes), present, pinned, crawls):
        out.extend(_GroupJudge(group, classes, names, equal_bytes, keep, decided, component).verdicts())
    return sorted(out, key=lambda v: v.node)


def classes_best_first(members: Sequence[Candidate], keep: KeepConfig) -> dict[int, list[Candidate]]:
    """Members by class, best first both within each class and among the classes.

    Within a class all pixels are equal, so more bytes are no better: the smallest file is the one that the others
    were made from (a PNG of a JPEG holds the JPEG's pixels in six times its bytes).
    """
    classes: dict[int, list[Candidate]] = defaultdict(list)
    for member in members:
        classes[member.head].append(member)
    small_first = keep.prefer.startswith("-")
    inside = {
        head: sorted(found, key=lambda m: order_key(m, small_first=small_first, smallest=True))
        for head, found in classes.items()
    }
    return {m.head: inside[m.head] for m in _ranked([found[0] for found in inside.values()], keep)}


def _ranked(members: Sequence[Candidate], keep: KeepConfig) -> list[Candidate]:
    small_first = keep.prefer.startswith("-")
    return sorted(members, key=lambda m: order_key(m, small_first=small_first))


def _decided_drop(member: Candidate, component: tuple[str, int]) -> SampleVerdict:
    """A person said to drop it: no picture stands for it, and none is needed."""
    return SampleVerdict(member.node, Verdict.DROP, "", "", "", PairKind.DECISION, 1.0, 0, *component, 0.0)


@dataclass(frozen=True, slots=True)
class _GroupJudge:
    """Verdicts of one group: its best `max_copies` samples stay."""

    group: Group
    classes: Mapping[int, Sequence[Candidate]]
    names: Mapping[int, str]
    equal_bytes: Mapping[int, bool]
    keep: KeepConfig
    decided: Mapping[int, Verdict]
    component: tuple[str, int]

    def verdicts(self) -> list[SampleVerdict]:
        """One a sample of the group."""
        first = self.classes[self.group.representative]
        others = [*first[1:], *(m for head, _ in self.group.taken for m in self.classes[head])]
        ranked = [first[0], *_ranked(others, self.keep)]
        kept = self._kept(ranked)
        edges = dict(self.group.taken)
        weight = group_weight(len(ranked), len(kept), self.keep.alpha)
        return [
            self._row(m, len(ranked), ("", "", "", 0.0), weight)
            if m.node in kept
            else self._row(m, len(ranked), self._evidence(m, ranked[0], edges.get(m.head)), 0.0)
            for m in ranked
        ]

    def _kept(self, ranked: Sequence[Candidate]) -> frozenset[int]:
        """The representative, those that a person said to keep, then the best of the rest."""
        wanted = [ranked[0].node]
        wanted += [m.node for m in ranked[1:] if self.decided.get(m.node) == Verdict.KEEP]
        rest = [m.node for m in ranked if m.node not in wanted]
        return frozenset(wanted + rest[: max(0, self.keep.max_copies - len(wanted))])

    def _row(
        self, member: Candidate, copies: int, evidence: tuple[str, str, str, float], weight: float
    ) -> SampleVerdict:
        return SampleVerdict(
            member.node,
            Verdict.KEEP if weight > 0 else Verdict.DROP,
            self.classes[self.group.representative][0].sample_id,
            *evidence,
            copies,
            *self.component,
            weight,
        )

    def _evidence(self, member: Candidate, best: Candidate, edge: Edge | None) -> tuple[str, str, str, float]:
        """The compared pair (smaller id first), its kind and score, that shows a dropped sample to be in the best."""
        if edge is not None:
            pair, kind, score = (self.names[edge.a], self.names[edge.b]), edge.kind, edge.score
        else:
            same = all(m.node == m.head or self.equal_bytes.get(m.node, False) for m in (member, best))
            pair, kind, score = (
                (member.sample_id, best.sample_id),
                PairKind.BYTES if same else PairKind.PIXELS,
                1.0,
            )
        first, second = sorted(pair, key=name_order)
        return first, second, kind, score
