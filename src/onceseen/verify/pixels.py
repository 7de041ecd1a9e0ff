"""The second look: pictures read again, for the pairs that stored features leave in doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import VerifyConfig
from onceseen.verify.align import Grey, Matrix, blur, inverse, mirror, scale_of, warp
from onceseen.verify.calibration import Calibration
from onceseen.verify.evidence import PIXELS, Evidence, Raster, Settings, gather, without
from onceseen.verify.faint import faint_marks
from onceseen.verify.keypoints import KeypointFit, find_keypoints, fit, mirrored
from onceseen.verify.outcome import Outcome, describe
from onceseen.verify.overlay import NO_DIFFERENCE, Difference, differing, drawn_tiles, explain, touched_tiles
from onceseen.verify.search import Hypothesis
from onceseen.verify.sides import WHOLE_BOX, Judgement, Side
from onceseen.verify.thumbs import Signals, align, features, judgement, signals, unrelated, worth_explaining

_COARSE = replace(PIXELS, tile=8, iterations=10, equalize=False)
_AS_IT_IS = replace(PIXELS, iterations=0)
_ENOUGH_INLIERS = 12
_SETTLED_MEDIAN = 0.85
_SETTLED_AGREE = 0.5
_STILL = 0.1  # pixels: nothing is left to align


@dataclass(frozen=True, slots=True)
class SecondLook:
    """All that the pictures say of a pair, before any coefficient.

    Attributes:
        known: What needs no alignment.
        features: Numbers for the score; None where no alignment was found.
        outcome: Coverages and transform; None likewise.
        inliers: Local features that support the alignment; 0 where they were not needed or do not agree.
    """

    known: Signals
    features: dict[str, float] | None
    outcome: Outcome | None
    inliers: int


def judge_pixels(
    a: Side,
    b: Side,
    rgb_a: NDArray[np.uint8],
    rgb_b: NDArray[np.uint8],
    first: Judgement,
    config: VerifyConfig,
    calibration: Calibration,
) -> Judgement:
    """Judges a doubtful pair by its pictures.

    Args:
        a: Stored features of the first picture.
        b: Of the second.
        rgb_a: (h, w, 3) uint8, oriented; shrunk here to config.max_side.
        rgb_b: (h, w, 3) uint8.
        first: What `judge` said of the pair: returned as it is where it is not doubtful.
        config: Thresholds.
        calibration: The score's coefficients.

    Returns:
        The final judgement; never doubtful.

    Cost: some 20 to 60 ms at 384 pixels.
    """
    if not first.doubtful:
        return first
    order_a, order_b = a.order(), b.order()
    if order_b < order_a or (order_b == order_a and rgb_b.tobytes() < rgb_a.tobytes()):
        return decide_second(second_look(b, a, rgb_b, rgb_a, config.max_side), config, calibration).swapped()
    return decide_second(second_look(a, b, rgb_a, rgb_b, config.max_side), config, calibration)


def second_look(
    a: Side, b: Side, rgb_a: NDArray[np.uint8], rgb_b: NDArray[np.uint8], max_side: int
) -> SecondLook:
    """Compares two pictures, which are in their canonical order, with no side over `max_side`.

    A re-encoded, resized or mirrored copy lies on its original border on border: that is compared as it is, which is
    both exact and cheap. Else the thumbs' alignment is refined; local features are looked for where it does not
    settle the pair, or where neither PDQ nor the embedding is there as a second signal.
    """
    known = signals(a, b)
    if a.blank or b.blank:
        return SecondLook(known, None, None, 0)
    colour_a, colour_b = shrink(rgb_a, max_side), shrink(rgb_b, max_side)
    ra = Raster(_grey(colour_a), WHOLE_BOX, a.content_box())
    rb = Raster(_grey(colour_b), WHOLE_BOX, b.content_box())
    best = _best_look(ra, rb, align(a, b, known), known)
    if best is None or not worth_explaining(best[0]):
        return SecondLook(known, None, None, 0)
    evidence, inliers = best
    difference, clear = _colour_difference(evidence, ra, rb, colour_a, colour_b)
    outcome = describe(evidence, difference, ra, rb, ra, rb)
    named = features(clear, difference, known)
    named["inliers"] = math.log1p(min(inliers, 100))
    return SecondLook(known, named, outcome, inliers)


def decide_second(look: SecondLook, config: VerifyConfig, calibration: Calibration) -> Judgement:
    """The judgement of a second look."""
    known, outcome = look.known, look.outcome
    if look.features is None or outcome is None:
        return unrelated(known)
    score = calibration.pixels.score(look.features)
    second = known.independent() or look.inliers >= _ENOUGH_INLIERS
    verified = score >= config.min_score and second and not outcome.composite
    return judgement(known, outcome, score, verified=verified, doubtful=False)


def _best_look(
    a: Raster, b: Raster, hint: tuple[Evidence, Hypothesis] | None, known: Signals
) -> tuple[Evidence, int] | None:
    best: tuple[Evidence, int] | None = None
    if hint is not None and hint[0].ok:
        if not hint[1].crop:
            exact = gather(a, b, hint[1].matrix, _AS_IT_IS)
            if _settled(exact) and exact.common_drift < _STILL and known.independent():
                return exact, 0
        best = (_climb(a, b, hint[0].matrix), 0)
        if _settled(best[0]) and known.independent():
            return best
    for matrix, found in _by_keypoints(a, b):
        evidence = _climb(a, b, matrix)
        if best is None or evidence.strength() >= 0.98 * best[0].strength():
            best = evidence, found.inliers
    return best


def _colour_difference(
    evidence: Evidence, a: Raster, b: Raster, rgb_a: NDArray[np.uint8], rgb_b: NDArray[np.uint8]
) -> tuple[Difference, Evidence]:
    """What differs, in colour, on the comparison's grid, and the evidence without what was drawn."""
    if evidence.tiles is None:
        return NO_DIFFERENCE, evidence
    mask = differing(evidence.fixed, evidence.moved, evidence.valid, evidence.tiles)
    marks = faint_marks(evidence.fixed, evidence.moved, evidence.valid, mask)
    faint_p, faint_q = (float(m.sum()) / max(float(evidence.valid.sum()), 1.0) for m in marks)
    marked = touched_tiles(evidence.tiles, marks[0] | marks[1])
    difference, hidden = NO_DIFFERENCE, np.zeros_like(marked)
    if evidence.tiles.bad.any():
        fixed, moved = _aligned_colours(evidence, a, b, rgb_a, rgb_b)
        difference, drawn = explain(fixed, moved, mask, evidence.valid)
        hidden = drawn_tiles(evidence.tiles, drawn, mask)
    return replace(difference, faint_p=faint_p, faint_q=faint_q), without(evidence, hidden, marked)


