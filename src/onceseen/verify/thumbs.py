"""The first look: stored features alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onceseen.core.config import VerifyConfig
from onceseen.verify.calibration import Calibration
from onceseen.verify.evidence import THUMBS, Evidence, Raster, gather, without
from onceseen.verify.outcome import Outcome, describe
from onceseen.verify.overlay import NO_DIFFERENCE, Difference, differing, drawn_tiles, explain
from onceseen.verify.search import Hypothesis, crops, identities
from onceseen.verify.sides import Judgement, Side

MIN_PDQ_QUALITY = 50
CLOSE_PDQ = 62  # no cross-source pair of 20 million was nearer (facts measured on photographs)
CLOSE_COSINE = 0.72
STRIKING_COSINE = 0.9
# 98 of 100 copies of the transforms in benchmarks/labelled_pairs.py lie above these, half of the other pairs below
_PLAUSIBLE_BAND = 0.35
_RIVAL = 0.7  # of the best hypothesis: what is worth a look beside it
_PLAUSIBLE_CROP = 0.42
_PLAUSIBLE_PDQ = 80
_PLAUSIBLE_COSINE = 0.5
_CLEAR = 3.5  # of at most 8
_LEAST_AGREE = 0.3  # copies under large text have 0.6, other photographs 0 and seldom 0.3


@dataclass(frozen=True, slots=True)
class Signals:
    """What needs no alignment.

    Attributes:
        pdq_distance: Smallest over regions and mirror, 0..256.
        pdq_quality: The poorer side's quality.
        cosine: Largest over regions; None without embeddings.
    """

    pdq_distance: int
    pdq_quality: int
    cosine: float | None

    def striking(self) -> bool:
        """Whether PDQ or the embedding is so close that the pictures are read even if no alignment was found."""
        return self.pdq_distance <= CLOSE_PDQ or (self.cosine is not None and self.cosine >= STRIKING_COSINE)

    def independent(self) -> bool:
        """Whether PDQ or the embedding agrees by itself."""
        near = self.pdq_distance <= CLOSE_PDQ and self.pdq_quality >= MIN_PDQ_QUALITY
        return near or (self.cosine is not None and self.cosine >= CLOSE_COSINE)


def signals(a: Side, b: Side) -> Signals:
    """PDQ distance and cosine of a pair; about 20 microseconds."""
    distance, cosine = 256, None
    for p in a.regions():
        for q in b.regions():
            for bits in (q.pdq, q.pdq_mirrored):
                distance = min(distance, int(np.bitwise_count(p.pdq ^ bits).sum()))
            if p.embedding is not None and q.embedding is not None:
                dot = round(float(p.embedding.astype(np.float64) @ q.embedding.astype(np.float64)), 6)
                cosine = dot if cosine is None else max(cosine, dot)
    return Signals(distance, min(a.whole.pdq_quality, b.whole.pdq_quality), cosine)


def raster(side: Side, region: int) -> Raster:
    """The thumb of a region as a raster."""
    chosen = side.regions()[region]
    return Raster(chosen.thumb.astype(np.float32), chosen.box, side.content_box())


def align(a: Side, b: Side, known: Signals) -> tuple[Evidence, Hypothesis] | None:
    """The best alignment of two thumbs, or None where nothing is plausible."""
    found: list[tuple[Evidence, Hypothesis]] = []
    straight = identities(a, b)
    least = max(_PLAUSIBLE_BAND, _RIVAL * straight[0].score)
    for place, hypothesis in enumerate(straight[:2]):
        if hypothesis.score >= least or (place == 0 and known.pdq_distance <= _PLAUSIBLE_PDQ):
            found.append((_look(a, b, hypothesis), hypothesis))
            if found[-1][0].strength() > _CLEAR:
                return found[-1]
    if known.cosine is None or known.cosine >= _PLAUSIBLE_COSINE:
        for hypothesis in crops(a, b)[:2]:
            if hypothesis.score >= _PLAUSIBLE_CROP:
                found.append((_look(a, b, hypothesis), hypothesis))
                if found[-1][0].strength() > _CLEAR:
                    break
    return max(found, key=lambda f: f[0].strength(), default=None)


def _look(a: Side, b: Side, hypothesis: Hypothesis) -> Evidence:
    return gather(raster(a, hypothesis.region_a), raster(b, hypothesis.region_b), hypothesis.matrix, THUMBS)


def grey_difference(evidence: Evidence) -> tuple[Difference, Evidence]:
    """What differs between two aligned thumbs, and the evidence of the tiles that nothing was drawn over."""
    if evidence.tiles is None or not evidence.tiles.bad.any():
        return NO_DIFFERENCE, evidence
    mask = differing(evidence.fixed, evidence.moved, evidence.valid, evidence.tiles)
    p, q = (np.repeat(m[:, :, None], 3, axis=2) for m in (evidence.fixed, evidence.moved))
    difference, drawn = explain(p, q, mask, evidence.valid)
    return difference, without(evidence, drawn_tiles(evidence.tiles, drawn, mask))


def worth_explaining(evidence: Evidence) -> bool:
    """Whether so much agrees that it is of interest what differs."""
    return evidence.ok and evidence.agree >= _LEAST_AGREE


def features(evidence: Evidence, difference: Difference, known: Signals) -> dict[str, float]:
    """The evidence as numbers for the score, each oriented so that more speaks for the same picture.

    Each saturates where a faithful copy lies, so that no excess of one makes up for the lack of another.
    """
    return {
        "correlation": _fisher(evidence.ncc, 2.0),
        "median": _fisher(evidence.median, 1.8),
        "low": _fisher(evidence.low, 1.4),
        "rest": -math.log(evidence.rest + 2.0),
        "agree": -math.log(1.02 - evidence.agree),
        "still": -math.log(evidence.drift + 0.1),
        "calm": -math.log(evidence.common_drift + 0.05),
        "unmoved": -math.log(evidence.moving + 0.02),
        "natural": -math.log(difference.natural + 0.003),
        "graphic": -math.log(difference.natural_share() + 0.05),
        "one_sided": -math.log(difference.mixed_share() + 0.05),
        "visible": -math.log(difference.lost + 0.05),
        "detail": min(math.log1p(evidence.detail), 4.0),
        "pdq": 1.0 - min(known.pdq_distance, 128) / 128.0,
        "cosine": 0.0 if known.cosine is None else max(known.cosine - 0.5, 0.0),
        "no_cosine": float(known.cosine is None),
    }


def _fisher(correlation: float, limit: float) -> float:
    """Fisher's z of a correlation, which has even noise over its range."""
    return min(math.atanh(min(max(correlation, 0.0), 0.999)), limit)


