"""Files through Beam's filesystems: local, gs://, s3://, hdfs:// by the same calls.

Writes go to a temporary name beside the target and are renamed when whole, so that a name that exists is a file
that is complete, and a retried or killed task leaves nothing half-written under it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.ids import name_order
from onceseen.quiet import import_beam

if TYPE_CHECKING:
    from apache_beam.io.filesystems import FileSystems

TEMP_MARK = ".onceseen-tmp"
_UNCOMPRESSED = "uncompressed"
"""Beam's `CompressionTypes.UNCOMPRESSED`."""


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own file system."""
    return "://" not in path


def plain_path(path: str) -> str:
    """A `file://` URL as the path that it names; any other path as it is.

    Raises:
        ValueError: If the URL names another machine.
    """
    url = urlsplit(path)
    if url.scheme != "file" or not path.lower().startswith("file://"):
        return path
    if url.netloc not in ("", "localhost"):
        raise ValueError(f"{path} names the machine {url.netloc!r}; expected file:/// and an absolute path")
    return unquote(url.path)


def beam_files() -> FileSystems:
    """Beam's filesystems, imported by the first path that is not local: that takes seconds."""
    import_beam()
    from apache_beam.io.filesystems import FileSystems

    return FileSystems()


def join(*parts: str) -> str:
    """Joins path parts with the file system's separator; later parts may hold `/`."""
    head, *rest = parts
    if not rest:
        return head
    return os.path.join(head, *rest) if is_local(head) else str(beam_files().join(head, *rest))


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading bytes, never decompressing by its name. Seekable."""
    if is_local(path):
        return open(path, "rb")
    return cast(BinaryIO, beam_files().open(path, compression_type=_UNCOMPRESSED))


def read_bytes(path: str) -> bytes:
    """The whole of a (small) file."""
    with open_read(path) as stream:
        return stream.read()


def exists(path: str) -> bool:
    """Whether a file or directory is there."""
    return os.path.exists(path) if is_local(path) else bool(beam_files().exists(path))


def make_directory(path: str) -> None:
    """Makes a directory and its parents; nothing where it is there already."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    elif not exists(path):
        with contextlib.suppress(OSError):  # object stores have no directories
            beam_files().mkdirs(path)


def remove(path: str) -> None:
    """Removes a file or a directory tree; nothing where it is not there."""
    if not exists(path):
        return
    if not is_local(path):
        beam_files().delete([path])
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


@contextlib.contextmanager
def atomic_write(path: str, *, fsync: bool = True) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` and renames it when the block ends without an error.

    Two attempts at the same path never share a temporary name (process and thread are in it); whichever renames
    last wins, and since content is a function of the input both are the same bytes.

    Args:
        path: Final name.
        fsync: Whether local bytes are forced to disk before the rename.
    """
    directory, name = os.path.split(path)
    make_directory(directory)
    temp = join(directory, f"{TEMP_MARK}.{os.getpid()}.{threading.get_ident()}.{name}")
    try:
        if is_local(path):
            with open(temp, "wb") as stream:
                yield stream
                stream.flush()
                if fsync:
                    os.fsync(stream.fileno())
            os.replace(temp, path)
        else:
            with beam_files().create(temp, compression_type=_UNCOMPRESSED) as stream:
                yield cast(BinaryIO, stream)
            remove(path)
            beam_files().rename([temp], [path])
    except BaseException:
        with contextlib.suppress(Exception):
            remove(temp)
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Writes a small file at once, atomically."""
    with atomic_write(path) as stream:
        stream.write(data)


def write_json(path: str, value: object) -> None:
    """Writes JSON with sorted keys, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Reads a JSON file."""
    return json.loads(read_bytes(path))


def write_table(path: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Writes a parquet file, atomically; the bytes are a function of the table and the library's version."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=row_group_size)
    write_bytes(path, buffer.getvalue())


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """Reads a parquet file, or some of its columns."""
    with open_read(path) as stream:
        return pq.read_table(stream, columns=columns)


def remove_temporaries(directory: str) -> int:
    """Removes what killed writers left behind under a directory; call it only where nobody writes.

    Returns:
        How many files were removed.
    """
    if not exists(directory):
        return 0
    left = [path for path in _files_under(directory) if TEMP_MARK in path.rpartition("/")[2]]
    for path in left:
        remove(path)
    return len(left)


def _files_under(directory: str) -> list[str]:
    if is_local(directory):
        return [os.path.join(root, name) for root, _, names in os.walk(directory) for name in names]
    match = beam_files().match([join(directory, "**")])
    return [m.path for m in match[0].metadata_list]


def list_files(directory: str, suffix: str = "") -> list[str]:
    """Paths of all files under a directory, recursively, in UTF-8 byte order, temporary files left out."""
    kept = [
        p
        for p in _files_under(directory)
        if p.endswith(suffix) and TEMP_MARK not in p and not p.endswith("/")
    ]
    return sorted(kept, key=name_order)
