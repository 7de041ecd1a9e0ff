"""Evidence of one alignment: refined, compared tile by tile, summed up in a few numbers.

The same function serves the stored thumbs and the pictures read again. Comparison is done on the raster that is
coarser under the alignment, the finer one low-passed to it, so that a resized copy is compared at the detail both have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import (
    Grey,
    Matrix,
    blur,
    frame,
    inside,
    inverse,
    pixel_box,
    refine,
    robust_deviation,
    scale_of,
    warp,
)
from onceseen.verify.sides import WHOLE_BOX
from onceseen.verify.tiles import TileMap, compare_tiles

_SIGMAS = (0.5, 0.8, 1.1, 1.5, 2.0, 2.6)
_MOVED_PIXELS = 0.35
_FEW_TILES = 3
_GAIN_PIXELS = 4096
_AS_SHARP = 0.02  # of the log ratio of fine detail
_EDGE = 0.5  # pixels at the border of a raster that are not compared: bars and encoders smear them
_SMEARED = 1.5  # pixels on either side of where content meets a border, more by the blur
_LOW_GAIN = 0.1
_STRONG = 20.0  # grey levels of detail from which tiles weigh the same
_NOTHING: dict[str, Any] = {
    "ncc": 0.0,
    "median": 0.0,
    "low": 0.0,
    "rest": 99.0,
    "agree": 0.0,
    "drift": 9.0,
    "common_drift": 9.0,
    "moving": 1.0,
    "detail": 0,
}


@dataclass(frozen=True, slots=True)
class Raster:
    """Grey pixels of a box of a picture.

    Attributes:
        grey: (h, w) float32, 0..255.
        box: The box that it shows, in shares of the whole picture.
        content: Box of the content, in shares of the whole picture.
    """

    grey: Grey
    box: tuple[float, float, float, float]
    content: tuple[float, float, float, float]

    def frame(self) -> Matrix:
        """Pixels -> unit square of the whole picture."""
        height, width = self.grey.shape
        return frame(self.box, width, height)

    def content_pixels(self) -> tuple[float, float, float, float]:
        """Box of the content that it shows, in pixels."""
        to_pixels = inverse(self.frame())
        corners = np.array(
            [[self.content[0], self.content[2]], [self.content[1], self.content[3]], [1.0, 1.0]]
        )
        (x0, x1), (y0, y1) = (to_pixels @ corners)[:2]
        a0, b0, a1, b1 = self.extent()
        return max(float(x0), a0), max(float(y0), b0), min(float(x1), a1), min(float(y1), b1)

    def extent(self, margin: float = 0.0) -> tuple[float, float, float, float]:
        """Box of all its pixels, shrunk by a margin."""
        return pixel_box(self.grey.shape[1], self.grey.shape[0], margin)


@dataclass(frozen=True, slots=True)
class Settings:
    """How finely to compare.

    Attributes:
        affine: Refine six parameters, not four.
        iterations: Bound on the refinement's steps.
        tile: Tile side in pixels.
        smooth: Blur of both sides before they are compared, in pixels.
        noise: Grey levels that coding noise may reach.
        equalize: Whether to look for the blur that makes the sharper side like the other.
        astray: Pixels of the coarser raster from which a refinement is checked against its start.
    """

    affine: bool
    iterations: int
    tile: int
    smooth: float
    noise: float
    equalize: bool
    astray: float


THUMBS = Settings(affine=True, iterations=8, tile=8, smooth=0.5, noise=2.0, equalize=False, astray=1.0)
PIXELS = Settings(affine=True, iterations=8, tile=8, smooth=0.8, noise=3.0, equalize=True, astray=2.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an alignment says.

    Attributes:
        matrix: (3, 3) unit square of b -> unit square of a, refined.
        ok: Whether there was anything to compare.
        swapped: Whether the fixed raster was b.
        fixed: Fixed raster on the comparison's grid, smoothed.
        moved: The other one, warped, gain and offset applied.
        valid: Where both pictures are.
        tiles: The comparison.
        ncc: Correlation of detail over all textured tiles.
        median: Weighted median of the tiles' correlation.
        low: Weighted lower fifth of the tiles' correlation.
        rest: Weighted upper tenth of the tiles' remaining difference, in grey levels.
        agree: Share of tiles that agree.
        drift: Weighted root mean square of the tiles' displacement, in pixels.
        common_drift: Weighted upper twentieth of the displacement of tiles with their neighbours, in pixels.
        moving: Weighted share of clear tiles that are displaced, and whose difference that explains.
        detail: Number of textured tiles.
        gain: Gain from the moving to the fixed raster.
        offset: Offset of the same.
    """

    matrix: Matrix
    ok: bool
    swapped: bool
    fixed: Grey
    moved: Grey
    valid: NDArray[np.bool_]
    tiles: TileMap | None
    ncc: float
    median: float
    low: float
    rest: float
    agree: float
    drift: float
    common_drift: float
    moving: float
    detail: int
    gain: float
    offset: float

    def strength(self) -> float:
        """One number to choose between alignments: agreement times correlation times the root of what agrees."""
        return self.agree * max(self.median, 0.0) * max(self.ncc, 0.0) * float(np.sqrt(self.detail))


