"""Files that are not on this machine: what each kind of store can do, behind one set of calls.

`gs://`, `hdfs://` and every other scheme go through Beam's filesystem of that name; `s3://` has a module of its own
(`core/s3.py` says why). All take their settings from Beam's options: on workers Beam sets them, in the command's own
process `use_beam_options` does.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from onceseen.quiet import import_beam

if TYPE_CHECKING:
    from apache_beam.io.filesystem import FileSystem
    from apache_beam.io.filesystems import FileSystems

TEMP_MARK = ".onceseen-tmp"
"""Part of the names of files that are not whole yet."""
READ_AHEAD = 8 << 20
"""Bytes that a store is asked for at a time where it gives ranges and nothing else is said."""
SCHEME_EXTRAS = MappingProxyType({"gs": "gcp", "s3": "aws", "hdfs": "hdfs"})
"""Scheme to the extra of the package that brings its client: `pip install 'onceseen[gcp]'`."""
_CLIENT_MODULES = MappingProxyType({"gs": "google.cloud.storage", "s3": "boto3", "hdfs": "hdfs"})
_UNCOMPRESSED = "uncompressed"
"""Beam's `CompressionTypes.UNCOMPRESSED`."""
_GLOB = re.compile(r"([*?\[])")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store.

    Attributes:
        path: With its scheme.
        size: Bytes.
        mark: Changes when the file does.
    """

    path: str
    size: int
    mark: str


class RemoteFiles(Protocol):
    """What Onceseen asks of a store. Errors are `OSError`s that name the path; a missing file `FileNotFoundError`."""

    def open_read(self, path: str, read_ahead: int) -> BinaryIO:
        """A seekable stream."""

    def write(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A stream whose file appears under its name, whole, when the block ends without an error."""

    def create_new(self, path: str, data: bytes) -> bool:
        """Writes a small file unless there is one by its name; whether it did."""

    def exists(self, path: str) -> bool:
        """Whether a file is there, or (where there are any) a directory."""

    def find(self, path: str) -> StoredFile | None:
        """One file, or None."""

    def list_under(self, directory: str) -> Iterator[StoredFile]:
        """All files under a directory, at any depth, in any order; nothing where it is not there."""

    def occupied(self, path: str) -> bool:
        """Whether there is a file or a directory, or (without directories) anything under the path."""

    def remove_files(self, paths: Sequence[str]) -> None:
        """Removes files; those that are not there are no error."""

    def make_directory(self, path: str) -> None:
        """Makes a directory where the store has them."""

    def remove_unfinished(self, directory: str) -> int:
        """Removes what killed writers left behind under a directory; how much it was."""


def scheme_of(path: str) -> str:
    """`gs` of `gs://bucket/name`; empty for a path of this machine."""
    scheme, found, _ = path.partition("://")
    return scheme if found else ""


def beam_files() -> FileSystems:
    """Beam's filesystems, imported by the first path that is not local: that takes seconds."""
    import_beam()
    from apache_beam.io.filesystems import FileSystems

    return FileSystems()


def use_beam_options(flags: Sequence[str]) -> None:
    """Has this process open remote files by some Beam options, such as `--s3_endpoint_url=...`.

    Args:
        flags: As on the command line, with their dashes.

    Raises:
        ValueError: If Beam knows one, but not its value.
    """
    import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    beam_files().set_options(PipelineOptions([*flags]))


def current_options() -> Any:  # noqa: ANN401 - Beam's PipelineOptions, or a mapping on a worker
    """The Beam options of this process: those set here or, on a worker, by Beam; else Beam's defaults."""
    files = beam_files()
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.value_provider import RuntimeValueProvider

    if files._pipeline_options is None:
        found = RuntimeValueProvider.runtime_options or {}
        files.set_options(PipelineOptions.from_dictionary(found))
    return files._pipeline_options


