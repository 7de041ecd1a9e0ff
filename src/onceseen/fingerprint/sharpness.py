"""Effective resolution: how many pixels of real detail a picture has along its diagonal.

Copies of one picture differ in pixels without differing in detail: an upscaled copy has four times the pixels and
not one more thing to see. The power spectrum tells. Along rows and columns, the power of photographs falls about as
f^-1.3; where a picture was blurred or interpolated it falls off a cliff. For each frequency f the mean level of the
octave or so below it (0.25 f to 0.6 f, corrected by that slope) is compared with the level at f: the lowest f that
is 2.5, 4 or 5.5 dB (mean of the three) under its own lower octave is the last real detail. A local comparison does not
care how rough the picture as a whole is, nor for the few dB that JPEG adds to or takes from its fine detail.

Interpolation by repeating or averaging pixels (nearest, and "area" when enlarging) leaves no cliff, but a rhythm:
the mean difference of neighbouring pixels goes up and down with the pixels of the original grid (Gallagher,
"Detection of linear and cubic interpolation in JPEG compressed images", 2005). Where it is unmistakable, the picture is
brought back to that grid first.

Last, of two pictures with the same detail the one with fewer pixels scores better (`_SURPLUS_POWER`): beside its
original, an upscaled copy is always on the wrong side of a tie.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_LINES: Final = 256
_MIN_SIDE: Final = 48
_SLOPE: Final = -1.3
_OCTAVE: Final = (0.25, 0.6)
_DROPS_DB: Final = (2.5, 4.0, 5.5)
_BANDS_PER_OCTAVE: Final = 8
_FIRST_CYCLES: Final = 3
_LOWEST_CYCLES: Final = 10.0
_POWER_FLOOR: Final = 1e-6
_SURPLUS_POWER: Final = 0.15
_REPEAT_RATIO: Final = 0.5
_RHYTHM: Final = 12.0
_SAME_RHYTHM: Final = 0.01
_RHYTHM_BAND: Final = (0.05, 0.49)
_LOCAL: Final = 17
_SECOND_DIFFERENCE: Final = np.array([[-1, 2, -1]], np.float32)


def effective_resolution(grey: NDArray[np.uint8]) -> float:
    """Pixels of real detail along the diagonal, an estimate.

    Comparable between copies of one picture, and only roughly between pictures. Cost: a Fourier transform of at
    most 256 rows and 256 columns, about 1 ms at 400 x 300, nine tenths of it without the interpreter lock.
    Deterministic on one instruction set, and rounded to a tenth of a pixel so as to agree across nearly all of them.

    Args:
        grey: (h, w) uint8 luma, without borders (they are no detail, and the edge of one is a false one).

    Returns:
        At most the diagonal in pixels; that itself where a side is under 48 pixels, too few to judge.
    """
    height, width = grey.shape
    diagonal = math.hypot(height, width)
    if min(height, width) < _MIN_SIDE:
        return round(diagonal, 1)
    rows, columns = _lines(grey), _lines(cv2.transpose(grey))
    repeat = min(_repeats(rows), _repeats(columns))
    if repeat > 1:
        detail = effective_resolution(np.ascontiguousarray(grey[::repeat, ::repeat]))
    else:
        detail = _detail(rows, columns, height, width)
        shrink = 1 - _common_rhythm(rows, columns)
        if shrink < 1:
            size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
            detail = min(detail, _detail(_lines(small), _lines(cv2.transpose(small)), size[1], size[0]))
    return round(detail * math.pow(min(1.0, detail / diagonal), _SURPLUS_POWER), 1)


def _detail(rows: NDArray[np.uint8], columns: NDArray[np.uint8], height: int, width: int) -> float:
    return math.hypot(_last_detail(rows) * width, _last_detail(columns) * height)


def _lines(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most 256 evenly spaced rows, cut to a length that transforms fast. (n, w) uint8."""
    height, width = grey.shape
    if height > _LINES:
        grey = grey[((np.arange(_LINES) + 0.5) * height / _LINES).astype(np.intp)]
    length = _fast_length(width)
    start = (width - length) // 2
    return grey[:, start : start + length]