def gather(a: Raster, b: Raster, start: Matrix, settings: Settings) -> Evidence:
    """Refines the alignment `start` (unit square of b -> of a) and compares.

    Where refinement went far, the start is compared too and the stronger of the two is taken: blocks of a poor JPEG
    can lead it astray in a picture with little detail.
    """
    to_b = inverse(b.frame()) @ inverse(start) @ a.frame()
    swapped = scale_of(to_b) < 1.0
    fixed, moving = (b, a) if swapped else (a, b)
    initial = inverse(to_b) if swapped else to_b
    ratio = scale_of(initial)
    height, width = fixed.grey.shape
    own = _untouched(fixed, np.eye(3), (height, width), settings.smooth)
    first = blur(fixed.grey, settings.smooth)
    low_pass = 0.5 * float(np.sqrt(max(ratio * ratio - 1.0, 0.0)))
    second = blur(moving.grey, float(np.hypot(low_pass, settings.smooth * ratio)))
    found = refine(first, second, initial, affine=settings.affine, iterations=settings.iterations, mask=own)
    ends = [found.matrix] if found.ok else []
    if not found.ok or _travel(initial, found.matrix, width, height) > settings.astray * ratio:
        ends.append(initial)
    pair = _Pair(fixed, moving, first, second, own, swapped)
    return max((_compare(pair, end, settings) for end in ends), key=Evidence.strength)


def _untouched(raster: Raster, matrix: Matrix, shape: tuple[int, int], smooth: float) -> NDArray[np.bool_]:
    """(h, w) which pixels, sent into the raster by `matrix`, are not where its content meets its borders.

    Encoders and the blur before the comparison mix the two there. Pixels beyond the raster are not judged here.
    """
    height, width = shape
    if raster.content == WHOLE_BOX:
        return np.ones(shape, dtype=bool)
    smeared = (_SMEARED + 2 * smooth) * scale_of(matrix)
    x0, y0, x1, y1 = raster.content_pixels()
    within = inside(matrix, width, height, (x0 + smeared, y0 + smeared, x1 - smeared, y1 - smeared))
    beyond = ~inside(matrix, width, height, (x0 - smeared, y0 - smeared, x1 + smeared, y1 + smeared))
    return within | beyond


@dataclass(frozen=True, slots=True)
class _Pair:
    fixed: Raster
    moving: Raster
    first: Grey
    second: Grey
    own: NDArray[np.bool_]
    swapped: bool


def _travel(one: Matrix, other: Matrix, width: int, height: int) -> float:
    """How far the corners of a raster are apart under two alignments, at most, in pixels of the target."""
    corners = np.array(
        [[0, width - 1, width - 1, 0], [0, 0, height - 1, height - 1], [1, 1, 1, 1]], np.float64
    )
    return float(np.hypot(*((one - other) @ corners)[:2]).max())


def _compare(pair: _Pair, matrix: Matrix, settings: Settings) -> Evidence:
    """Compares two rasters under an alignment of their pixels, fixed -> moving."""
    norm = pair.fixed.frame() @ inverse(matrix) @ inverse(pair.moving.frame())
    norm_b_to_a = inverse(norm) if pair.swapped else norm
    height, width = pair.first.shape
    valid = pair.own & inside(matrix, width, height, pair.moving.extent(_EDGE))
    valid &= _untouched(pair.moving, matrix, (height, width), settings.smooth)
    first = pair.first
    if int(valid.sum()) < 4 * settings.tile**2:
        return Evidence(
            norm_b_to_a, False, pair.swapped, first, first, valid, None, gain=1.0, offset=0.0, **_NOTHING
        )
    warped = warp(pair.second, matrix, width, height)
    if settings.equalize:
        first, warped = _equalize(first, warped, valid)
    gain, offset = _robust_gain(first, warped, valid)
    # where one side is blown out or crushed there is nothing to compare: both are cut to what both can show
    lowest, highest = max(0.0, offset), min(255.0, 255.0 * gain + offset)
    first = np.clip(first, lowest, highest)
    moved = np.clip(gain * warped + np.float32(offset), lowest, highest)
    tiles = compare_tiles(first, moved, valid, settings.tile, settings.noise)
    found = Evidence(
        norm_b_to_a, True, pair.swapped, first, moved, valid, tiles, gain=gain, offset=offset, **_NOTHING
    )
    return _summarise(found)


