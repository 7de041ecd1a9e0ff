"""(ii) copies found from their originals, and (iii) all pairs.

DISC's set-up: the originals are the references, every other labelled sample is a query, and one ranking of
all scored pairs (query, reference) is judged. A pair that was never scored is missed. A pair of a collage and
one of its sources is neither true nor false in the ranking; it is counted by its transform, apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from onceseen.core.records import Verdict
from onceseen.evaluate.class_pairs import ClassPairs, ScoredPair
from onceseen.evaluate.measures import Rate, average_precision
from onceseen.evaluate.truth import ORIGINAL, Truth
from onceseen.stats.lookup import VerdictRow


@dataclass(frozen=True, slots=True)
class TransformRecall:
    """Copies made by one transform.

    Attributes:
        transform: Its name.
        whole: Whether the copies show one source alone; collages do not.
        verified: Pairs copy - original that are verified.
        joined: Of these pairs, those under one representative, or verified: within a group only pairs with the
            representative are read again, so a joined pair need not have been compared directly.
        scored: Of these pairs, how many have a score at all.
        micro_ap: With the other transforms' true pairs left out.
    """

    transform: str
    whole: bool
    verified: Rate
    joined: Rate
    scored: int
    micro_ap: float | None

    def to_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "whole": self.whole,
            "recall": self.verified.to_json(),
            "joined": self.joined.to_json(),
            "scored": self.scored,
            "not_compared": self.verified.total - self.scored,
            "micro_ap": None if self.micro_ap is None else round(self.micro_ap, 6),
        }


@dataclass(frozen=True, slots=True)
class CopyRecall:
    """Over all whole copies, and by transform (whole ones first, then by name)."""

    overall: TransformRecall
    by_transform: Sequence[TransformRecall]
    false_pairs: int

    def to_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            **self.overall.to_json(),
            "false_scored_pairs": self.false_pairs,
            "by_transform": {row.transform: row.to_json() for row in self.by_transform},
        }


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Pairs of whole samples that share their source, and verified pairs that share none.

    Attributes:
        total: True pairs.
        scored: Of these, pairs with a score.
        verified: Of these, verified pairs.
        same_group: Of these, pairs under one representative.
        false_verified: Verified pairs of labelled samples without a common source.
    """

    total: int
    scored: int
    verified: int
    same_group: int
    false_verified: int

    def to_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "total": self.total,
            "scored": self.scored,
            "verified": Rate(self.verified, self.total).to_json(),
            "same_group": Rate(self.same_group, self.total).to_json(),
            "false_verified": self.false_verified,
        }


@dataclass(frozen=True, slots=True)
class _TruePair:
    transform: str
    whole: bool
    known: ScoredPair | None
    joined: bool


def measure_copies(verdicts: Mapping[str, VerdictRow], truth: Truth, pairs: ClassPairs) -> CopyRecall:
    """Recall of copies from their originals, and micro-AP.

    Failed samples are left out; a copy whose original failed or is not in the set is left out.
    """
    judged = {i for i, row in verdicts.items() if row.verdict != Verdict.FAILED}
    originals = {s: [i for i in ids if i in judged] for s, ids in truth.originals.items()}
    true_pairs = _true_pairs({i: verdicts[i].representative_id for i in judged}, originals, truth, pairs)
    false_scores = _false_scores(judged, originals, truth, pairs)
    kinds: dict[tuple[bool, str], list[_TruePair]] = defaultdict(list)
    for pair in true_pairs:
        kinds[not pair.whole, pair.transform].append(pair)
    rows = [_row(name, not part, kinds[part, name], false_scores) for part, name in sorted(kinds)]
    overall = _row("(all whole copies)", True, [p for p in true_pairs if p.whole], false_scores)
    return CopyRecall(overall, rows, len(false_scores))


