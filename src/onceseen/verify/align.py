"""Alignments: where the points of one picture lie in another.

A frame is a 3 x 3 matrix from pixel coordinates (integer at pixel centres, x right, y down) to the unit square of
the whole picture. An alignment is a 3 x 3 affine matrix; `refine` improves one by Gauss-Newton on the grey values
with gain and offset (Lucas and Kanade 1981; the gain-offset form of Evangelidis and Psarakis 2008), robustly, so
that an overlay does not drag it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Grey = NDArray[np.float32]

_TUKEY = 4.685  # in robust standard deviations: 95% efficiency under normal noise
_MIN_GAIN = 0.1
_RIDGE = 1e-3
_FEW_PIXELS = 64
_LONGEST_STEP = 4.0  # pixels
_CONVERGED = 0.02  # pixels
_MOST_STRETCH = 1.6
_ENOUGH_PIXELS = 20_000


@dataclass(frozen=True, slots=True)
class Refined:
    """Outcome of `refine`.

    Attributes:
        matrix: (3, 3) pixels of the fixed picture to pixels of the moving one.
        gain: fixed ~ gain * moving + offset.
        offset: Grey levels.
        ok: Whether it converged to something usable.
    """

    matrix: Matrix
    gain: float
    offset: float
    ok: bool


def frame(box: tuple[float, float, float, float], width: int, height: int) -> Matrix:
    """Pixel coordinates of a (height, width) raster that shows `box` -> unit square of the whole picture."""
    x0, y0, x1, y1 = box
    sx, sy = (x1 - x0) / width, (y1 - y0) / height
    return np.array([[sx, 0.0, x0 + 0.5 * sx], [0.0, sy, y0 + 0.5 * sy], [0.0, 0.0, 1.0]])


def inverse(matrix: Matrix) -> Matrix:
    """The inverse of an affine matrix.

    Raises:
        ValueError: If it has none.
    """
    (a, b, x), (c, d, y) = matrix[:2].tolist()
    determinant = a * d - b * c
    if determinant == 0.0:
        raise ValueError(f"affine matrix without an inverse: {matrix.tolist()}")
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y], [0.0, 0.0, 1.0]])


def mirror(matrix: Matrix) -> Matrix:
    """`matrix` after its argument, a point of the unit square, was mirrored left to right."""
    flip = np.array([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(matrix @ flip, dtype=np.float64)


def warp(image: Grey, matrix: Matrix, width: int, height: int) -> Grey:
    """Samples `image` at matrix @ (x, y, 1) for each pixel of a (height, width) raster; bilinear, edges repeated."""
    out = cv2.warpAffine(
        image,
        matrix[:2],
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(out, dtype=np.float32)


def inside(
    matrix: Matrix, width: int, height: int, box: tuple[float, float, float, float]
) -> NDArray[np.bool_]:
    """Which pixels of a (height, width) raster are sent into `box` by an affine matrix."""
    x = np.arange(width, dtype=np.float64)[None, :]
    y = np.arange(height, dtype=np.float64)[:, None]
    x0, y0, x1, y1 = box
    if matrix[0, 1] == 0.0 and matrix[1, 0] == 0.0:  # no shear: one row and one column tell
        u, v = matrix[0, 0] * x + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]
    else:
        u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
        v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    mask: NDArray[np.bool_] = ((u >= x0) & (u <= x1)) & ((v >= y0) & (v <= y1))
    return mask


def pixel_box(width: int, height: int, margin: float = 0.0) -> tuple[float, float, float, float]:
    """The box of pixel coordinates of a raster, shrunk by a margin."""
    return margin - 0.5, margin - 0.5, width - 0.5 - margin, height - 0.5 - margin


def scale_of(matrix: Matrix) -> float:
    """Mean scale: pixels of the target for one of the source."""
    return float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))


def blur(image: Grey, sigma: float) -> Grey:
    """Gaussian blur; the image itself for sigma under 0.2."""
    if sigma < 0.2:
        return image
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), dtype=np.float32
    )


def slope(image: Grey, along_x: int, along_y: int) -> Grey:
    """Grey levels a pixel along x (1, 0) or y (0, 1)."""
    return np.asarray(cv2.Sobel(image, cv2.CV_32F, along_x, along_y, ksize=3, scale=0.125), dtype=np.float32)


def robust_deviation(values: NDArray[Any]) -> float:
    """Standard deviation of normal values around 0, by the median, so that strays have no say."""
    return 1.4826 * float(np.median(np.abs(values)))


def refine(
    fixed: Grey,
    moving: Grey,
    start: Matrix,
    *,
    affine: bool,
    iterations: int,
    mask: NDArray[np.bool_] | None = None,
) -> Refined:
    """Improves an alignment of two grey rasters.

    Args:
        fixed: (h, w) float32, the coarser of the two.
        moving: (h', w') float32.
        start: (3, 3) pixels of fixed -> pixels of moving.
        affine: All six parameters; else scale and shift alone.
        iterations: Upper bound; stops where the grid moves less than 0.02 pixels.
        mask: (h, w) which pixels of fixed to use; None: all.

    Cost: some 0.2 ms an iteration at 64 x 64, 0.4 ms on large rasters, of which every few pixels each way are used.
    """
    height, width = fixed.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    stride = _stride(height, width)
    grid = np.diag([float(stride), float(stride), 1.0])
    target = np.ascontiguousarray(fixed[::stride, ::stride])
    rows, columns = target.shape
    design = _Design(rows, columns, stride / (max(width, height) / 2), affine)
    slopes = slope(moving, 1, 0), slope(moving, 0, 1)
    box = pixel_box(moving.shape[1], moving.shape[0])
    wanted = None if mask is None else mask[::stride, ::stride]
    matrix, gain, offset = start.copy(), 1.0, 0.0
    for step in range(iterations):
        places = matrix @ grid
        valid = inside(places, columns, rows, box)
        if wanted is not None:
            valid &= wanted
        if int(np.count_nonzero(valid)) < _FEW_PIXELS:
            return Refined(matrix, gain, offset, False)
        warped, gx, gy = (warp(m, places, columns, rows) for m in (moving, *slopes))
        if step == 0:
            gain, offset = _gain_offset(warped[valid], target[valid])
        found = design.solve(warped, gx, gy, target, valid, (gain, offset))
        gain, offset = float(found[0]), float(found[1])
        if gain < _MIN_GAIN:
            return Refined(matrix, gain, offset, False)
        delta = found[2:] / gain
        furthest = float(np.abs(delta).max())
        delta *= min(1.0, _LONGEST_STEP / max(furthest, 1e-9))
        matrix = matrix + _as_matrix(delta, max(width, height) / 2, centre)
        if not _plausible(matrix, start):
            return Refined(start, gain, offset, False)
        if furthest < _CONVERGED:
            break
    return Refined(matrix, gain, offset, True)


def _stride(height: int, width: int) -> int:
    """Every how many pixels each way are used: some 20,000 are enough for six parameters."""
    return max(1, math.floor(math.sqrt(height * width / _ENOUGH_PIXELS)))


def _plausible(matrix: Matrix, start: Matrix) -> bool:
    """Whether a refinement has neither folded nor stretched its start beyond what a search can be off by."""
    change = matrix[:2, :2] @ np.linalg.inv(start[:2, :2])
    stretch = np.linalg.svd(change, compute_uv=False)
    return bool(np.linalg.det(change) > 0 and stretch[0] < _MOST_STRETCH and stretch[1] > 1 / _MOST_STRETCH)


class _Design:
    """The linear system of one robust step, its memory kept from step to step."""

    def __init__(self, rows: int, columns: int, unit: float, affine: bool) -> None:
        """For a grid of rows x columns points `unit` apart, in halves of the picture's longer side."""
        self._x = ((np.arange(columns) - (columns - 1) / 2) * unit).astype(np.float32)[None, :]
        self._y = ((np.arange(rows) - (rows - 1) / 2) * unit).astype(np.float32)[:, None]
        self._columns = np.ones((8 if affine else 6, rows, columns), dtype=np.float32)

    def solve(
        self,
        warped: Grey,
        gx: Grey,
        gy: Grey,
        target: Grey,
        valid: NDArray[np.bool_],
        light: tuple[float, float],
    ) -> Matrix:
        """Gain, offset, then shift x, shift y, scale x, scale y (and the two shears), times gain."""
        parts = self._columns
        parts[0], parts[2], parts[3] = warped, gx, gy
        np.multiply(gx, self._x, out=parts[4])
        np.multiply(gy, self._y, out=parts[5])
        if len(parts) > 6:
            np.multiply(gx, self._y, out=parts[6])
            np.multiply(gy, self._x, out=parts[7])
        weight = _tukey(target - np.float32(light[0]) * warped - np.float32(light[1]), valid)
        design = parts.reshape(len(parts), -1)
        weighted = design * weight.ravel()
        normal = (weighted @ design.T).astype(np.float64)
        normal[np.diag_indices_from(normal)] *= 1 + _RIDGE
        normal[np.diag_indices_from(normal)] += 1e-6
        return np.asarray(np.linalg.solve(normal, (weighted @ target.ravel()).astype(np.float64)), np.float64)


