"""From evidence to coverages, foreign shares and the name of the transform.

Transforms, joined by `+`: `identity`, `mirrored`, `rotated`, `cropped` (one shows a part of the other), `letterboxed`
(one has uniform borders that the other has not), `overlaid` (one has something drawn over it), `collage` (the common
part ends at a seam inside the other picture, or one has a picture in it that the other has not), `none` (nothing common
was found).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import Matrix, frame, inside, inverse
from onceseen.verify.evidence import Evidence, Raster
from onceseen.verify.overlay import Difference
from onceseen.verify.sides import WHOLE_BOX

_GRID = 96
_SAME = 0.95
_BARS = 0.03
_LITTLE = 0.005
_WHOLE = 0.98
_LITTLE_LOST = 0.02
_BIT_MORE = (-0.004, -0.004, 1.004, 1.004)  # what an alignment may be off by
_SEAM_POINTS = 96
_SEAM_MARGIN = 0.04
_SEAM_SHARE = 0.6
_SEAM_STEP = 10.0
_SEAM_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Coverage and foreign share of each side, and the transform's name.

    Attributes:
        coverage_a: Share of a's content found in b.
        coverage_b: Share of b's content found in a.
        foreign_a: Share of a's area not in b.
        foreign_b: Share of b's area not in a.
        transform: Its name.
        composite: Whether either holds another picture beside or inside the common part.
    """

    coverage_a: float
    coverage_b: float
    foreign_a: float
    foreign_b: float
    transform: str
    composite: bool


def describe(
    evidence: Evidence, difference: Difference, a: Raster, b: Raster, whole_a: Raster, whole_b: Raster
) -> Outcome:
    """Coverages by the alignment's geometry and by what differs.

    Args:
        evidence: Of an alignment that holds.
        difference: What differs, fixed side first.
        a: Raster compared.
        b: Raster compared.
        whole_a: Raster of the whole of a, for seams.
        whole_b: Raster of the whole of b.
    """
    back = inverse(evidence.matrix)
    held_a, held_b = _common(back, a.content), _common(evidence.matrix, b.content)
    inside_a, inside_b = _common(back, WHOLE_BOX), _common(evidence.matrix, WHOLE_BOX)
    lost = difference.lost
    own_a, own_b = difference.own_p + difference.faint_p, difference.own_q + difference.faint_q
    if evidence.swapped:
        own_a, own_b = own_b, own_a
    # where both pictures are all there and agree, nothing can lie beside the common part
    whole = min(inside_a, inside_b) > _WHOLE and lost < _LITTLE_LOST
    seam = difference.inset or (
        not whole and (_seams(whole_b, evidence.matrix, a.content) or _seams(whole_a, back, b.content))
    )
    bars = max(
        (1 - inside_a) - (1 - held_a) * _area(a.content), (1 - inside_b) - (1 - held_b) * _area(b.content)
    )
    return Outcome(
        _share(held_a * (1 - lost)),
        _share(held_b * (1 - lost)),
        _share(1 - inside_a * (1 - own_a)),
        _share(1 - inside_b * (1 - own_b)),
        _name(evidence.matrix, min(held_a, held_b), bars, max(own_a, own_b), seam),
        seam,
    )


def _share(value: float) -> float:
    return round(min(max(value, 0.0), 1.0), 6)


def _area(box: tuple[float, float, float, float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _common(matrix: Matrix, source: tuple[float, float, float, float]) -> float:
    """Share of the box `source` that `matrix` sends into the other picture, on a grid of 96 x 96.

    Into all of it, borders too: where its border is a border of both, or a flat part of the scene that trimming took
    for one, the pixels agree there and nothing is missing.
    """
    return float(inside(matrix @ frame(source, _GRID, _GRID), _GRID, _GRID, _BIT_MORE).mean())


def _name(matrix: Matrix, common: float, bars: float, drawn: float, seam: bool) -> str:
    names = []
    if np.linalg.det(matrix[:2, :2]) < 0:
        names.append("mirrored")
    length_x, length_y = np.hypot(*matrix[:2, 0]), np.hypot(*matrix[:2, 1])
    if max(abs(matrix[1, 0]) / length_x, abs(matrix[0, 1]) / length_y) > 0.02:
        names.append("rotated")
    if seam:
        names.append("collage")
    elif common < _SAME:
        names.append("cropped")
    if bars > _BARS:
        names.append("letterboxed")
    if drawn > _LITTLE:
        names.append("overlaid")
    return "+".join(names) or "identity"


def _seams(host: Raster, into_own: Matrix, content: tuple[float, float, float, float]) -> bool:
    """Whether the other picture's content box ends, inside the host's content, at a straight discontinuity.

    Args:
        host: Raster of the whole host.
        into_own: (3, 3) unit square of the host -> unit square of the other.
        content: The other's content box.
    """
    to_host = inverse(host.frame()) @ inverse(into_own)
    x0, y0, x1, y1 = content
    corners = np.array([[x0, x1, x1, x0], [y0, y0, y1, y1], [1.0, 1.0, 1.0, 1.0]])
    points = (to_host @ corners)[:2].T
    return any(_is_seam(host, points[k], points[(k + 1) % 4]) for k in range(4))


def _is_seam(host: Raster, start: NDArray[np.float64], end: NDArray[np.float64]) -> bool:
    left, top, right, bottom = host.content_pixels()
    margin = _SEAM_MARGIN * min(right - left, bottom - top)
    along = end - start
    length = math.hypot(*along)
    (x0, y0), (x1, y1) = start.tolist(), end.tolist()
    outside = max(x0, x1) <= left + margin or min(x0, x1) >= right - margin
    if length < 8 or outside or max(y0, y1) <= top + margin or min(y0, y1) >= bottom - margin:
        return False
    normal = np.array([-along[1], along[0]]) / length
    steps = np.linspace(0.04, 0.96, _SEAM_POINTS)
    line = start[None, :] + steps[:, None] * along[None, :]
    deep = (
        (line[:, 0] > left + margin)
        & (line[:, 0] < right - margin)
        & (line[:, 1] > top + margin)
        & (line[:, 1] < bottom - margin)
    )
    if deep.mean() < 0.5:
        return False
    offsets = np.arange(-7, 8, dtype=np.float64)
    places = line[deep][None, :, :] + offsets[:, None, None] * normal[None, None, :]
    sampled = cv2.remap(
        host.grey,
        places[..., 0].astype(np.float32),
        places[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    change = np.abs(sampled[2:] - sampled[:-2])  # at offsets -6..6
    usual = np.median(change, axis=0)
    strong = (change > _SEAM_STEP) & (change > _SEAM_RATIO * usual)
    shares = strong.mean(axis=1)
    return bool(shares[4:9].max() > _SEAM_SHARE)