def _true_pairs(
    judged: Mapping[str, str | None], originals: Mapping[str, Sequence[str]], truth: Truth, pairs: ClassPairs
) -> list[_TruePair]:
    found = []
    for sample_id, labels in truth.labels.items():
        if sample_id not in judged:
            continue
        for source, transform in labels.items():
            references = originals.get(source, ())
            if transform == ORIGINAL or not references:
                continue
            known = [k for k in (pairs.find(sample_id, r) for r in references) if k is not None]
            best = ScoredPair(max(k.score for k in known), any(k.verified for k in known)) if known else None
            together = any(judged[r] == judged[sample_id] for r in references)
            joined = together or (best is not None and best.verified)
            found.append(_TruePair(transform, truth.is_whole(sample_id), best, joined))
    return found


def _false_scores(
    judged: set[str], originals: Mapping[str, Sequence[str]], truth: Truth, pairs: ClassPairs
) -> list[float]:
    """Scores of pairs (labelled sample, original) without a common source, each once."""
    references = {i for ids in originals.values() for i in ids}
    members = _members(truth, pairs, judged)
    scores = []
    for a, b, known in _class_pairs(members, pairs):
        for i, j in combinations(members[a], 2) if a == b else product(members[a], members[b]):
            if (i in references or j in references) and truth.sources(i).isdisjoint(truth.sources(j)):
                scores.append(known.score)
    return scores


def _members(truth: Truth, pairs: ClassPairs, judged: set[str]) -> dict[str, list[str]]:
    """Labelled, judged samples of each class."""
    members: dict[str, list[str]] = defaultdict(list)
    for sample_id in truth.labels:
        if sample_id in judged:
            members[pairs.name(sample_id)].append(sample_id)
    return members


def _class_pairs(
    members: Mapping[str, Sequence[str]], pairs: ClassPairs
) -> list[tuple[str, str, ScoredPair]]:
    """Classes with themselves (where they have two members), then the scored pairs of classes."""
    same = [(name, name, ScoredPair(1.0, True)) for name, ids in members.items() if len(ids) > 1]
    return same + [(a, b, known) for (a, b), known in pairs.pairs.items() if a in members and b in members]


def _row(
    name: str, whole: bool, found: Sequence[_TruePair], false_scores: Sequence[float]
) -> TransformRecall:
    scored = [p.known for p in found if p.known is not None]
    ranking = [(k.score, True) for k in scored] + [(score, False) for score in false_scores]
    return TransformRecall(
        name,
        whole,
        Rate(sum(k.verified for k in scored), len(found)),
        Rate(sum(p.joined for p in found), len(found)),
        len(scored),
        average_precision(ranking, len(found)),
    )


def measure_all_pairs(verdicts: Mapping[str, VerdictRow], truth: Truth, pairs: ClassPairs) -> AllPairs:
    """Counts all true pairs, by classes and groups, without listing them."""
    judged = {i for i, row in verdicts.items() if row.verdict != Verdict.FAILED}
    members = _members(truth, pairs, judged)
    labels = {name: Counter(truth.sources(i) for i in ids) for name, ids in members.items()}
    scored = verified = false_verified = 0
    for a, b, known in _class_pairs(members, pairs):
        same, foreign = _count_pairs(labels[a], None if a == b else labels[b])
        scored += same
        verified += same * known.verified
        false_verified += foreign * known.verified
    total = same_group = 0
    for ids in truth.whole.values():
        present = [i for i in ids if i in judged]
        total += _choose_two(len(present))
        groups = Counter(verdicts[i].group_id for i in present)
        same_group += sum(_choose_two(n) for n in groups.values())
    return AllPairs(total, scored, verified, same_group, false_verified)


def _count_pairs(a: Counter[frozenset[str]], b: Counter[frozenset[str]] | None) -> tuple[int, int]:
    """Pairs of whole samples of one source, and pairs without a common source; within a where b is None."""
    same = foreign = 0
    if b is None:
        same = sum(_choose_two(n) for sources, n in a.items() if len(sources) == 1)
        foreign = sum(a[s] * a[t] for s, t in combinations(a, 2) if s.isdisjoint(t))
        return same, foreign
    for s, t in product(a, b):
        if s.isdisjoint(t):
            foreign += a[s] * b[t]
        elif s == t and len(s) == 1:
            same += a[s] * b[t]
    return same, foreign


def _choose_two(n: int) -> int:
    return n * (n - 1) // 2