def _as_matrix(delta: NDArray[np.float64], half: float, centre: NDArray[np.float64]) -> Matrix:
    """The change of the alignment: shifts in pixels, scales and shears in pixels at the raster's longer border."""
    update = np.zeros((3, 3))
    update[0, 0], update[1, 1] = delta[2] / half, delta[3] / half
    if len(delta) > 4:
        update[0, 1], update[1, 0] = delta[4] / half, delta[5] / half
    update[:2, 2] = delta[:2] - update[:2, :2] @ centre
    return update


def _gain_offset(source: Grey, target: Grey) -> tuple[float, float]:
    deviation = source - source.mean()
    variance = float((deviation * deviation).mean())
    if variance < 1.0:
        return 1.0, float(target.mean() - source.mean())
    gain = max(float((deviation * target).mean()) / variance, 0.3)
    return gain, float(target.mean()) - gain * float(source.mean())


def _tukey(residual: Grey, valid: NDArray[np.bool_]) -> Grey:
    """Tukey's biweight, zero where not valid."""
    scale = robust_deviation(residual[valid]) + 1.0
    ratio = residual / np.float32(_TUKEY * scale)
    kept = np.maximum(1 - ratio * ratio, 0) * valid
    return np.asarray(kept * kept, dtype=np.float32)
