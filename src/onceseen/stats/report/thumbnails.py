"""Small pictures for a page, read again from the shards.

Where a source cannot be read any more, or its bytes are no longer those that were fingerprinted, the stored
64 x 64 grey thumb stands in, and the page says so: a picture is never shown for something that it is not.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from onceseen.core.config import ReadConfig
from onceseen.core.failures import SampleError
from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.core.schemas import THUMB_SIDE
from onceseen.fingerprint import decode_image
from onceseen.shards import WantedImage, read_images
from onceseen.stats.lookup import RunRecord, find_features, find_thumbs, shards_of

STORED_SIDE = 128
SMALL_SIDE = 48
"""Pictures up to this longest side are kept as they are (PNG, at most 7 KB) and shown enlarged, pixel by pixel: of a
JPEG one would see the blocks, and smoothing hides what they are."""

_COLUMNS = ("row", "key", "member", "member_offset", "member_size", "sha256", "width", "height")

_logger = logging.getLogger(__name__)
_Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One picture of the page.

    Attributes:
        uri: `data:image/jpeg;base64,...`, or image/png.
        width: Pixels.
        height: Pixels.
        stored: Whether it is the stored grey thumb, not the picture.
    """

    uri: str
    width: int
    height: int
    stored: bool = False


@dataclass(slots=True)
class Pictures:
    """Thumbnails by sample_id, and what a reader must know about those that are not the picture itself.

    Attributes:
        by_id: Thumbnails; an id of which nothing is stored is left out.
        notes: One sentence a shard that could not be read, or a picture that changed.
    """

    by_id: dict[str, Thumbnail] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_thumbnails(
    layout: RunLayout, run: RunRecord, sides: Mapping[str, int], quality: int = 74
) -> Pictures:
    """Reads and shrinks pictures.

    Args:
        layout: The run.
        run: Its record (shards and read config).
        sides: Longest side in pixels, by sample_id.
        quality: JPEG quality.

    Returns:
        The pictures. Time: one decode a picture, one read a shard concerned; memory: one picture and the
        result.
    """
    features = find_features(layout, run.shards, sides, _COLUMNS)
    by_name = {shard.name: shard for shard in run.shards}
    pictures = Pictures()
    for name, ids in shards_of(features, run.shards).items():
        rows = {sample_id: features[sample_id] for sample_id in ids if sample_id not in pictures.by_id}
        shard = _with_files(layout, by_name[name])
        for sample_id, rgb in _read_shard(shard, run.config.read, rows, pictures.notes):
            pictures.by_id[sample_id] = _thumbnail(rgb, sides[sample_id], quality)
    missing = [sample_id for sample_id in sides if sample_id not in pictures.by_id]
    for sample_id, thumb in find_thumbs(layout, run.shards, missing).items():
        pictures.by_id[sample_id] = _stored_thumbnail(thumb, features.get(sample_id, {}))
    for note in pictures.notes:
        _logger.warning("%s", note)
    return pictures


def _with_files(layout: RunLayout, shard: Shard) -> Shard:
    """A folder's shard with its picture files, which run.json need not list: features have them, in order."""
    if shard.kind != ShardKind.FOLDER or shard.files:
        return shard
    members = read_table(layout.of(shard).features(shard.name), columns=["member"])["member"].to_pylist()
    return dataclasses.replace(shard, files=tuple(members))


def _read_shard(
    shard: Shard, config: ReadConfig, rows: Mapping[str, Mapping[str, Any]], notes: list[str]
) -> Iterator[tuple[str, _Pixels]]:
    """Decoded pictures of one shard; what goes wrong becomes a note."""
    by_row = {int(row["row"]): sample_id for sample_id, row in rows.items()}
    if not by_row:
        return
    try:
        for row, data in read_images(shard, config, _wanted(by_row, rows)):
            sample_id = by_row[row]
            if hashlib.sha256(data).digest() != rows[sample_id]["sha256"]:
                notes.append(f"{sample_id}: its bytes in {shard.path} are not those that were fingerprinted.")
                continue
            try:
                rgb = decode_image(data, config.max_pixels, config.window).rgb
            except SampleError as error:
                notes.append(f"{sample_id}: cannot be decoded any more ({error}).")
                continue
            yield sample_id, rgb
    except (OSError, SampleError, ValueError) as error:
        notes.append(
            f"Shard {shard.name} cannot be read again from {shard.path} ({type(error).__name__}: {error})."
        )


def _wanted(by_row: Mapping[int, str], rows: Mapping[str, Mapping[str, Any]]) -> Sequence[WantedImage]:
    wanted = []
    for number in sorted(by_row):
        row = rows[by_row[number]]
        wanted.append(
            WantedImage(
                number, row["key"], row["member"] or "", int(row["member_offset"]), int(row["member_size"])
            )
        )
    return wanted


def _thumbnail(rgb: _Pixels, side: int, quality: int) -> Thumbnail:
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, shape, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    return Thumbnail(_png(bgr) if max(shape) <= SMALL_SIDE else _jpeg(bgr, quality), *shape)


def _stored_thumbnail(thumb: bytes, row: Mapping[str, Any]) -> Thumbnail:
    """The grey thumb, stretched back to the shape of its picture."""
    grey = np.frombuffer(thumb, np.uint8).reshape(THUMB_SIDE, THUMB_SIDE)
    width, height = max(1, int(row.get("width") or 1)), max(1, int(row.get("height") or 1))
    scale = STORED_SIDE / max(width, height)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Thumbnail(_jpeg(cv2.resize(grey, shape, interpolation=cv2.INTER_LINEAR), 80), *shape, stored=True)


def _jpeg(pixels: npt.NDArray[Any], quality: int) -> str:
    return _encode(pixels, "jpeg", [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])


def _png(pixels: npt.NDArray[Any]) -> str:
    return _encode(pixels, "png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _encode(pixels: npt.NDArray[Any], kind: str, flags: list[int]) -> str:
    done, data = cv2.imencode(f".{kind}", pixels, flags)
    if not done:
        raise RuntimeError(f"OpenCV cannot encode a {kind.upper()} of shape {pixels.shape}")
    return f"data:image/{kind};base64," + base64.b64encode(data.tobytes()).decode("ascii")
