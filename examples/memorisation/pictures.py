"""The pictures of the experiment, all out of `examples/photos`: audited photographs, other pictures, held-out ones.

The audited are whole photographs of at least 256 pixels a side, one of a scene. The others are cut out of the remaining
photographs, 24 disjoint tiles of each, enlarged to 256 pixels: there are not 1,200 photographs in the bundle, and
disjoint tiles hold nothing of each other. Flat tiles (sky) are left out. Held-out pictures are tiles of photographs
that no arm is trained on.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.audit.distances import to_square
from onceseen.planted.imaging import RgbImage, decode_rgb, encode_jpeg

SIDE = 32
"""Pixels a side at which models are trained."""

AUDITED = 96
HELD_OUT = 12
"""Photographs whose tiles are held out."""

_LEAST_SIDE = 256
_ACROSS, _DOWN = 6, 4
_LEAST_CONTRAST = 0.045


@dataclass(frozen=True, slots=True)
class Picture:
    """One distinct picture.

    Attributes:
        name: The photograph's file name without extension, and the tile.
        caption: The photograph's title, and the tile.
        rgb: At 256 pixels a side or more, (h, w, 3) uint8.
        data: A file of it: JPEG.
    """

    name: str
    caption: str
    rgb: RgbImage
    data: bytes


@dataclass(frozen=True, slots=True)
class Pictures:
    """What there is.

    Attributes:
        audited: `AUDITED` photographs, in a fixed order that has nothing to do with what they show.
        others: Tiles, in such an order.
        held_out: Tiles of other photographs.
    """

    audited: tuple[Picture, ...]
    others: tuple[Picture, ...]
    held_out: tuple[Picture, ...]


@cache
def read_pictures(photos: Path) -> Pictures:
    """Deals the bundled photographs, once a process: all plans share them.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If they are too few.
    """
    with (photos / "LICENSES.csv").open(newline="", encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: order(row["file"]))
    large = [r for r in rows if not r["scene"] and min(int(r["width"]), int(r["height"])) >= _LEAST_SIDE]
    chosen = large[:AUDITED]
    if len(chosen) < AUDITED:
        raise ValueError(
            f"{photos}: expected {AUDITED} photographs of {_LEAST_SIDE} pixels, found {len(chosen)}"
        )
    names = {row["file"] for row in chosen}
    rest = [row for row in rows if row["file"] not in names]
    held = [r for r in rest if not r["scene"]][:HELD_OUT]
    held_names = {row["file"] for row in held}
    return Pictures(
        tuple(_photograph(photos, row) for row in chosen),
        _shuffled([t for r in rest if r["file"] not in held_names for t in _tiles(photos, r)]),
        _shuffled([t for r in held for t in _tiles(photos, r)]),
    )


def order(name: str) -> bytes:
    """A fixed order that follows from the name alone."""
    return hashlib.sha256(f"memorisation {name}".encode()).digest()


@cache
def shrink(data: bytes) -> NDArray[np.uint8]:
    """A file as models see it: (32, 32, 3) uint8 RGB, read-only, squeezed to a square; 3 KB are kept of each."""
    small = to_square(decode_rgb(data), SIDE)
    small.flags.writeable = False
    return small


def _shuffled(pictures: list[Picture]) -> tuple[Picture, ...]:
    return tuple(sorted(pictures, key=lambda picture: order(picture.name)))


def _photograph(photos: Path, row: dict[str, str]) -> Picture:
    data = (photos / row["file"]).read_bytes()
    return Picture(Path(row["file"]).stem, row["title"], decode_rgb(data), data)


def _tiles(photos: Path, row: dict[str, str]) -> list[Picture]:
    rgb = decode_rgb((photos / row["file"]).read_bytes())
    height, width = rgb.shape[:2]
    across, down = (_ACROSS, _DOWN) if width >= height else (_DOWN, _ACROSS)
    xs = np.linspace(0, width, across + 1).astype(int)
    ys = np.linspace(0, height, down + 1).astype(int)
    found = []
    for j in range(down):
        for i in range(across):
            tile = rgb[ys[j] : ys[j + 1], xs[i] : xs[i + 1]]
            if to_square(tile, SIDE).std() / 255 < _LEAST_CONTRAST:
                continue
            scale = _LEAST_SIDE / min(tile.shape[:2])
            size = (round(tile.shape[1] * scale), round(tile.shape[0] * scale))
            large = np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
            number = j * across + i + 1
            name, caption = f"{Path(row['file']).stem}-tile{number:02d}", f"{row['title']}, detail {number}"
            found.append(Picture(name, caption, large, encode_jpeg(large, 92).data))
    return found
