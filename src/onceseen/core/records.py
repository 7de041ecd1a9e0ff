"""Records that travel between stages. All frozen; ids are plain `str` and `int`."""

from __future__ import annotations

import enum
from bisect import bisect_right
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onceseen.core.failures import FailureReason

ROW_BITS = 32
ROW_MASK = (1 << ROW_BITS) - 1

Nodes = TypeVar("Nodes", int, NDArray[np.int64])


class ShardKind(enum.StrEnum):
    """What a shard is made of."""

    TAR = "tar"
    PARQUET = "parquet"
    FOLDER = "folder"


class Verdict(enum.StrEnum):
    """What becomes of a sample."""

    KEEP = "keep"
    DROP = "drop"
    FAILED = "failed"


class PairKind(enum.StrEnum):
    """The strongest kind of evidence that two samples are one picture."""

    BYTES = "bytes"
    PIXELS = "pixels"
    PERCEPTUAL = "perceptual"
    EMBEDDING = "embedding"
    DECISION = "decision"


@dataclass(frozen=True, slots=True)
class Shard:
    """One input shard.

    Attributes:
        number: Its place in the UTF-8 byte order of all shard names; the high half of a node id.
        name: Its name in ids and outputs: the path in SRC without `.tar` or `.parquet` (prefixed by the SRC's
            name where there are several).
        kind: Tar, parquet or folder.
        path: Where it is read from (file, or directory for folders).
        size: Bytes (for a folder: of all its files).
        mark: Modification mark, as text: what tells that the input changed.
        files: For folders: paths of its files relative to `path`, in UTF-8 byte order; else empty.
        id_prefix: For folders: what stands before a file's path in SRC in its sample_id (`<SRC's name>/` where there
            are several SRC); else empty.
        run: The run that holds its features, where that is not the one that lists it: a reference that is searched or
            appended to; else empty.
    """

    number: int
    name: str
    kind: ShardKind
    path: str
    size: int
    mark: str
    files: tuple[str, ...] = ()
    id_prefix: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class ImageSample:
    """One sample as a reader yields it.

    Attributes:
        row: Place in the shard, from 0; with the shard's number it makes the node id.
        key: Key within the shard (with `#2`, `#3` where a tar repeats one).
        sample_id: `<shard name>/<key>`; in folders the path in SRC.
        image: The encoded bytes, or None where they could not be read.
        extension: Lower-case extension of the image member, without the dot; empty if unknown.
        member: Name of the image member, as stored (percent-encoded where not UTF-8).
        member_offset: Offset of the encoded bytes in the shard's file; -1 where they have none (parquet, folder).
        member_size: Length of the encoded bytes.
        caption: Caption, empty if there is none.
        meta: The fields of `read.meta_columns` as a JSON object, empty string if there are none.
        error: Why there is no image to judge; None if there is one.
        error_detail: Detail for a person.
    """

    row: int
    key: str
    sample_id: str
    image: bytes | None
    extension: str = ""
    member: str = ""
    member_offset: int = -1
    member_size: int = 0
    caption: str = ""
    meta: str = ""
    error: FailureReason | None = None
    error_detail: str = ""


def node_id(shard_number: int, row: int) -> int:
    """The 64-bit integer that stands for a sample inside shuffles: shard number << 32 | row."""
    return (shard_number << ROW_BITS) | row


Crawls = tuple[int, ...]
"""First node of each later crawl of a run, ascending; empty for a run over one crawl."""


def crawl_of(node: int, crawls: Crawls) -> int:
    """Which crawl a node is of, the oldest being 0."""
    return bisect_right(crawls, node)


def node_shard(node: Nodes) -> Nodes:
    """Shard number of a node id, or of each of an array."""
    return node >> ROW_BITS


def node_row(node: Nodes) -> Nodes:
    """Row, within its shard, of a node id, or of each of an array."""
    return node & ROW_MASK
