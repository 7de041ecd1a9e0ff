"""Pictures that hold several others: collages and a picture in a picture.

Such a sample shares content with each of its sources and is a copy of none of them, so it gets one row of the
manifest for each source, and must be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from onceseen.planted.imaging import (
    WHITE,
    EncodedImage,
    RgbImage,
    encode_jpeg,
    fill_box,
    fit_within,
    paste,
    plain,
)
from onceseen.planted.transforms import add_border

_TILE = 256
_GAP = 8


class Composite(NamedTuple):
    """A way to join pictures.

    Attributes:
        sources: How many pictures it takes.
        apply: (pictures, rng) -> encoded picture.
    """

    sources: int
    apply: Callable[[Sequence[RgbImage], np.random.Generator], EncodedImage]


def apply_composite(name: str, pictures: Sequence[RgbImage], rng: np.random.Generator) -> EncodedImage:
    """Apply a registered composite.

    Args:
        name: A name in `COMPOSITES`.
        pictures: As many RGB pictures as it takes, (height, width, 3) uint8 each.
        rng: The only source of chance.

    Raises:
        ValueError: the name is not registered, or the number of pictures is not the composite's.
    """
    if name not in COMPOSITES:
        raise ValueError(f"unknown composite {name!r}; known: {', '.join(sorted(COMPOSITES))}")
    composite = COMPOSITES[name]
    if len(pictures) != composite.sources:
        raise ValueError(f"composite {name!r}: expected {composite.sources} pictures, got {len(pictures)}")
    return composite.apply(pictures, rng)


def _collage(columns: int, rows: int) -> Callable[[Sequence[RgbImage], np.random.Generator], EncodedImage]:
    def compose(pictures: Sequence[RgbImage], rng: np.random.Generator) -> EncodedImage:
        """Square tiles of 256 pixels, edges cut away evenly, 8 pixels of white between them."""
        step = _TILE + _GAP
        canvas = plain(columns * step - _GAP, rows * step - _GAP, WHITE)
        for place, picture in enumerate(pictures):
            paste(canvas, fill_box(picture, _TILE, _TILE), place // columns * step, place % columns * step)
        return encode_jpeg(canvas, int(rng.integers(80, 96)))

    return compose


def _picture_in_picture(pictures: Sequence[RgbImage], rng: np.random.Generator) -> EncodedImage:
    """The second picture, at a third of the first one's sides, white-edged, in a corner of the first."""
    canvas = pictures[0].copy()
    height, width = canvas.shape[:2]
    inset = add_border(fit_within(pictures[1], width // 3, height // 3), 2, 2, WHITE)
    margin = max(2, min(height, width) // 40)
    top = margin if rng.random() < 0.5 else height - margin - inset.shape[0]
    left = margin if rng.random() < 0.5 else width - margin - inset.shape[1]
    paste(canvas, inset, top, left)
    return encode_jpeg(canvas, int(rng.integers(80, 96)))


COMPOSITES: MappingProxyType[str, Composite] = MappingProxyType(
    {
        "collage2": Composite(2, _collage(2, 1)),
        "collage4": Composite(4, _collage(2, 2)),
        "picture_in_picture": Composite(2, _picture_in_picture),
    }
)
"""Name -> composite; the names are those in the manifest."""
