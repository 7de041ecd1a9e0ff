"""Uniform borders: letterbox and pillarbox bars, frames, margins.

A copy with bars has another hash, another thumb and another embedding than its original. So where a picture has
uniform borders, what is inside them is fingerprinted as well, as the view `trimmed`.

A row (or column) belongs to a border when nearly all its pixels are close to the colour of the picture's outermost
row on that side. Both tolerances leave room for JPEG's noise, which is strongest in the block where bar and picture
meet; from there the cut goes on to the sharpest step within a block, which is the true edge.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]

_WORK_SIDE: Final = 512
_MIN_CUT: Final = 0.025
_MIN_LEFT: Final = 0.2
_MIN_SIDE: Final = 16
_FAR: Final = 16.0  # a pixel this far from the border's colour (0 to 255, worst channel) is not of the border
_FAR_SHARE: Final = 0.02
_MEAN_FAR: Final = 3.0
_RINGING: Final = 40.0
_RINGING_SHARE: Final = 0.05
_MEAN_RINGING: Final = 10.0
_BLOCK: Final = 8
_EDGE_ROWS: Final = 4
_STEP: Final = 12.0


def find_trim(rgb: NDArray[np.uint8]) -> Box | None:
    """Finds the box inside uniform borders.

    Works on at most 512 pixels a side; a picture without borders costs a few rows of it.

    Args:
        rgb: (h, w, 3) uint8.

    Returns:
        x0, y0, x1, y1 as shares of width and height, or None where no side has a border of 2.5% or more of the
        picture, or less than a fifth of the picture would be left.
    """
    height, width = rgb.shape[:2]
    if min(height, width) < 2 * _MIN_SIDE:
        return None
    if max(height, width) > _WORK_SIDE:
        scale = _WORK_SIDE / max(height, width)
        size = (max(_MIN_SIDE, round(width * scale)), max(_MIN_SIDE, round(height * scale)))
        if min(size) < 2 * _MIN_SIDE:
            return None
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        height, width = rgb.shape[:2]
    top = _border(rgb)
    bottom = _border(rgb[::-1])
    if top + bottom > height - _MIN_SIDE:
        return None
    inside = rgb[top : height - bottom].transpose(1, 0, 2)
    left, right = _border(inside), _border(inside[::-1])
    if left + right > width - _MIN_SIDE:
        return None
    if max(top / height, bottom / height, left / width, right / width) < _MIN_CUT:
        return None
    box = (left / width, top / height, 1 - right / width, 1 - bottom / height)
    return box if (box[2] - box[0]) * (box[3] - box[1]) >= _MIN_LEFT else None


def _border(rows: NDArray[np.uint8]) -> int:
    """How many rows from the first on are of one colour."""
    outermost = np.ascontiguousarray(rows[:2])
    mean, deviation = cv2.meanStdDev(outermost)
    if deviation.max() > _FAR:
        return 0
    colour, limit, count = mean.ravel().astype(np.float32), len(rows), 0
    while count < limit:
        block = rows[count : count + (_BLOCK if count == 0 else 4 * _BLOCK)]
        inner = _leading(_near(block, colour, _MEAN_FAR, _FAR, _FAR_SHARE))
        count += inner
        if inner < len(block):
            break
    if count in (0, limit):
        return count
    # within the block where bar and picture meet, JPEG's ringing is let pass
    count += _leading(
        _near(rows[count : count + 2 * _BLOCK], colour, _MEAN_RINGING, _RINGING, _RINGING_SHARE)
    )
    return count + _to_edge(rows[count - 1 : count + _EDGE_ROWS])


def _leading(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first false one."""
    return len(flags) if flags.all() else int(flags.argmin())


def _near(
    rows: NDArray[np.uint8], colour: NDArray[np.float32], mean_far: float, far: float, share: float
) -> NDArray[np.bool_]:
    red, green, blue = cv2.split(np.abs(rows - colour))
    distance = np.maximum(np.maximum(red, green), blue)
    near = (np.count_nonzero(distance > far, axis=1) <= share * distance.shape[1]) & (
        distance.mean(axis=1) <= mean_far
    )
    return np.asarray(near, np.bool_)


def _to_edge(rows: NDArray[np.uint8]) -> int:
    """Rows from the second on that are still border: up to the sharpest step, if it is sharp."""
    if len(rows) < 3:
        return 0
    steps = np.abs(np.diff(rows.astype(np.int16), axis=0)).mean(axis=(1, 2))
    best = int(steps.argmax())
    return best if steps[best] >= _STEP else 0