def _line_means(lines: NDArray[np.generic], kind: int = cv2.REDUCE_SUM) -> NDArray[np.float64]:
    """Means over the lines (of squares, with `REDUCE_SUM2`). (w,) float64; OpenCV holds no lock while it sums."""
    sums = cv2.reduce(lines, 0, kind, dtype=cv2.CV_64F)
    return np.asarray(sums[0] / len(lines), np.float64)


@lru_cache(maxsize=4096)
def _fast_length(length: int) -> int:
    """The largest product of 2, 3 and 5 that is not above `length`, an even one."""
    for candidate in range(length - length % 2, 0, -2):
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
    return length


@lru_cache(maxsize=256)
def _window(length: int) -> NDArray[np.float32]:
    window = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length)) / length
    return window.astype(np.float32)


class _Bands(NamedTuple):
    """Frequency bands, eight an octave."""

    starts: NDArray[np.intp]  # first bins
    counts: NDArray[np.intp]  # how many bins
    slope: NDArray[np.float64]  # the level that photographs have there, in decibels
    centres: list[float]
    low: NDArray[np.intp]  # the octave below: its first band
    high: NDArray[np.intp]  # and the one after its last
    skipped: int  # bands too low to judge


@lru_cache(maxsize=256)
def _bands(top: int) -> _Bands:
    """Bands from 3 cycles to `top`."""
    edges = [float(_FIRST_CYCLES)]
    while True:
        following = max(edges[-1] * 2 ** (1 / _BANDS_PER_OCTAVE), edges[-1] + 1)
        if round(following) > top + 1:
            break
        edges.append(round(following))
    if top + 1 - edges[-1] >= 0.5 * (edges[-1] - edges[-2]):
        edges.append(top + 1)
    else:
        edges[-1] = top + 1
    starts = np.array(edges).astype(np.intp)
    centres = np.sqrt(starts[:-1] * (starts[1:] - 1.0))
    low = np.searchsorted(centres, centres * _OCTAVE[0])
    high = np.maximum(np.searchsorted(centres, centres * _OCTAVE[1]), low + 1)
    slope = 10 * _SLOPE * np.log10(centres)
    skipped = int(np.searchsorted(centres, _LOWEST_CYCLES))
    return _Bands(starts[:-1], np.diff(starts), slope, centres.tolist(), low, high, skipped)


def _last_detail(lines: NDArray[np.uint8]) -> float:
    """Share of the pixels along a line that carry detail, in (0, 1]."""
    length = int(lines.shape[1])
    top = length // 2
    # the mean level falls into bins 0 and 1 of this window's spectrum, which are not looked at
    packed = np.multiply(lines, _window(length), dtype=np.float32)
    cv2.dft(packed, dst=packed, flags=cv2.DFT_ROWS)  # a row: Re 0, Re 1, Im 1, Re 2, Im 2, ..., Re length/2
    squares = _line_means(packed, cv2.REDUCE_SUM2)
    power = np.concatenate((squares[:1], squares[1:-1:2] + squares[2:-1:2], squares[-1:]))
    bands = _bands(top)
    decibels = 10 * np.log10(power + _POWER_FLOOR)
    # the mean of decibels in a band, as a median would, leaves out the lone peaks of JPEG's blocks
    level = np.add.reduceat(decibels, bands.starts) / bands.counts - bands.slope
    padded = np.concatenate((level[:1], level, level[-1:]))
    smooth = 0.5 * level + 0.25 * (padded[:-2] + padded[2:])
    sums = np.concatenate(([0.0], np.cumsum(level)))
    drop = ((sums[bands.high] - sums[bands.low]) / (bands.high - bands.low) - smooth)[
        bands.skipped :
    ].tolist()
    centres = bands.centres[bands.skipped :]
    return (
        sum(_first_crossing(centres, drop, threshold, top) for threshold in _DROPS_DB) / len(_DROPS_DB) / top
    )


