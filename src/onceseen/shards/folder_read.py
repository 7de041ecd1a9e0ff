"""Samples of a folder of images: one file is one sample, captions and json lie beside it.

`a.jpg` takes its caption from `a.txt` or `a.jpg.txt` (or `.caption`, `.text`), else from `a.json` or
`a.jpg.json`. The key is the file's name, the sample_id its path in SRC, both with extension.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from onceseen.core.config import ReadConfig
from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import file_size, join, open_read
from onceseen.core.ids import decode_name
from onceseen.core.records import ImageSample, Shard
from onceseen.shards.extensions import (
    JSON_EXTENSION,
    TEXT_EXTENSIONS,
    caption_of,
    decode_caption,
    is_image_file,
    meta_of,
    parse_json,
)
from onceseen.shards.grouping import UniqueKeys
from onceseen.shards.records import WantedImage


class FolderSample(NamedTuple):
    """An image file and what lies beside it; paths relative to the shard's `path`."""

    key: str
    image: str
    texts: tuple[str, ...]
    jsons: tuple[str, ...]


def folder_samples(shard: Shard) -> list[FolderSample]:
    """The samples of a folder shard, in the order of its files. Reads nothing."""
    files = set(shard.files)
    keys = UniqueKeys()
    samples = []
    for image in shard.files:
        if not is_image_file(image):
            continue
        stems = (os.path.splitext(image)[0], image)
        texts = tuple(t for e in TEXT_EXTENSIONS for s in stems if (t := f"{s}.{e}") in files)
        jsons = tuple(t for s in stems if (t := f"{s}.{JSON_EXTENSION}") in files)
        key = keys.claim(text_name(image.rpartition("/")[2]))
        samples.append(FolderSample(key, image, texts, jsons))
    return samples


def text_name(path: str) -> str:
    """A path of this machine's file system as text: bytes that are not UTF-8 percent-encoded."""
    return decode_name(os.fsencode(path))


def folder_sample_id(shard: Shard, sample: FolderSample) -> str:
    """The path in SRC (with the SRC's name before it, where there are several)."""
    directory, slash, _ = text_name(sample.image).rpartition("/")
    return f"{shard.id_prefix}{directory}{slash}{sample.key}"


def read_folder(shard: Shard, config: ReadConfig) -> Iterator[ImageSample | Failure]:
    """Yields the samples of a folder in UTF-8 byte order of their names.

    A file that cannot be read is a failed sample, never a failed shard. Memory: one sample.
    """
    for row, sample in enumerate(folder_samples(shard)):
        image: bytes | None = None
        error: FailureReason | None = None
        detail = ""
        try:
            image = _read_limited(join(shard.path, sample.image), config.max_bytes)
            if image is None:
                error, detail = FailureReason.TOO_MANY_BYTES, f"read.max_bytes is {config.max_bytes}"
            elif not image:
                error, detail = FailureReason.EMPTY_IMAGE, "the file has zero bytes"
        except OSError as failure:
            error, detail = FailureReason.NO_IMAGE, f"the file cannot be read: {failure}"
        text = _first_readable(shard.path, sample.texts, config.max_bytes)
        fields = parse_json(_first_readable(shard.path, sample.jsons, config.max_bytes) or b"")
        yield ImageSample(
            row=row,
            key=sample.key,
            sample_id=folder_sample_id(shard, sample),
            image=image if error is None else None,
            extension=os.path.splitext(sample.image)[1][1:].lower(),
            member=text_name(sample.image),
            member_size=len(image or b""),
            caption=decode_caption(text) if text is not None else caption_of(fields),
            meta=meta_of(fields, config.meta_columns),
            error=error,
            error_detail=detail,
        )


def read_folder_images(shard: Shard, wanted: Sequence[WantedImage]) -> Iterator[tuple[int, bytes]]:
    """Yields (row, bytes) of the wanted pictures in row order.

    Raises:
        ValueError: If a picture is not in the shard's listing.
        OSError: If a file cannot be read.
    """
    samples = folder_samples(shard)
    for want in sorted(wanted, key=lambda w: w.row):
        if not 0 <= want.row < len(samples) or samples[want.row].key != want.key:
            raise ValueError(
                f"{shard.path}: {want.key!r} is not in row {want.row} of shard {shard.name!r}: the folder "
                "has changed since it was read, run again with --overwrite"
            )
        with open_read(join(shard.path, samples[want.row].image)) as stream:
            yield want.row, stream.read()


def _read_limited(path: str, limit: int) -> bytes | None:
    """A file's bytes; None if it has more than `limit`, which is then not read where its size is known."""
    if (file_size(path) or 0) > limit:
        return None
    with open_read(path) as stream:
        data = stream.read(limit + 1)
    return data if len(data) <= limit else None


def _first_readable(root: str, paths: Sequence[str], limit: int) -> bytes | None:
    """The first of some small files that can be read: a caption that cannot does not fail its picture."""
    for path in paths:
        try:
            data = _read_limited(join(root, path), limit)
        except OSError:
            continue
        if data is not None:
            return data
    return None