@dataclass(frozen=True, slots=True)
class FirstLook:
    """All that stored features say of a pair, before any coefficient.

    Attributes:
        known: What needs no alignment.
        features: Numbers for the score; None where no alignment was found.
        outcome: Coverages and transform; None likewise.
        blank: Whether either picture is blank.
    """

    known: Signals
    features: dict[str, float] | None
    outcome: Outcome | None
    blank: bool


def judge(a: Side, b: Side, config: VerifyConfig, calibration: Calibration) -> Judgement:
    """Judges a pair by its stored features.

    The same pair gets the same answer whichever way it is given, with a and b exchanged.

    Args:
        a: One picture.
        b: The other.
        config: Thresholds.
        calibration: The score's coefficients.

    Returns:
        The judgement; `doubtful` where reading the pictures again could change it.

    Cost: under 0.3 ms for pairs that nothing speaks for, some 2 ms where a crop is looked for.
    """
    if b.order() < a.order():
        return decide_first(first_look(b, a), config, calibration).swapped()
    return decide_first(first_look(a, b), config, calibration)


def first_look(a: Side, b: Side) -> FirstLook:
    """Compares two sides, which are in their canonical order."""
    known = signals(a, b)
    blank = a.blank or b.blank
    best = None if blank else align(a, b, known)
    if best is None or not worth_explaining(best[0]):
        return FirstLook(known, None, None, blank)
    evidence, hypothesis = best
    compared = raster(a, hypothesis.region_a), raster(b, hypothesis.region_b)
    difference, clear = grey_difference(evidence)
    outcome = describe(evidence, difference, *compared, raster(a, 0), raster(b, 0))
    return FirstLook(known, features(clear, difference, known), outcome, False)


def decide_first(look: FirstLook, config: VerifyConfig, calibration: Calibration) -> Judgement:
    """The judgement of a first look."""
    known, outcome = look.known, look.outcome
    if look.features is None or outcome is None:
        return unrelated(known, doubtful=known.striking() and not look.blank)
    score = calibration.thumbs.score(look.features)
    certain = score >= config.certain_score and plain(outcome) and known.independent()
    verified = score >= config.min_score and known.independent() and sound(known) and not outcome.composite
    doubtful = (score >= config.doubt_score or known.striking()) and not certain
    return judgement(known, outcome, score, verified=verified, doubtful=doubtful)


def judgement(known: Signals, outcome: Outcome, score: float, *, verified: bool, doubtful: bool) -> Judgement:
    """Puts a judgement together."""
    return Judgement(
        verified,
        score,
        kind(known),
        known.cosine,
        known.pdq_distance,
        outcome.coverage_a,
        outcome.coverage_b,
        outcome.foreign_a,
        outcome.foreign_b,
        outcome.transform,
        doubtful,
    )


def sound(known: Signals) -> bool:
    """Whether there is enough structure for the thumbs alone to verify."""
    return known.pdq_quality >= MIN_PDQ_QUALITY


def plain(outcome: Outcome) -> bool:
    """Whether nothing was cropped away, laid over or put beside: the case that thumbs can settle."""
    return min(outcome.coverage_a, outcome.coverage_b) > 0.97 and not outcome.composite


def kind(known: Signals) -> str:
    """`perceptual` where PDQ agrees by itself, else `embedding`."""
    near = known.pdq_distance <= CLOSE_PDQ and known.pdq_quality >= MIN_PDQ_QUALITY
    return "perceptual" if near or known.cosine is None else "embedding"


def unrelated(known: Signals, doubtful: bool = False) -> Judgement:
    """The judgement where no alignment was found."""
    return Judgement(
        False, 0.0, kind(known), known.cosine, known.pdq_distance, 0.0, 0.0, 1.0, 1.0, "none", doubtful
    )
