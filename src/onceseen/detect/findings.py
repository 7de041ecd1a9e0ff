"""From judged pairs of a query and reference pictures to one finding, the same in `scan`, `serve` and `Reference`."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from onceseen.core.config import ScanConfig, VerifyConfig
from onceseen.core.ids import name_order
from onceseen.core.records import PairKind
from onceseen.verify import Judgement


class Finding(enum.StrEnum):
    """What is said of a query."""

    DUPLICATE = "duplicate"
    """It shows a reference picture, or is shown by one: verified on pixels, and one holds nearly all of the other."""
    NEAR = "near"
    """It shares something with a reference picture, or may: for a person to look at."""
    CLEAR = "clear"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Match:
    """A query picture against one reference picture.

    Attributes:
        reference_id: Its sample id.
        kind: The strongest kind of evidence (`PairKind`).
        cosine: Largest cosine of their regions; None without embeddings, or where the pixels are equal.
        pdq_distance: Smallest Hamming distance, 0..256.
        score: Calibrated score in [0, 1].
        verified: Whether the score and a second signal say that both show one picture.
        coverage_query: Share of the query's content that is in the reference.
        coverage_reference: Share of the reference's content that is in the query.
        transform: How one comes from the other (see `onceseen.verify.outcome`).
    """

    reference_id: str
    kind: str
    cosine: float | None
    pdq_distance: int
    score: float
    verified: bool
    coverage_query: float
    coverage_reference: float
    transform: str

    @classmethod
    def of(cls, reference_id: str, judgement: Judgement) -> Match:
        """A judgement whose side a is the query and b the reference."""
        return cls(
            reference_id,
            str(judgement.kind),
            judgement.cosine,
            judgement.pdq_distance,
            judgement.score,
            judgement.verified,
            judgement.coverage_a,
            judgement.coverage_b,
            judgement.transform,
        )


def exact_match(reference_id: str, *, equal_bytes: bool) -> Match:
    """A reference with equal pixels, or an equal file."""
    kind = PairKind.BYTES if equal_bytes else PairKind.PIXELS
    return Match(reference_id, str(kind), None, 0, 1.0, True, 1.0, 1.0, "identity")


def finding(match: Match, verify: VerifyConfig, scan: ScanConfig) -> Finding:
    """What one match says.

    A verified pair is a duplicate where one picture holds nearly all of the other, and the common part is not just a
    small piece of it (a collage): the rule by which `dedup` would drop one of the two.

    Args:
        match: Query and reference.
        verify: Least coverages.
        scan: Least score of a near one.
    """
    if match.verified and _contained(match.coverage_query, match.coverage_reference, verify):
        return Finding.DUPLICATE
    if match.verified or match.score >= scan.least_score:
        return Finding.NEAR
    return Finding.CLEAR


def is_duplicate(judgement: Judgement, verify: VerifyConfig) -> bool:
    """Whether a judged pair would be found a duplicate."""
    return judgement.verified and _contained(judgement.coverage_a, judgement.coverage_b, verify)


def _contained(first: float, second: float, verify: VerifyConfig) -> bool:
    """Whether one of the two holds nearly all of the other, and the common part is not just a small piece of it."""
    return max(first, second) >= verify.min_coverage and min(first, second) >= verify.min_kept_coverage


def best_match(
    matches: Iterable[Match], verify: VerifyConfig, scan: ScanConfig
) -> tuple[Finding, Match | None]:
    """The finding of a query: that of its best match; without any it is clear.

    Args:
        matches: Any order; each reference at most once.
        verify: As in `finding`.
        scan: As in `finding`.

    Returns:
        The finding and its match; None where all is clear.
    """
    ranked = sorted(((finding(m, verify, scan), m) for m in matches), key=_rank)
    if not ranked or ranked[0][0] == Finding.CLEAR:
        return Finding.CLEAR, None
    return ranked[0]


_ORDER = tuple(Finding)
_KINDS = tuple(PairKind)


def _rank(found: tuple[Finding, Match]) -> tuple[int, float, int, float, float, bytes]:
    """By finding, score, kind, what both cover, cosine; then the smaller reference id."""
    said, match = found
    return (
        _ORDER.index(said),
        -match.score,
        _KINDS.index(PairKind(match.kind)),
        -(match.coverage_query + match.coverage_reference),
        -(match.cosine or 0.0),
        name_order(match.reference_id),
    )
