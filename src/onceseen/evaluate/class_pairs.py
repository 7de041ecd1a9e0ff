"""The pairs table at the level of exact classes.

An exact class is written as n - 1 star rows and an edge joins the heads of two classes, so a sample's pairs
are those of its class: two samples of one class are a pair of score 1, two of different classes the best pair
of the classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import PairKind
from onceseen.stats.lookup import ordered, pair_batches

_COLUMNS = ("sample_id_a", "sample_id_b", "kind", "score", "verified")
_EXACT = (PairKind.BYTES, PairKind.PIXELS)


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """What is known of two classes: the best score, and whether any row verified them."""

    score: float
    verified: bool


SAME_CLASS = ScoredPair(1.0, True)


@dataclass(frozen=True, slots=True)
class ClassPairs:
    """All pairs of a run, by classes.

    Attributes:
        class_of: sample_id to the class's name (its smallest id); samples alone in their class are left out.
        pairs: Two classes, smaller name first, to what is known of them.
    """

    class_of: Mapping[str, str]
    pairs: Mapping[tuple[str, str], ScoredPair]

    def find(self, sample_id_a: str, sample_id_b: str) -> ScoredPair | None:
        """What is known of two samples; None without a row (never compared, or under the margin)."""
        a, b = self.name(sample_id_a), self.name(sample_id_b)
        return SAME_CLASS if a == b else self.pairs.get(ordered(a, b))

    def name(self, sample_id: str) -> str:
        """Class of a sample."""
        return self.class_of.get(sample_id, sample_id)


def read_class_pairs(layout: RunLayout) -> ClassPairs:
    """Reads pairs/ twice: classes, then the pairs between them. Memory: one entry a row."""
    parent: dict[str, str] = {}
    for a, b, kind, _, verified in _rows(layout):
        if verified and kind in _EXACT:
            root_a, root_b = _root(parent, a), _root(parent, b)
            low, high = ordered(root_a, root_b)
            parent[high] = low
    class_of = {sample_id: _root(parent, sample_id) for sample_id in sorted(parent, key=name_order)}
    pairs: dict[tuple[str, str], ScoredPair] = {}
    for a, b, _, score, verified in _rows(layout):
        name_a, name_b = class_of.get(a, a), class_of.get(b, b)
        if name_a == name_b:
            continue
        key, known = ordered(name_a, name_b), ScoredPair(score, verified)
        before = pairs.get(key)
        if before is not None:
            known = ScoredPair(max(before.score, score), before.verified or verified)
        pairs[key] = known
    return ClassPairs(class_of, pairs)


def _rows(layout: RunLayout) -> Iterator[tuple[str, str, str, float, bool]]:
    for table in pair_batches(layout, _COLUMNS):
        for row in table.to_pylist():
            score = 0.0 if row["score"] is None else float(row["score"])
            yield row["sample_id_a"], row["sample_id_b"], row["kind"] or "", score, bool(row["verified"])


def _root(parent: dict[str, str], sample_id: str) -> str:
    """Root of the union-find forest, with path halving."""
    parent.setdefault(sample_id, sample_id)
    while parent[sample_id] != sample_id:
        parent[sample_id] = parent[parent[sample_id]]
        sample_id = parent[sample_id]
    return sample_id