def _equalize(p: Grey, q: Grey, valid: NDArray[np.bool_]) -> tuple[Grey, Grey]:
    """Blurs the sharper of the two until both have the same fine detail, by the median over blocks.

    Detail decides, not agreement: where both are equally sharp nothing is blurred, so different texts stay different.
    """
    kept = blur_box(valid.astype(np.float32)) > 0.99
    if not kept.any():
        return p, q
    fine_p, fine_q = _fine(p, kept), _fine(q, kept)
    ratio = float(np.median(fine_p - fine_q))
    sharper, other = (p, fine_q) if ratio > 0 else (q, fine_p)
    best, best_gap = sharper, abs(ratio)
    for sigma in _SIGMAS:
        if best_gap <= _AS_SHARP:
            break
        tried = blur(sharper, sigma)
        gap = abs(float(np.median(_fine(tried, kept) - other))) + _AS_SHARP
        if gap >= best_gap:
            break
        best, best_gap = tried, gap
    return (best, q) if ratio > 0 else (p, best)


def _fine(image: Grey, kept: NDArray[np.bool_]) -> Grey:
    """Log of the fine detail of each kept block."""
    detail = blur_box(np.square(image - blur(image, 1.5)))[kept]
    return np.asarray(np.log(detail + np.float32(1.0)), dtype=np.float32)


def blur_box(image: Grey) -> Grey:
    """Mean over blocks of 8 x 8, one value a block."""
    size = max(image.shape[1] // 8, 1), max(image.shape[0] // 8, 1)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _robust_gain(p: Grey, q: Grey, valid: NDArray[np.bool_]) -> tuple[float, float]:
    """Gain and offset of q to p by reweighted least squares, on some thousands of pixels at most.

    Few enough that no library splits the sums over threads, which would change their last bits.
    """
    step = 1 + int(valid.sum()) // _GAIN_PIXELS
    x, y = q[valid][::step].astype(np.float64), p[valid][::step].astype(np.float64)
    weight = np.ones(len(x))
    gain, offset = 1.0, 0.0
    for _ in range(4):
        total = float(weight.sum())
        mx, my = float(weight @ x) / total, float(weight @ y) / total
        variance = float(weight @ ((x - mx) ** 2)) / total
        if variance < 1.0:
            return 1.0, my - mx
        gain = max(float(weight @ ((x - mx) * (y - my))) / total / variance, _LOW_GAIN / 2)
        offset = my - gain * mx
        residual = y - gain * x - offset
        scale = robust_deviation(residual) + 1.0
        weight = 1.0 / (1.0 + (residual / (2 * scale)) ** 2)
    return gain, offset


def without(
    evidence: Evidence, hidden: NDArray[np.bool_], marked: NDArray[np.bool_] | None = None
) -> Evidence:
    """The evidence of the tiles that are not hidden; what is left too bare is no evidence.

    Args:
        evidence: Of all tiles.
        hidden: (n,) tiles that say nothing, since something was drawn over them.
        marked: (n,) tiles that agree, but have a faint mark: they do not say whether anything has moved.
    """
    tiles = evidence.tiles
    if tiles is None:
        return evidence
    if marked is not None:
        tiles = tiles.unclear(marked)
    if hidden.any():
        tiles = tiles.subset(~hidden)
    return evidence if tiles is evidence.tiles else _summarise(replace(evidence, tiles=tiles))


def _summarise(evidence: Evidence) -> Evidence:
    tiles = evidence.tiles
    if tiles is None or int(tiles.textured.sum()) < _FEW_TILES or evidence.gain < _LOW_GAIN:
        return replace(evidence, ok=False, **_NOTHING)
    textured = tiles.textured
    weight = np.minimum(tiles.weight[textured], _STRONG)
    power = float(tiles.energy_p[textured].sum()) * float(tiles.energy_q[textured].sum())
    fair = textured & ~tiles.bad
    fair_weight = _weight(tiles, fair)
    shift = np.minimum(tiles.shift[fair], 3.0)
    calm, seen = (_clear_of(tiles, part) for part in (fair, textured))
    moving = (tiles.shift > _MOVED_PIXELS) & (tiles.gained > 0.4)
    rest = np.sqrt(np.maximum(tiles.difference[textured], 0.0))
    return replace(
        evidence,
        ncc=float(tiles.cross[textured].sum()) / float(np.sqrt(power) + 1e-9),
        median=weighted_quantile(tiles.ncc[textured], weight, 0.5),
        low=weighted_quantile(tiles.ncc[textured], weight, 0.2),
        rest=weighted_quantile(rest, weight, 0.9),
        agree=1.0 - float(weight @ tiles.bad[textured] / weight.sum()),
        drift=float(np.sqrt((fair_weight @ shift**2) / fair_weight.sum())) if shift.size else 3.0,
        common_drift=weighted_quantile(tiles.around[calm], _weight(tiles, calm), 0.95) if shift.size else 3.0,
        moving=float(np.average(moving[seen], weights=_weight(tiles, seen))),
        detail=int(textured.sum()),
    )


def _weight(tiles: TileMap, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.minimum(tiles.weight[chosen], _STRONG) + 1e-9


def _clear_of(tiles: TileMap, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) the chosen tiles that are clear; all of them where those are too few to tell."""
    clear = chosen & tiles.clear
    return clear if int(clear.sum()) >= _FEW_TILES else chosen


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], q: float) -> float:
    """Lower weighted quantile of values; ties by value, so the order of the input does not matter."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(total, q * total[-1]))])