def remote_files(path: str) -> RemoteFiles:
    """The store of a path's scheme.

    Raises:
        ValueError: If nothing here can open that scheme, with what to install.
    """
    return _store(scheme_of(path))


@functools.cache
def _store(scheme: str) -> RemoteFiles:
    extra = SCHEME_EXTRAS.get(scheme)
    if extra is not None and not _installed(_CLIENT_MODULES[scheme]):
        raise ValueError(
            f"{scheme}:// paths need {_CLIENT_MODULES[scheme]}, which is not installed here: "
            f"pip install 'onceseen[{extra}]'"
        )
    if scheme == "s3":
        from onceseen.core.s3 import S3Files

        return S3Files()
    import_beam()
    from apache_beam.io.filesystem import FileSystem

    if scheme not in (found.scheme() for found in FileSystem.get_all_subclasses()):
        beam_files()  # registers Beam's own
    if scheme not in (found.scheme() for found in FileSystem.get_all_subclasses()):
        raise ValueError(
            f"{scheme}:// is no file system that Onceseen can open; expected a path of this machine or one of "
            f"{', '.join(f'{known}://' for known in SCHEME_EXTRAS)}"
        )
    return BeamFiles(scheme)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


@dataclass(frozen=True, slots=True)
class BeamFiles:
    """The files of one scheme through Beam's filesystem of that name.

    On gs:// an object appears when its upload is finished, and an upload can be given up. Elsewhere a write goes to a
    temporary name beside the target and is renamed, since Beam's streams publish what was written so far when an error
    closes them. Where a rename does not replace (hdfs://), the old file is removed first: for a moment there is none.
    """

    scheme: str

    def _system(self) -> FileSystem:
        current_options()
        try:
            return beam_files().get_filesystem(f"{self.scheme}://")
        except ValueError as error:
            hint = "; give --hdfs_host, --hdfs_port and --hdfs_user" if self.scheme == "hdfs" else ""
            raise OSError(f"{self.scheme}:// cannot be opened: {error}{hint}") from error

    def open_read(self, path: str, read_ahead: int) -> BinaryIO:
        """Opens a file; Beam's own buffer of 16 or 20 MiB a read gives way to the one asked for."""
        with _errors_of(path):
            try:
                stream = self._opened(path, read_ahead)
            except FileNotFoundError:
                raise
            except Exception as error:
                if getattr(error, "code", None) == HTTPStatus.NOT_FOUND or not self.exists(path):
                    raise FileNotFoundError(f"{path} is not there") from error
                raise
        if isinstance(stream, io.BufferedReader):
            return io.BufferedReader(stream.detach(), read_ahead)
        return cast(BinaryIO, stream)

    def _opened(self, path: str, read_ahead: int) -> Any:  # noqa: ANN401 - a stream of Beam's
        if self.scheme != "gs":
            return self._system().open(path, compression_type=_UNCOMPRESSED)
        from apache_beam.io.gcp.gcsio import GcsIO

        return GcsIO(pipeline_options=current_options()).open(path, "rb", read_buffer_size=read_ahead)

    @contextlib.contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        """Writes under the final name, or a temporary one (process and thread are in it) that is renamed."""
        system = self._system()
        if self.scheme == "gs":
            with _errors_of(path):
                stream = system.create(path, compression_type=_UNCOMPRESSED)
            try:
                yield cast(BinaryIO, stream)
                with _errors_of(path):
                    stream.close()
            except BaseException:
                stream.terminate()
                raise
            return
        directory, _, name = path.rpartition("/")
        self.make_directory(directory)
        temp = f"{directory}/{TEMP_MARK}.{os.getpid()}.{threading.get_ident()}.{name}"
        try:
            with system.create(temp, compression_type=_UNCOMPRESSED) as stream:
                yield cast(BinaryIO, stream)
            with _errors_of(path):
                if system.has_dirs() and system.exists(path):
                    system.delete([path])
                system.rename([temp], [path])
        except BaseException:
            with contextlib.suppress(Exception):
                self.remove_files([temp])
            raise

    def create_new(self, path: str, data: bytes) -> bool:
        """As the protocol says on hdfs://; elsewhere two calls within the same moment may both write."""
        if self.exists(path):
            return False
        self.make_directory(path.rpartition("/")[0])
        with _errors_of(path), self._system().create(path, compression_type=_UNCOMPRESSED) as stream:
            stream.write(data)
        return True

    def exists(self, path: str) -> bool:
        """Asks."""
        with _errors_of(path):
            return bool(self._system().exists(path))

    def find(self, path: str) -> StoredFile | None:
        """Looks one file up."""
        with _errors_of(path):
            system = self._system()
            if not system.exists(path):
                return None
            found = system.metadata(path)
        return StoredFile(path, found.size_in_bytes, repr(found.last_updated_in_seconds))

    def list_under(self, directory: str) -> Iterator[StoredFile]:
        """Lists level by level where the store has directories: there Beam's listing is of one level."""
        with _errors_of(directory):
            system = self._system()
            if not system.has_dirs():
                found = system.match([f"{_quoted(directory)}/**"])[0].metadata_list
            elif not system.exists(directory):
                return
            else:
                found = list(_walk(system, directory))
        for one in found:
            if not one.path.endswith("/"):
                yield StoredFile(one.path, one.size_in_bytes, repr(one.last_updated_in_seconds))

    def occupied(self, path: str) -> bool:
        """Whether anything is at or under the path."""
        with _errors_of(path):
            system = self._system()
            if system.exists(path):
                return True
        return not system.has_dirs() and any(True for _ in self.list_under(path))

    def remove_files(self, paths: Sequence[str]) -> None:
        """Removes those that are there: some of Beam's filesystems fail at others."""
        with _errors_of(paths[0] if paths else ""):
            system = self._system()
            there = [path for path in paths if system.exists(path)]
            for start in range(0, len(there), 100):
                system.delete(there[start : start + 100])

    def make_directory(self, path: str) -> None:
        """Makes it where there are directories; another worker may be making it at the same time."""
        system = self._system()
        if not system.has_dirs():
            return
        with _errors_of(path):
            if system.exists(path):
                return
            try:
                system.mkdirs(path)
            except Exception:
                if not system.exists(path):
                    raise

    def remove_unfinished(self, directory: str) -> int:
        """Removes files with temporary names."""
        left = [f.path for f in self.list_under(directory) if TEMP_MARK in f.path.rpartition("/")[2]]
        self.remove_files(left)
        return len(left)


