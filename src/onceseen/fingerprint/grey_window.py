"""Grey samples of more than 8 bits to 8 bits, by a window that the pixels themselves choose.

A 12-bit slice in a 16-bit file fills a sixteenth of its range: scaled by that range it is nearly black, and blank. So
the window goes from the 0.1th percentile of the samples to the 99.9th, and on to the least and the largest where those
are near (within half the window), as they are but for hot pixels. Adding a number to all samples or multiplying them by
a positive one moves the window along, so a DICOM slice before and after its rescale, and its PNG or TIFF of 16 bits,
give the very same pixels, and its export to 8 bits by full range nearly the same. Unsigned samples that fill half the
range of 16 bits are a picture made for that range, and scaled by all of it: the same pixels as its copy in 8 bits.
Measured on pydicom's files in docs/takedown-and-medical.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS, FILE = "pixels", "file"
"""`read.window`: by the pixels themselves; by the window that the file names, where it names one."""

_TAIL = 1_000  # one sample in so many lies beyond each percentile
_BLOCK = 1 << 20
_FULL = (1 << 16) - 1


@dataclass(frozen=True, slots=True)
class GreyWindow:
    """The samples that become black and white, everything between in proportion."""

    black: float
    white: float


def parse_window(text: str) -> GreyWindow | None:
    """A window given as `CENTRE/WIDTH`, as radiologists write it; None for the two words.

    >>> parse_window("40/400")
    GreyWindow(black=-160.0, white=240.0)

    Raises:
        ValueError: If it is neither.
    """
    if text in (PIXELS, FILE):
        return None
    centre, slash, width = text.partition("/")
    try:
        middle, whole = float(centre), float(width)
    except ValueError:
        middle, whole = 0.0, 0.0
    if not slash or not np.isfinite(middle) or not 0 < whole < np.inf:
        raise ValueError(
            f"a window is {text!r}; expected {PIXELS!r}, {FILE!r} or CENTRE/WIDTH with a positive width, such as 40/400"
        )
    return GreyWindow(middle - whole / 2, middle + whole / 2)


def find_window(samples: NDArray[Any]) -> GreyWindow:
    """The window that the samples choose: (h, w) of any integer or finite float type.

    Cost: linear in the pixels: 4 ms a megapixel of 16 bits, which are counted; a copy and a selection for others.
    """
    beyond = samples.size // _TAIL
    places = (0, beyond, samples.size - 1 - beyond, samples.size - 1)
    if _is_short(samples.dtype):
        upto = np.cumsum(_counts(samples))
        first = np.iinfo(samples.dtype).min
        least, low, high, most = (first + int(np.searchsorted(upto, place, side="right")) for place in places)
    else:
        ordered = np.partition(samples.ravel(), places)
        least, low, high, most = (ordered[place].item() for place in places)
    near = (high - low) / 2 if high > low else np.inf
    black, white = (least if low - least <= near else low), (most if most - high <= near else high)
    if (samples.dtype.kind, samples.dtype.itemsize) == ("u", 2) and white - black >= _FULL / 2:
        return GreyWindow(0, _FULL)
    return GreyWindow(black, white)


def to_grey(samples: NDArray[Any], window: GreyWindow) -> NDArray[np.uint8]:
    """The samples through a window, (h, w) uint8; all black where the window is empty (a flat picture).

    Memory: the result and a block of 8 MB. Cost: 3 ms a megapixel of 16 bits, by a table; 20 ms for others.
    """
    out = np.zeros(samples.shape, np.uint8)
    if window.white <= window.black:
        return out
    table = None
    if _is_short(samples.dtype):
        limits = np.iinfo(samples.dtype)
        table = _through(np.arange(limits.min, limits.max + 1), window)
    for rows in _blocks(samples):
        block = samples[rows]
        out[rows] = _through(block, window) if table is None else table[_places(block)]
    return out


def _through(samples: NDArray[Any], window: GreyWindow) -> NDArray[np.uint8]:
    shown = np.clip(samples.astype(np.float64), window.black, window.white)
    shown -= window.black  # before it is scaled: exact for whole numbers, whatever was added to all of them
    shown *= 255
    shown /= window.white - window.black
    return np.floor(shown + 0.5).astype(np.uint8)


def _is_short(dtype: np.dtype[Any]) -> bool:
    """Whether there are so few values that each can be counted."""
    return dtype.kind in "ui" and dtype.itemsize <= 2


def _blocks(samples: NDArray[Any]) -> Iterator[slice]:
    """Rows of an array, some megabytes at a time."""
    rows = max(1, _BLOCK // max(1, samples.shape[1]))
    return (slice(top, top + rows) for top in range(0, samples.shape[0], rows))


def _places(block: NDArray[Any]) -> NDArray[np.intp]:
    """Places of short samples among all their values."""
    return block.astype(np.intp) - np.iinfo(block.dtype).min


def _counts(samples: NDArray[Any]) -> NDArray[np.int64]:
    """How often each value of a short type occurs."""
    limits = np.iinfo(samples.dtype)
    counts = np.zeros(limits.max - limits.min + 1, np.int64)
    for rows in _blocks(samples):
        counts += np.bincount(_places(samples[rows]).ravel(), minlength=len(counts))
    return counts
