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
from typing import Final

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
_SMOOTH: Final = (0.25, 0.5, 0.25)


def effective_resolution(grey: NDArray[np.uint8]) -> float:
    """Pixels of real detail along the diagonal, an estimate.

    Comparable between copies of one picture, and only roughly between pictures. Cost: a Fourier transform of at
    most 256 rows and 256 columns, 1 to 2 ms at 400 x 300. Deterministic on one instruction set,
    and rounded to a tenth of a pixel so as to agree across nearly all of them.

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


def _detail(rows: NDArray[np.float32], columns: NDArray[np.float32], height: int, width: int) -> float:
    return math.hypot(_last_detail(rows) * width, _last_detail(columns) * height)


def _lines(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """At most 256 evenly spaced rows, cut to a length that transforms fast. (n, w) float32."""
    height, width = grey.shape
    if height > _LINES:
        grey = grey[((np.arange(_LINES) + 0.5) * height / _LINES).astype(np.intp)]
    length = _fast_length(width)
    start = (width - length) // 2
    return grey[:, start : start + length].astype(np.float32)


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


@lru_cache(maxsize=256)
def _bands(top: int) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Frequency bands from 3 cycles to `top`, eight an octave: first bins, centres, and each one's octave below."""
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
    return starts, centres, low, high


def _last_detail(lines: NDArray[np.float32]) -> float:
    """Share of the pixels along a line that carry detail, in (0, 1]."""
    length = int(lines.shape[1])
    top = length // 2
    centred = (lines - lines.mean(axis=1, keepdims=True)) * _window(length)
    packed = cv2.dft(centred, flags=cv2.DFT_ROWS)  # a row: Re 0, Re 1, Im 1, Re 2, Im 2, ..., Re length/2
    squares = np.square(packed, out=packed).mean(axis=0, dtype=np.float64)
    power = np.concatenate((squares[:1], squares[1:-1:2] + squares[2:-1:2], squares[-1:]))
    starts, centres, low, high = _bands(top)
    decibels = 10 * np.log10(power + _POWER_FLOOR)
    # the mean of decibels in a band, as a median would, leaves out the lone peaks of JPEG's blocks
    level = np.add.reduceat(decibels, starts[:-1]) / np.diff(starts) - 10 * _SLOPE * np.log10(centres)
    smooth = np.convolve(np.pad(level, len(_SMOOTH) // 2, mode="edge"), _SMOOTH, "valid")
    sums = np.concatenate(([0.0], np.cumsum(level)))
    drop = (sums[high] - sums[low]) / (high - low) - smooth
    drop[centres < _LOWEST_CYCLES] = -np.inf
    return float(np.mean([_first_crossing(centres, drop, threshold, top) for threshold in _DROPS_DB])) / top


def _first_crossing(
    centres: NDArray[np.float64], drop: NDArray[np.float64], threshold: float, top: int
) -> float:
    over = drop > threshold
    first = int(over.argmax())
    if not over[first]:
        return float(top)
    if first == 0 or not np.isfinite(drop[first - 1]):
        return float(centres[first])
    weight = (threshold - drop[first - 1]) / (drop[first] - drop[first - 1])
    return float(centres[first - 1] * np.power(centres[first] / centres[first - 1], weight))


def _common_rhythm(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> float:
    """The rhythm that rows and columns share, in cycles a pixel; 0 if there is none."""
    strength_x, rhythm_x = _rhythm(rows)
    strength_y, rhythm_y = _rhythm(columns)
    shared = math.sqrt(strength_x * strength_y) > _RHYTHM and abs(rhythm_x - rhythm_y) < _SAME_RHYTHM
    return (rhythm_x + rhythm_y) / 2 if shared else 0.0


def _repeats(lines: NDArray[np.float32]) -> int:
    """How often each pixel is repeated along the lines: 1, 2, 3 or 4."""
    steps = np.abs(np.diff(lines[::2], axis=1)).mean(axis=0, dtype=np.float64)
    for times in (4, 3, 2):
        phases = sorted(float(steps[phase::times].mean()) for phase in range(times))
        if phases[-2] < _REPEAT_RATIO * phases[-1]:
            return times
    return 1


def _rhythm(lines: NDArray[np.float32]) -> tuple[float, float]:
    """Strongest rhythm of the second difference along the lines: strength over the median, cycles a pixel."""
    lines = lines[::2]
    bend = np.abs(2 * lines[:, 1:-1] - lines[:, :-2] - lines[:, 2:])
    np.minimum(bend, 3 * bend.mean() + 1e-3, out=bend)  # strong edges have no say
    profile = bend.mean(axis=0, dtype=np.float64)
    local = np.convolve(np.pad(profile, _LOCAL // 2, mode="reflect"), np.full(_LOCAL, 1 / _LOCAL), "valid")
    profile = profile / (local + 1e-3) - 1
    length = len(profile)
    height = np.abs(np.fft.rfft(profile * np.hanning(length)))
    cycles = np.arange(len(height)) / length
    height /= np.median(height[cycles > _RHYTHM_BAND[0]]) + 1e-9
    height[(cycles < _RHYTHM_BAND[0]) | (cycles > _RHYTHM_BAND[1])] = 0
    for eighth in (1, 2, 3):  # JPEG's own blocks
        place = round(eighth * length / 8)
        height[max(0, place - 2) : place + 3] = 0
    peak = int(height.argmax())
    return float(height[peak]), float(cycles[peak])
