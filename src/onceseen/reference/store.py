"""The files of an index: what is in each, and how they are written and mapped.

    RUN/index/<key>/    the key says of which match job and which format; a directory that is there is complete
      index.json        counts and widths
      shards.npy        first sample of each shard
      samples.npy       one record a sample: sizes, verdict, where the picture lies, its first region
      names.bin         sample ids, representatives, components, keys, members, as UTF-8 one after the other
      exact.npy         pixel hash, half of the file's SHA-256 and sample, by hash
      regions.npy       what `judge` asks of a head of an exact class: thumb, PDQs, box, embedding; whole, then trimmed
      pdq*.npy, bands*  signatures and their order in each band (`bands.py`)
      codes.npy, cells* embedding codes by fine cell and the cells' centres (`fine_cells.py`)

All are mapped, none is read: opening takes milliseconds, and memory is what the queries touch.
"""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onceseen.core.files import join, read_json, write_json
from onceseen.core.records import ROW_BITS, Verdict
from onceseen.core.schemas import THUMB_SIDE
from onceseen.neighbors.packing import Records

INDEX_VERSION = 1
NONE = 0xFFFFFFFF
"""Length of a name that is not there."""
SAME = 0xFFFFFFFE
"""Length of a name that is the sample's own id."""
NAMES = ("sample_id", "representative_id", "component_id", "key", "member")
VERDICTS = tuple(Verdict)
TRIMMED_FLAG = 1
LOW_QUALITY = 2

SAMPLE = np.dtype(
    [
        ("names", "<i8"),  # where its names begin in names.bin
        ("lengths", "<u4", (len(NAMES),)),
        ("member_offset", "<i8"),
        ("member_size", "<i8"),
        ("region", "<i8"),  # the first of its one or two; -1: it is not compared
        ("regions", "u1"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("sharpness", "<f4"),
        ("copies", "<i4"),
        ("component_size", "<i4"),
        ("verdict", "u1"),
    ]
)
"""One sample: 85 bytes."""

EXACT = np.dtype([("hash", "u1", (16,)), ("sha", "u1", (16,)), ("sample", "<i8")])
"""One judged sample: 40 bytes."""

SHARD = np.dtype([("number", "<i8"), ("first", "<i8")])


def region_dtype(dimensions: int) -> np.dtype[np.void]:
    """A region of a picture that is compared: 4,186 bytes and 2 a dimension.

    Args:
        dimensions: d of the embeddings; 0 without a model.
    """
    return np.dtype(
        [
            ("sample", "<i8"),
            ("flags", "u1"),
            ("quality", "u1"),
            ("box", "<f4", (4,)),
            ("pdq", "u1", (32,)),
            ("mirrored", "u1", (32,)),
            ("thumb", "u1", (THUMB_SIDE, THUMB_SIDE)),
            ("embedding", "<f2", (dimensions,)),
        ]
    )


class Appender:
    """An .npy file that grows by blocks; its header is written once the number of rows is known."""

    def __init__(self, stream: BinaryIO, dtype: np.dtype[Any], width: tuple[int, ...] = ()) -> None:
        """Leaves room for the header."""
        self._stream = stream
        self._dtype = np.dtype(dtype)
        self._width = width
        self.rows = 0
        self._size = self._header()

    def append(self, block: NDArray[Any]) -> None:
        """Appends rows."""
        self._stream.write(np.ascontiguousarray(block, dtype=self._dtype).tobytes())
        self.rows += len(block)

    def _header(self) -> int:
        self._stream.seek(0)
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *self._width),
        }
        np.lib.format.write_array_header_1_0(self._stream, described)
        return self._stream.tell()

    def close(self) -> None:
        """Writes the true header.

        Raises:
            RuntimeError: If it does not fit the room that was left.
        """
        if self._header() != self._size:
            raise RuntimeError("numpy wrote a longer header for more rows; the index cannot be written")


@contextmanager
def appending(path: str, dtype: np.dtype[Any], width: tuple[int, ...] = ()) -> Iterator[Appender]:
    """Opens an .npy file that grows, in a directory that nobody else writes to."""
    with open(path, "wb") as stream:
        appender = Appender(stream, dtype, width)
        yield appender
        appender.close()


