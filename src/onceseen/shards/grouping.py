"""Which sample a tar member belongs to: one rule, for reading and for rewriting.

As WebDataset does, consecutive members with the same key are one sample, and members without a key or
extension, directories and links belong to none and do not part a sample. Where WebDataset gives up, a key or
a member name that comes again starts a further sample:

    a.jpg a.txt b.jpg a.jpg a.jpg   ->   a {jpg txt}   b {jpg}   a#2 {jpg}   a#3 {jpg}
"""

from __future__ import annotations

import re
from typing import NamedTuple

from onceseen.core.ids import split_key
from onceseen.shards.tar_members import FILE_TYPES, TarMember

_META_NAME = re.compile(r"__[^/]*__($|/)")


class Placed(NamedTuple):
    """Where a member belongs.

    Attributes:
        key: Key of its sample; None if it belongs to no sample.
        extension: Lower-case extension; empty if it has none.
        starts: Whether it is the first member of its sample.
    """

    key: str | None
    extension: str
    starts: bool


_KNOWN = 256
_NOWHERE = Placed(None, "", False)


class UniqueKeys:
    """Gives a repeated key its number by order of appearance: `a`, `a#2`, `a#3`."""

    def __init__(self) -> None:
        """No key was seen."""
        self._counts: dict[str, int] = {}

    def claim(self, key: str) -> str:
        """The key itself if it is new, else the key with the next free number."""
        count = self._counts.get(key, 0) + 1
        unique = key
        if count > 1:
            while (unique := f"{key}#{count}") in self._counts:
                count += 1
            self._counts[unique] = 1
        self._counts[key] = count
        return unique


class MemberGrouper:
    """Places the members of one tar, in order. Memory: one short string a sample."""

    def __init__(self) -> None:
        """No member was placed."""
        self._keys = UniqueKeys()
        self._stored: str | None = None
        self._prefix = b"/"  # the sample's raw key and a dot; no name of a file begins with this one
        self._key: str | None = None
        self._extensions: set[str] = set()
        self._known: dict[bytes, str] = {}  # extensions as stored that were seen before

    @property
    def stored_key(self) -> str:
        """The current sample's key as stored: without the number of a repeated one."""
        return self._stored or ""

    def place(self, member: TarMember) -> Placed:
        """Places the next member."""
        if member.type in FILE_TYPES and member.raw_name.startswith(self._prefix):
            # the common case, told without taking names apart
            extension = self._known.get(member.raw_name[len(self._prefix) :])
            if extension is not None and extension not in self._extensions:
                self._extensions.add(extension)
                return Placed(self._key, extension, False)
        return self._place_by_name(member)

    def _place_by_name(self, member: TarMember) -> Placed:
        name = member.name
        stored, extension = split_key(name)
        if not (member.is_file or member.is_sparse):
            if member.is_link and extension and stored == self._stored:
                return Placed(self._key, extension, False)
            return _NOWHERE
        if not extension or not stored or stored.endswith("/") or _META_NAME.match(name):
            return _NOWHERE
        raw_extension = member.raw_name.rpartition(b"/")[2].partition(b".")[2]
        if raw_extension.isascii() and len(self._known) < _KNOWN:
            self._known[raw_extension] = extension
        if stored == self._stored and extension not in self._extensions:
            self._extensions.add(extension)
            return Placed(self._key, extension, False)
        self._stored = stored
        self._prefix = raw_key(member.raw_name) + b"."
        self._key = self._keys.claim(stored)
        self._extensions = {extension}
        return Placed(self._key, extension, True)


def raw_key(raw_name: bytes) -> bytes:
    """The key of a name as stored: what comes before the first dot of its base name."""
    directory, slash, base = raw_name.rpartition(b"/")
    return directory + slash + base.partition(b".")[0]