def _walk(system: FileSystem, directory: str) -> Iterator[Any]:
    """Files under a directory of a store that has them. Beam does not say which entries are directories."""
    from apache_beam.io.filesystem import BeamIOError

    for entry in system.match([f"{_quoted(directory)}/*"])[0].metadata_list:
        if entry.size_in_bytes:
            yield entry
            continue
        try:  # a directory has size 0; listing an empty file fails
            yield from _walk(system, entry.path)
        except BeamIOError:
            yield entry


def _quoted(path: str) -> str:
    """A path as a Beam pattern that matches it alone."""
    return _GLOB.sub(r"[\1]", path)


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Every error of a client becomes an `OSError` that names the path; each library has errors of its own."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        details = getattr(error, "exception_details", None)  # Beam's errors hide their cause there
        cause = next(iter(details.values())) if details else error
        text = " ".join(str(cause).split())
        raise OSError(text if path in text else f"{path}: {text or type(cause).__name__}") from error


def matching(files: Iterable[StoredFile], pattern: str) -> list[StoredFile]:
    """Files whose path matches a Beam pattern: `*` stays within a directory, `**` does not."""
    import_beam()
    from apache_beam.io.filesystem import FileSystem

    match = re.compile(FileSystem.translate_pattern(pattern)).match
    return [file for file in files if match(file.path)]