def mapped(path: str, *, write: bool = False, here_and_there: bool = False) -> NDArray[Any]:
    """An .npy file, mapped; an empty one is an array, since nothing can be mapped.

    Args:
        path: The file.
        write: Whether it is written to.
        here_and_there: Whether single records are read, far from each other: a page is then read alone, and not what
            lies around it, which would be thirty times as much.
    """
    try:
        found = np.load(path, mmap_mode="r+" if write else "r", allow_pickle=False)
    except ValueError:
        found = np.load(path, allow_pickle=False)
        if found.size:
            raise
        return np.asarray(found)
    if here_and_there:
        found._mmap.madvise(mmap.MADV_RANDOM)
    return np.asarray(found)


def save(directory: str, name: str, array: NDArray[Any]) -> None:
    """Writes a whole .npy file."""
    with open(join(directory, name), "wb") as stream:
        np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


@contextmanager
def building(root: str, key: str, *, alone: bool) -> Iterator[str]:
    """A directory to build in, which becomes ROOT/KEY, whole, when the block ends without an error.

    Call it with the index's lock held.

    Args:
        root: Directory of indexes.
        key: Name of this one.
        alone: Whether all others in ROOT are of the same run and therefore stale.
    """
    for name in os.listdir(root):
        if name.startswith(".building"):  # of a killed process
            shutil.rmtree(join(root, name))
    temporary = join(root, f".building-{os.getpid()}")
    os.mkdir(temporary)
    try:
        yield temporary
        os.rename(temporary, join(root, key))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if alone:
        for name in os.listdir(root):
            if name != key and not name.startswith("."):
                shutil.rmtree(join(root, name))


@dataclass(frozen=True, slots=True)
class Facts:
    """index.json.

    Attributes:
        samples: Samples of the run, failed ones included.
        heads: Heads of exact classes that are compared.
        regions: Their regions.
        signatures: Regions with a PDQ that is good enough.
        dimensions: d of the embeddings, 0 without.
        bytes: Size of all files.
    """

    samples: int
    heads: int
    regions: int
    signatures: int
    dimensions: int
    bytes: int

    def write(self, directory: str) -> None:
        """Writes the file."""
        write_json(
            join(directory, "index.json"),
            {"version": INDEX_VERSION, **{name: getattr(self, name) for name in self.__slots__}},
        )

    @classmethod
    def read(cls, directory: str) -> Facts:
        """Reads the file.

        Raises:
            FileNotFoundError: If there is no index.
        """
        found = read_json(join(directory, "index.json"))
        return cls(**{name: found[name] for name in cls.__slots__})


def directory_bytes(directory: str) -> int:
    """Bytes of the files in a directory."""
    return sum(os.path.getsize(join(directory, name)) for name in os.listdir(directory))


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of an index, mapped."""

    shards: Records
    records: Records
    names: NDArray[np.uint8]

    @classmethod
    def open(cls, directory: str) -> Samples:
        """Maps the three files."""
        size = os.path.getsize(join(directory, "names.bin"))
        names = (
            np.memmap(join(directory, "names.bin"), dtype=np.uint8, mode="r")
            if size
            else np.empty(0, np.uint8)
        )
        return cls(
            mapped(join(directory, "shards.npy")),
            mapped(join(directory, "samples.npy"), here_and_there=True),
            np.asarray(names),
        )

    def text(self, sample: int, *wanted: str) -> list[str | None]:
        """Some of a sample's names; None where it has none."""
        record = self.records[sample]
        start = int(record["names"])
        found: dict[str, str | None] = {}
        for name, length in zip(NAMES, record["lengths"].tolist(), strict=True):
            if length == NONE:
                found[name] = None
            elif length == SAME:
                found[name] = found["sample_id"]
            else:
                raw = self.names[start : start + length].tobytes()
                found[name] = raw.decode("utf-8", "surrogateescape")
                start += length
        return [found[name] for name in wanted]

    def node(self, sample: int) -> int:
        """Node id of a sample."""
        place = int(np.searchsorted(self.shards["first"], sample, side="right")) - 1
        number, first = self.shards[place].tolist()
        return int(number << ROW_BITS | (sample - first))
