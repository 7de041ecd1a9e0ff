"""Faint marks: what one picture has drawn over it so weakly that no tile disagrees.

A watermark at a fifth of full opacity changes a sky by ten grey levels. Correlation hardly falls, yet of two copies
the one without it is to be kept. Such a mark is a difference that stands out of the coding noise where the other
picture has no detail of its own that could explain it: resampling, blur and quantisation change detail, they do not
make any. So the mark belongs to the side that has it, and a copy of low quality has none.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import Grey, blur, robust_deviation

_LEAST = 3.0  # grey levels
_ABOVE_NOISE = 4.0  # robust standard deviations of the difference
_BARE = 0.7  # root mean square of the other side's detail, in that of the difference
_EXPLAINED = 0.6  # of the difference's power, by its covariance with the side's own detail
_COARSE = 4.0  # pixels; what is wider is light, not detail
_AROUND = 9  # pixels within which the two are compared
_BACKGROUND = 31  # pixels; the strokes of a mark fill less than half of this
_SAMPLED = 8192


def faint_marks(
    p: Grey, q: Grey, valid: NDArray[np.bool_], known: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(h, w) marks of p, and marks of q.

    Args:
        p: (h, w) float32 grey levels.
        q: (h, w) float32, aligned with p, light and sharpness made equal.
        valid: (h, w) what is compared.
        known: (h, w) what is known to differ: not looked at.

    Cost: some 4 ms at 384 x 288.
    """
    nothing = np.zeros(valid.shape, dtype=bool)
    total = int(np.count_nonzero(valid))
    if not total:
        return nothing, nothing
    difference = blur(p - q, 1.0)
    light = cv2.medianBlur(np.clip(difference + 128.5, 0, 255).astype(np.uint8), _BACKGROUND)
    mark = difference - (np.asarray(light, dtype=np.float32) - np.float32(128))
    noise = robust_deviation(mark[valid][:: 1 + total // _SAMPLED])
    near_known = np.asarray(cv2.dilate(known.astype(np.uint8), np.ones((_AROUND, _AROUND), np.uint8))) > 0
    marked = (np.abs(mark) > max(_LEAST, _ABOVE_NOISE * noise)) & valid & ~near_known
    if not marked.any():
        return nothing, nothing
    detail_p, detail_q, detail = (m - blur(m, _COARSE) for m in (p, q, difference))
    bare = np.float32(_BARE**2) * _around(mark * mark)
    least = np.float32(_EXPLAINED) * _around(detail * detail)
    of_p = marked & (_around(detail_q * detail_q) < bare) & (_around(detail_p * detail) > least)
    of_q = marked & (_around(detail_p * detail_p) < bare) & (_around(detail_q * -detail) > least)
    return of_p, of_q


def _around(image: Grey) -> Grey:
    """Mean around each pixel."""
    mean = cv2.blur(image, (_AROUND, _AROUND), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mean, dtype=np.float32)