def _aligned_colours(
    evidence: Evidence, a: Raster, b: Raster, rgb_a: NDArray[np.uint8], rgb_b: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(h, w, 3) both pictures on the comparison's grid, the fixed one first, light made equal."""
    matrix = inverse(b.frame()) @ inverse(evidence.matrix) @ a.frame()
    fixed, moving = (rgb_b, rgb_a) if evidence.swapped else (rgb_a, rgb_b)
    if evidence.swapped:
        matrix = inverse(matrix)
    height, width = fixed.shape[:2]
    smooth = blur(moving.astype(np.float32), PIXELS.smooth * scale_of(matrix))
    moved = evidence.gain * warp(smooth, matrix, width, height) + np.float32(evidence.offset)
    return blur(fixed.astype(np.float32), PIXELS.smooth), moved


def _settled(evidence: Evidence) -> bool:
    return evidence.ok and evidence.agree > _SETTLED_AGREE and evidence.median > _SETTLED_MEDIAN


def _by_keypoints(a: Raster, b: Raster) -> list[tuple[Matrix, KeypointFit]]:
    """Alignments (unit square of b -> of a) by local features: straight, else mirrored."""
    points_a, points_b = find_keypoints(a.grey), find_keypoints(b.grey)
    straight = fit(points_b, points_a, b.grey.shape[:2])
    found = []
    if straight is not None:
        found.append((a.frame() @ straight.matrix @ inverse(b.frame()), straight))
    if straight is None or straight.inliers < _ENOUGH_INLIERS:
        flipped = fit(mirrored(points_b, b.grey.shape[1]), points_a, b.grey.shape[:2])
        if flipped is not None:
            found.append((mirror(a.frame() @ flipped.matrix @ inverse(b.frame())), flipped))
    return sorted(found, key=lambda f: -f[1].inliers)[:1]


def _climb(a: Raster, b: Raster, matrix: Matrix) -> Evidence:
    """Refines at a third of the size, then at full size."""
    settings: tuple[tuple[float, Settings], ...] = ((3.0, _COARSE), (1.0, PIXELS))
    for factor, chosen in settings[:-1]:
        evidence = gather(_smaller(a, factor), _smaller(b, factor), matrix, chosen)
        if evidence.ok:
            matrix = evidence.matrix
    return gather(a, b, matrix, settings[-1][1])


def _smaller(raster: Raster, factor: float) -> Raster:
    height, width = raster.grey.shape
    size = max(round(width / factor), 24), max(round(height / factor), 24)
    small = cv2.resize(raster.grey, size, interpolation=cv2.INTER_AREA)
    return Raster(np.asarray(small, dtype=np.float32), raster.box, raster.content)


def shrink(rgb: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """The picture with no side over max_side."""
    height, width = rgb.shape[:2]
    longest = max(height, width)
    if longest <= max_side:
        return np.ascontiguousarray(rgb)
    size = max(round(width * max_side / longest), 1), max(round(height * max_side / longest), 1)
    shrunk = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def _grey(rgb: NDArray[np.uint8]) -> Grey:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.float32)
