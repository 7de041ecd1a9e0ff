"""(i) What was removed: wrong drops, redundant copies removed, and what was kept in place of an original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onceseen.core.ids import name_order
from onceseen.core.records import Verdict
from onceseen.evaluate.class_pairs import ClassPairs
from onceseen.evaluate.measures import Rate
from onceseen.evaluate.truth import ORIGINAL, Truth
from onceseen.stats.lookup import VerdictRow


@dataclass(frozen=True, slots=True)
class InPlace:
    """An original that was dropped while a copy of it, not equal to it in pixels, was kept."""

    original: VerdictRow
    kept_id: str
    transform: str


@dataclass(frozen=True, slots=True)
class Removal:
    """Removed samples against the truth.

    Attributes:
        dropped: Dropped samples.
        decided: Of these, dropped by a person's word without a representative: not judged here.
        unlabelled: Of these, those whose label or whose representative's label is missing: not judged here.
        wrong: Dropped for a representative with which they share no source.
        redundant: Samples that could be removed: of a source with n judged whole samples, n less
            `keep.max_copies`. Collages are never redundant.
        removed: Of these, removed for a representative that shares the source.
        macro_share: Mean over sources with a redundant sample of removed / redundant; None without one.
        sources: Number of those sources.
        lost_sources: Sources of which no whole sample is kept.
        in_place: Originals dropped for a copy that differs from them.
        identical_in_place: Originals dropped for a sample of equal pixels: no fault.
    """

    dropped: int
    decided: int
    unlabelled: int
    wrong: Sequence[VerdictRow]
    redundant: int
    removed: int
    macro_share: float | None
    sources: int
    lost_sources: Sequence[str]
    in_place: Sequence[InPlace]
    identical_in_place: int

    @property
    def in_place_by(self) -> dict[str, int]:
        """Transform of the kept copy to originals dropped for it."""
        return dict(sorted(Counter(entry.transform for entry in self.in_place).items()))

    def to_json(self) -> dict[str, object]:
        """Plain mapping."""
        judged = self.dropped - self.decided - self.unlabelled
        return {
            "dropped": self.dropped,
            "dropped_by_decision": self.decided,
            "dropped_unlabelled": self.unlabelled,
            "wrong_drops": Rate(len(self.wrong), judged).to_json(),
            "wrong": [
                {
                    "sample_id": row.sample_id,
                    "representative_id": row.representative_id,
                    "kind": row.kind,
                    "score": None if row.score is None else round(row.score, 6),
                }
                for row in self.wrong
            ],
            "redundant": self.redundant,
            "removed": self.removed,
            "removed_share_macro": None if self.macro_share is None else round(self.macro_share, 6),
            "removed_share_micro": Rate(self.removed, self.redundant).to_json(),
            "sources_with_copies": self.sources,
            "lost_sources": list(self.lost_sources),
            "kept_in_place_of_original": self.in_place_by,
            "in_place": [
                {"original": e.original.sample_id, "kept": e.kept_id, "transform": e.transform}
                for e in self.in_place
            ],
            "kept_identical_to_original": self.identical_in_place,
        }


def measure_removal(
    verdicts: Mapping[str, VerdictRow], truth: Truth, pairs: ClassPairs, max_copies: int = 1
) -> Removal:
    """Compares verdicts with the truth.

    Args:
        verdicts: All verdicts by sample_id.
        truth: Labels.
        pairs: Pairs, for what is equal to an original in pixels.
        max_copies: Copies of a picture that the run was told to keep.
    """
    dropped = [v for v in verdicts.values() if v.verdict == Verdict.DROP]
    dropped.sort(key=lambda row: name_order(row.sample_id))
    decided = [v for v in dropped if v.group_id == v.sample_id]
    judged = [v for v in dropped if v.group_id != v.sample_id]
    labelled = [v for v in judged if truth.sources(v.sample_id) and truth.sources(v.representative_id)]
    wrong = [v for v in labelled if not _share(v, truth)]
    redundant, removed, shares, lost = _by_source(verdicts, truth, max_copies)
    in_place, identical = _in_place(labelled, truth, pairs)
    return Removal(
        dropped=len(dropped),
        decided=len(decided),
        unlabelled=len(judged) - len(labelled),
        wrong=wrong,
        redundant=redundant,
        removed=removed,
        macro_share=sum(shares) / len(shares) if shares else None,
        sources=len(shares),
        lost_sources=lost,
        in_place=in_place,
        identical_in_place=identical,
    )


def _share(row: VerdictRow, truth: Truth) -> bool:
    return not truth.sources(row.sample_id).isdisjoint(truth.sources(row.representative_id))


def _by_source(
    verdicts: Mapping[str, VerdictRow], truth: Truth, max_copies: int
) -> tuple[int, int, list[float], list[str]]:
    """Redundant and removed samples, the share of each source that has a redundant sample, sources lost."""
    redundant = removed = 0
    shares: list[float] = []
    lost: list[str] = []
    for source, ids in truth.whole.items():
        judged = [verdicts[i] for i in ids if verdicts[i].verdict != Verdict.FAILED]
        spare = max(0, len(judged) - max_copies)
        right = sum(
            row.verdict == Verdict.DROP and source in truth.sources(row.representative_id) for row in judged
        )
        if judged and all(row.verdict == Verdict.DROP for row in judged):
            lost.append(source)
        if spare:
            redundant += spare
            removed += min(right, spare)
            shares.append(min(right, spare) / spare)
    return redundant, removed, shares, lost


def _in_place(dropped: Sequence[VerdictRow], truth: Truth, pairs: ClassPairs) -> tuple[list[InPlace], int]:
    found: list[InPlace] = []
    identical = 0
    for row in dropped:
        if (
            not truth.is_whole(row.sample_id)
            or truth.transform(row.sample_id) != ORIGINAL
            or not _share(row, truth)
        ):
            continue
        if pairs.name(row.sample_id) == pairs.name(row.representative_id):
            identical += 1
        elif truth.transform(row.representative_id) != ORIGINAL:
            found.append(InPlace(row, row.representative_id, truth.transform(row.representative_id)))
    return found, identical
