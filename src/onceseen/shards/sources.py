"""What a SRC argument names: a file, a directory or a glob, on this machine or behind a Beam filesystem."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from onceseen.core.files import is_local
from onceseen.core.ids import name_order
from onceseen.core.remote import TEMP_MARK, StoredFile, matching, remote_files

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a SRC.

    Attributes:
        path: Where it is.
        relative: Its path in SRC, with `/`.
        size: Bytes; 0 where it cannot be told, which reading the file then shows.
        mark: Modification mark.
    """

    path: str
    relative: str
    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Source:
    """A SRC argument and what it names.

    Attributes:
        text: The argument, or several (files of one directory), for messages.
        root: What paths are relative to.
        explicit: Whether its files were named one by one.
        files: Its files, hidden ones left out, in UTF-8 byte order of their relative paths.
    """

    text: str
    root: str
    explicit: bool
    files: tuple[FoundFile, ...]

    @property
    def name(self) -> str:
        """The SRC's own name, for ids where there are several."""
        root = os.path.abspath(self.root) if is_local(self.root) else self.root
        return root.rstrip("/").rpartition("/")[2]


def find_sources(sources: list[str]) -> list[Source]:
    """Resolves SRC arguments; files given one by one are put together by directory.

    Raises:
        ValueError: If one names nothing, or cannot be read.
    """
    found = [_find_local(s) if is_local(s) else _find_remote(s) for s in sources]
    merged: list[Source] = [s for s in found if not s.explicit]
    loose: dict[str, list[Source]] = {}
    for source in found:
        if source.explicit:
            loose.setdefault(source.root, []).append(source)
    for root, parts in loose.items():
        text = parts[0].text if len(parts) == 1 else f"{parts[0].text} and {len(parts) - 1} more"
        merged.append(Source(text, root, True, _ordered([f for part in parts for f in part.files])))
    return merged


def _ordered(files: list[FoundFile]) -> tuple[FoundFile, ...]:
    shown = [f for f in files if not _is_hidden(f.relative)]
    return tuple(sorted(shown, key=lambda f: name_order(f.relative)))


def _is_hidden(relative: str) -> bool:
    return TEMP_MARK in relative or any(part.startswith(".") for part in relative.split("/"))


def _nothing(source: str) -> ValueError:
    hint = "; braces are for the shell: leave them unquoted, or use * and ?" if "{" in source else ""
    return ValueError(
        f"SRC {source!r} matches nothing; expected a file, a directory or a glob that exists{hint}"
    )


def _find_local(source: str) -> Source:
    path = os.path.normpath(source)
    if os.path.isdir(path):
        return Source(source, path, False, _ordered(list(_walk(path, path, source))))
    if os.path.exists(path):
        if not os.access(path, os.R_OK):
            raise ValueError(f"SRC {source!r} cannot be read by this user; expected a readable file")
        root = os.path.dirname(path) or "."
        return Source(source, root, True, (_local_file(path, os.path.basename(path)),))
    matches = sorted(glob.glob(source, recursive=True), key=name_order) if _GLOB.search(source) else []
    if not matches:
        raise _nothing(source)
    head = re.split(_GLOB, source, maxsplit=1)[0]
    root = os.path.normpath(os.path.dirname(head) or ".")
    files = {f.path: f for match in matches for f in _walk(os.path.normpath(match), root, source)}
    return Source(source, root, False, _ordered(list(files.values())))


def _walk(path: str, root: str, source: str) -> Iterator[FoundFile]:
    """A file, or all files under a directory; links to directories are not followed."""

    def refuse(error: OSError) -> None:
        raise ValueError(
            f"SRC {source!r} cannot be listed: {error}; expected a readable directory"
        ) from error

    if not os.path.isdir(path):
        yield _local_file(path, os.path.relpath(path, root))
        return
    for directory, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for name in names:
            full = os.path.join(directory, name)
            yield _local_file(full, os.path.relpath(full, root))


def _local_file(path: str, relative: str) -> FoundFile:
    try:
        status = os.stat(path)
    except OSError:  # a dangling link: reading it will tell
        return FoundFile(path, relative, 0, "missing")
    return FoundFile(path, relative, status.st_size, str(status.st_mtime_ns))


def _find_remote(source: str) -> Source:
    path = source.rstrip("/")
    try:
        store = remote_files(path)
        if _GLOB.search(path):
            root = re.split(_GLOB, path, maxsplit=1)[0].rpartition("/")[0]
            listed = list(store.list_under(root))
            found = matching(listed, path) or matching(listed, f"{path}/**")
        else:
            root = path
            found = list(store.list_under(path))
            exact = store.find(path) if not found and source == path else None
            if exact is not None:
                root, _, name = path.rpartition("/")
                return Source(source, root, True, (_remote_file(exact, name),))
    except OSError as error:
        raise ValueError(
            f"SRC {source!r} cannot be listed: {error}; expected a place that this user may list"
        ) from error
    if not found:
        raise _nothing(source)
    return Source(source, root, False, _ordered([_remote_file(f, f.path[len(root) + 1 :]) for f in found]))


def _remote_file(file: StoredFile, relative: str) -> FoundFile:
    return FoundFile(file.path, relative, file.size, file.mark)