def _first_crossing(centres: list[float], drop: list[float], threshold: float, top: int) -> float:
    first = next((i for i, value in enumerate(drop) if value > threshold), None)
    if first is None:
        return float(top)
    if first == 0:
        return centres[0]
    weight = (threshold - drop[first - 1]) / (drop[first] - drop[first - 1])
    return centres[first - 1] * math.pow(centres[first] / centres[first - 1], weight)


def _common_rhythm(rows: NDArray[np.uint8], columns: NDArray[np.uint8]) -> float:
    """The rhythm that rows and columns share, in cycles a pixel; 0 if there is none."""
    strength_x, rhythm_x = _rhythm(rows)
    strength_y, rhythm_y = _rhythm(columns)
    shared = math.sqrt(strength_x * strength_y) > _RHYTHM and abs(rhythm_x - rhythm_y) < _SAME_RHYTHM
    return (rhythm_x + rhythm_y) / 2 if shared else 0.0


def _repeats(lines: NDArray[np.uint8]) -> int:
    """How often each pixel is repeated along the lines: 1, 2, 3 or 4."""
    lines = lines[::2]
    steps = _line_means(cv2.absdiff(lines[:, 1:], lines[:, :-1]))
    order, starts = _phases(len(steps))
    sums = np.add.reduceat(steps[order], starts).tolist()
    for times, phases in ((4, sums[:4]), (3, sums[4:7]), (2, sums[7:])):
        second, first = sorted(phases)[-2:]
        if second < _REPEAT_RATIO * first:
            return times
    return 1


@lru_cache(maxsize=256)
def _phases(length: int) -> tuple[NDArray[np.intp], list[int]]:
    """Places by phase for periods of 4, 3 and 2, one after the other, and where each of the nine phases starts."""
    phases = [
        np.arange(phase, length - length % times, times) for times in (4, 3, 2) for phase in range(times)
    ]
    return np.concatenate(phases), np.cumsum([0, *(len(p) for p in phases[:-1])]).tolist()


def _rhythm(lines: NDArray[np.uint8]) -> tuple[float, float]:
    """Strongest rhythm of the second difference along the lines: strength over the median, cycles a pixel."""
    bend = np.abs(cv2.filter2D(lines[::2], cv2.CV_32F, _SECOND_DIFFERENCE)[:, 1:-1])
    limit = 3 * cv2.mean(bend)[0] + 1e-3
    profile = _line_means(cv2.threshold(bend, limit, 0, cv2.THRESH_TRUNC)[1])  # strong edges have no say
    around = cv2.blur(profile[None], (_LOCAL, 1), borderType=cv2.BORDER_REFLECT_101)[0]
    profile = profile / (around + 1e-3) - 1
    window, counted, floor = _rhythm_bins(len(profile))
    height = np.abs(np.fft.rfft(profile * window))
    middle = (len(height) - floor - 1) // 2, (len(height) - floor) // 2
    median = float(np.partition(height[floor:], middle)[list(middle)].mean())
    height *= counted
    peak = int(height.argmax())
    return float(height[peak]) / (median + 1e-9), peak / len(profile)


@lru_cache(maxsize=256)
def _rhythm_bins(length: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """For `_rhythm`: the window, the bins that count, and the first bin of those that the median is of."""
    cycles = np.arange(length // 2 + 1) / length
    counted = (cycles >= _RHYTHM_BAND[0]) & (cycles <= _RHYTHM_BAND[1])
    for eighth in (1, 2, 3):  # JPEG's own blocks
        place = round(eighth * length / 8)
        counted[max(0, place - 2) : place + 3] = False
    return np.hanning(length), counted, int(np.searchsorted(cycles, _RHYTHM_BAND[0], "right"))
