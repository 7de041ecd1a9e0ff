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

    Cost: one copy of the samples and a selection, linear in the pixels (20 ms a megapixel of 16 bits).
    """
    flat = samples.ravel()
    beyond = flat.size // _TAIL
    ordered = np.partition(flat, (0, beyond, flat.size - 1 - beyond, flat.size - 1))
    least, low, high, most = (ordered[i].item() for i in (0, beyond, flat.size - 1 - beyond, flat.size - 1))
    near = (high - low) / 2 if high > low else np.inf
    black, white = (least if low - least <= near else low), (most if most - high <= near else high)
    if (samples.dtype.kind, samples.dtype.itemsize) == ("u", 2) and white - black >= _FULL / 2:
        return GreyWindow(0, _FULL)
    return GreyWindow(black, white)


def to_grey(samples: NDArray[Any], window: GreyWindow) -> NDArray[np.uint8]:
    """The samples through a window, (h, w) uint8; all black where the window is empty (a flat picture).

    Memory: the result and a block of 8 MB.
    """
    out = np.zeros(samples.shape, np.uint8)
    width = window.white - window.black
    if width <= 0:
        return out
    rows = max(1, _BLOCK // max(1, samples.shape[1]))
    for top in range(0, samples.shape[0], rows):
        block = samples[top : top + rows].astype(np.float64)
        np.clip(block, window.black, window.white, out=block)
        block -= (
            window.black
        )  # before it is scaled: exact for whole numbers, whatever was added to all of them
        block *= 255
        block /= width
        out[top : top + rows] = np.floor(block + 0.5)
    return out
