"""Files by one set of calls, wherever they are: this machine, gs://, s3://, hdfs://.

A name that exists is a file that is complete: local writes go to a temporary name beside the target and are renamed
when whole, remote ones appear as their store has it (`core/remote.py`). A retried or killed task leaves nothing
half-written under a name. No other module of the pipeline opens files; a test holds that.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.ids import name_order
from onceseen.core.remote import READ_AHEAD, TEMP_MARK, remote_files, scheme_of

_WHOLE_BYTES = 8 << 20
"""A remote table up to this is fetched whole: its footer and columns one by one would each be a request."""
_FEW_BYTES = 256 << 10


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own file system."""
    return not scheme_of(path)


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


def join(*parts: str) -> str:
    """Joins path parts with the file system's separator; later parts may hold `/`."""
    head, *rest = parts
    if is_local(head):
        return os.path.join(head, *rest)
    return "/".join([head.rstrip("/"), *(part.strip("/") for part in rest)]) if rest else head


def absolute(path: str) -> str:
    """A local path from the root on; any other as it is."""
    return os.path.abspath(path) if is_local(path) else path


def real_path(path: str) -> str:
    """A path without links and closing slashes, to be compared with others."""
    return os.path.realpath(path) if is_local(path) else path.rstrip("/")


def beside(base: str, path: str) -> str:
    """A path that may be relative to a directory, such as `../run`, or `scan` in a store; as it is where it is not."""
    if not is_local(path) or os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(base, path)) if is_local(base) else join(base, path)


def relative_to(base: str, path: str) -> str:
    """A local path as seen from a local directory, so that both can be moved together; another as it is."""
    return os.path.relpath(path, base) if is_local(path) and is_local(base) else path


def open_read(path: str, *, read_ahead: int = READ_AHEAD) -> BinaryIO:
    """Opens a file for reading bytes, never decompressing by its name. Seekable.

    Args:
        path: The file.
        read_ahead: The least bytes that a store is asked for at once after a seek; local files are read as asked.

    Raises:
        FileNotFoundError: If it is not there.
        OSError: If it cannot be opened.
    """
    return open(path, "rb") if is_local(path) else remote_files(path).open_read(path, read_ahead)


def open_native(path: str) -> BinaryIO | pa.NativeFile:
    """Opens a file for Arrow to read: on this machine by itself, which takes no second copy of what it reads.

    Raises:
        OSError: As `open_read` does.
    """
    return pa.OSFile(os.fsencode(path)) if is_local(path) else open_read(path)


def open_parts(path: str) -> BinaryIO:
    """Opens a file of which only some small parts are wanted, here and there. Raises as `open_read` does."""
    return open_read(path, read_ahead=_FEW_BYTES)


def read_bytes(path: str) -> bytes:
    """The whole of a (small) file."""
    with open_read(path) as stream:
        return stream.read()


def read_bytes_if_there(path: str) -> bytes | None:
    """The whole of a (small) file, None where there is none: one request, not one to ask and one to read."""
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def exists(path: str) -> bool:
    """Whether a file is there; where there are directories, or a directory."""
    return os.path.exists(path) if is_local(path) else remote_files(path).exists(path)


def occupied(path: str) -> bool:
    """Whether a file or directory is there; in a store without directories, anything under the path."""
    return os.path.lexists(path) if is_local(path) else remote_files(path).occupied(path)


def is_directory(path: str) -> bool:
    """Whether a local path is a directory; of a remote one, whether it is there and no file of some size."""
    if is_local(path):
        return os.path.isdir(path)
    found = remote_files(path).find(path)
    return (found is None or not found.size) and remote_files(path).occupied(path)


def file_size(path: str) -> int | None:
    """Bytes of a local file; None where asking would be a request."""
    return os.path.getsize(path) if is_local(path) else None


def free_bytes(directory: str) -> int | None:
    """Free disk where a directory is, None where that has no meaning or is not known."""
    return shutil.disk_usage(directory).free if is_local(directory) else None


