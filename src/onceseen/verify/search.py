"""Hypotheses of how two thumbs lie on each other, cheapest first.

Identity and mirror over the regions cost one small matrix product. Only where that fails and the pair is still
plausible is one thumb looked for inside the other: template matching at 24 x 24 over a dozen scales, the aspect
taken from the pictures' sides, both directions and mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from onceseen.verify.align import Grey, Matrix, blur, frame, inverse
from onceseen.verify.sides import Region, Side

SMALL = 24
SCALES = tuple(float(1.0 / 1.1**k) for k in range(9))  # 1 down to 0.47; refinement bridges the steps
MIN_TEMPLATE = 9


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """An alignment to try.

    Attributes:
        matrix: (3, 3) unit square of b -> unit square of a.
        region_a: Which region's thumb of a.
        region_b: Which region's thumb of b.
        mirrored: Whether b is mirrored in a.
        crop: Whether one is looked for inside the other.
        score: Correlation of band-passed thumbs in [-1, 1].
    """

    matrix: Matrix
    region_a: int
    region_b: int
    mirrored: bool
    crop: bool
    score: float


def band(thumb: Grey) -> Grey:
    """Band-passed thumb with zero mean and unit norm: shapes, neither light nor noise."""
    out = blur(thumb, 1.0) - blur(thumb, 5.0)
    out = out - out.mean()
    return np.asarray(out / (np.linalg.norm(out) + 1e-6), dtype=np.float32)


def box_to_box(source: Region, target: Region, mirrored: bool) -> Matrix:
    """Alignment that lays the box of `source` on the box of `target`."""
    inner = frame(target.box, 1, 1) @ inverse(frame(source.box, 1, 1))
    if not mirrored:
        return inner
    flip = frame(source.box, 1, 1) @ np.diag([-1.0, 1.0, 1.0]) @ inverse(frame(source.box, 1, 1))
    return np.asarray(inner @ flip, dtype=np.float64)


def identities(a: Side, b: Side) -> list[Hypothesis]:
    """Region on region, also mirrored, best first."""
    bands_a = [band(r.thumb.astype(np.float32)) for r in a.regions()]
    bands_b = [band(r.thumb.astype(np.float32)) for r in b.regions()]
    found = []
    for i, p in enumerate(bands_a):
        for j, q in enumerate(bands_b):
            for mirrored in (False, True):
                score = float(np.vdot(p, q[:, ::-1] if mirrored else q))
                matrix = box_to_box(b.regions()[j], a.regions()[i], mirrored)
                found.append(Hypothesis(matrix, i, j, mirrored, False, round(score, 6)))
    return sorted(found, key=lambda h: -h.score)


def crops(a: Side, b: Side) -> list[Hypothesis]:
    """The content of one inside the content of the other, also mirrored, best first (one a direction and mirror)."""
    i, j = len(a.regions()) - 1, len(b.regions()) - 1
    found = []
    for mirrored in (False, True):
        inner = _search(a, b, i, j, mirrored)
        if inner is not None:
            found.append(inner)
        outer = _search(b, a, j, i, mirrored)
        if outer is not None:
            matrix = inverse(outer.matrix)
            found.append(Hypothesis(matrix, i, j, mirrored, True, outer.score))
    return sorted(found, key=lambda h: -h.score)


def _search(a: Side, b: Side, i: int, j: int, mirrored: bool) -> Hypothesis | None:
    """Looks for b's content in a's."""
    ra, rb = a.regions()[i], b.regions()[j]
    field = _shrink(ra.thumb, SMALL, SMALL)
    source = rb.thumb[:, ::-1] if mirrored else rb.thumb
    wide = _sides(b, rb)[0] / _sides(a, ra)[0]
    high = _sides(b, rb)[1] / _sides(a, ra)[1]
    unit = max(wide, high)
    best: tuple[float, int, int, int, int] | None = None
    tried: set[tuple[int, int]] = set()
    for scale in SCALES:
        w, h = round(SMALL * scale * wide / unit), round(SMALL * scale * high / unit)
        if min(w, h) < MIN_TEMPLATE or (w, h) in tried or (w, h) == (SMALL, SMALL):
            continue
        tried.add((w, h))
        response = cv2.matchTemplate(field, _shrink(source, w, h), cv2.TM_CCOEFF_NORMED)
        place = int(np.argmax(response))
        y, x = divmod(place, response.shape[1])
        # a small template agrees by chance more easily
        value = round(float(response[y, x]) - 0.25 * (1 - w * h / SMALL**2), 6)
        if best is None or value > best[0]:
            best = (value, x, y, w, h)
    if best is None:
        return None
    value, x, y, w, h = best
    inner = frame((x / SMALL, y / SMALL, (x + w) / SMALL, (y + h) / SMALL), 1, 1)
    if mirrored:
        inner = inner @ np.diag([-1.0, 1.0, 1.0])
    box = frame(ra.box, 1, 1) @ inverse(frame((0.0, 0.0, 1.0, 1.0), 1, 1)) @ inner
    matrix = np.asarray(box @ inverse(frame(rb.box, 1, 1)), dtype=np.float64)
    return Hypothesis(matrix, i, j, mirrored, True, value)


def _sides(side: Side, region: Region) -> tuple[float, float]:
    x0, y0, x1, y1 = region.box
    return max((x1 - x0) * side.width, 1.0), max((y1 - y0) * side.height, 1.0)


def _shrink(thumb: np.ndarray, width: int, height: int) -> Grey:
    grey = cv2.resize(thumb.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(grey, dtype=np.float32)