def make_directory(path: str) -> None:
    """Makes a directory and its parents; nothing where it is there already."""
    if is_local(path):
        os.makedirs(path, exist_ok=True)
    else:
        remote_files(path).make_directory(path)


def remove(path: str) -> None:
    """Removes a file or a directory tree; nothing where it is not there."""
    if not is_local(path):
        store = remote_files(path)
        store.remove_files([*(file.path for file in store.list_under(path)), path])
    elif os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)


def remove_files(paths: Sequence[str]) -> None:
    """Removes some files of one directory tree, in few requests; nothing where they are not there."""
    if not paths:
        return
    if not is_local(paths[0]):
        remote_files(paths[0]).remove_files(paths)
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.remove(path)


@contextlib.contextmanager
def atomic_write(path: str, *, fsync: bool = True) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name, whole, when the block ends without an error.

    Two attempts at the same path never share a temporary name (process and thread are in it); whichever ends last
    wins, and since content is a function of the input both are the same bytes.

    Args:
        path: Final name.
        fsync: Whether local bytes are forced to disk before the rename.
    """
    if not is_local(path):
        with remote_files(path).write(path) as stream:
            yield stream
        return
    directory, name = os.path.split(path)
    make_directory(directory)
    temp = os.path.join(directory, f"{TEMP_MARK}.{os.getpid()}.{threading.get_ident()}.{name}")
    try:
        with open(temp, "wb") as stream:
            yield stream
            stream.flush()
            if fsync:
                os.fsync(stream.fileno())
        os.replace(temp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temp)
        raise


def write_bytes(path: str, data: bytes) -> None:
    """Writes a small file at once, atomically."""
    with atomic_write(path) as stream:
        stream.write(data)


def create_new(path: str, data: bytes) -> bool:
    """Writes a small remote file unless there is one by its name; whether it did. How sure: see `RemoteFiles`."""
    return remote_files(path).create_new(path, data)


def write_json(path: str, value: object) -> None:
    """Writes JSON with sorted keys, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Reads a JSON file."""
    return json.loads(read_bytes(path))


def read_json_if_there(path: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Reads a JSON file; None where there is none."""
    data = read_bytes_if_there(path)
    return None if data is None else json.loads(data)


def write_table(path: str, table: pa.Table, *, row_group_size: int | None = None) -> None:
    """Writes a parquet file, atomically; the bytes are a function of the table and the library's version."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=row_group_size)
    write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def open_table(path: str) -> Iterator[BinaryIO | pa.BufferReader]:
    """Opens one of Onceseen's parquet files; a remote one of up to 8 MiB is fetched whole.

    Raises:
        FileNotFoundError: If it is not there.
    """
    with open_read(path) as stream:
        if is_local(path):
            yield stream
            return
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        yield pa.BufferReader(stream.read()) if size <= _WHOLE_BYTES else stream


def read_table(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a parquet file, or some of its columns."""
    with open_table(path) as stream:
        return pq.read_table(stream, columns=list(columns) if columns is not None else None)


def read_table_if_there(path: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Reads a parquet file, or some of its columns; None where there is no file."""
    try:
        return read_table(path, columns)
    except FileNotFoundError:
        return None


def remove_temporaries(directory: str) -> int:
    """Removes what killed writers left behind under a directory; call it only where nobody writes.

    Returns:
        How many files, or uploads of a store, were removed.
    """
    if not is_local(directory):
        return remote_files(directory).remove_unfinished(directory)
    left = [path for path in _files_under(directory) if TEMP_MARK in path.rpartition("/")[2]]
    remove_files(left)
    return len(left)


def _files_under(directory: str) -> list[str]:
    if is_local(directory):
        return [os.path.join(root, name) for root, _, names in os.walk(directory) for name in names]
    return [file.path for file in remote_files(directory).list_under(directory)]


def list_files(directory: str, suffix: str = "") -> list[str]:
    """Paths of all files under a directory, recursively, in UTF-8 byte order, temporary files left out.

    Nothing where the directory is not there.
    """
    kept = [p for p in _files_under(directory) if p.endswith(suffix) and TEMP_MARK not in p]
    return sorted(kept, key=name_order)
