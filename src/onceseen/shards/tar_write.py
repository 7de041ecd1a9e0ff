"""Writes a tar again without the samples that are dropped: bytes are moved, nothing is decoded or built anew.

Members of written samples, headers and padding included, are copied as they stand, in order; so are members
that belong to no sample. After a written sample's last member comes `<key>.onceseen.json`, in place of one
that an earlier run left. The output ends with the end-of-archive mark, padded to a whole record.

    input    [a.jpg][a.txt][b.jpg][b.txt][dir/][c.jpg] 0 0          b is dropped
    output   [a.jpg][a.txt][a.onceseen.json][dir/][c.jpg][c.onceseen.json] 0 0
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import BinaryIO

from onceseen.core.config import WriteConfig
from onceseen.core.failures import FailureReason
from onceseen.core.files import atomic_write, open_read
from onceseen.core.records import Shard
from onceseen.shards.early_sync import EarlySync
from onceseen.shards.extensions import OWN_EXTENSION
from onceseen.shards.grouping import MemberGrouper, raw_key
from onceseen.shards.ledger import Ledger, verdict_json
from onceseen.shards.records import VerdictRow
from onceseen.shards.tar_members import BLOCK, END_MARK, RECORD, TarDamage, TarMember, walk_members
from onceseen.shards.window import Window

_NAME_BYTES = 100
_TAIL = (bytes(100) + b"ustar  \0").ljust(BLOCK - 157, b"\0")
_FIXED_SUM = sum(_TAIL) + 8 * 0x20 - 1


def rewrite_tar(
    shard: Shard,
    verdicts: Mapping[str, VerdictRow],
    target: str,
    write: WriteConfig,
    ledger: Ledger,
) -> list[tuple[str, VerdictRow]]:
    """Writes the tar at `target`; a shard of which nothing is kept becomes an empty tar.

    A damaged tar gives what is complete before the damage, and `ledger.damaged` says so. One that could not
    be opened when it was read, and cannot now, gives an empty tar.

    Memory: a window of 1 MiB. Cost: one sequential pass over the input, one large write for each window.

    Returns:
        (key as stored, row) of every sample met, in order: what the sidecar is filtered by.

    Raises:
        ValueError: If samples and verdicts do not match one to one; the output is then not there.
        OSError: If the tar cannot be read though it could be before, or the output cannot be written.
    """
    with atomic_write(target, fsync=write.fsync) as output:
        try:
            stream = open_read(shard.path)
        except OSError as error:
            if verdicts:
                raise
            ledger.damaged = f"{FailureReason.UNREADABLE_SHARD}: {error}"
            _write_end(output, 0, ledger)
            return []
        with stream, EarlySync(output, fsync=write.fsync) as sink:
            window = Window(stream)
            met = _copy_samples(_Copier(window, sink), verdicts, write, ledger)
        ledger.check()
        ledger.bytes_read += window.bytes_read
        _write_end(output, sink.written, ledger)
        return met


def _copy_samples(
    copier: _Copier, verdicts: Mapping[str, VerdictRow], write: WriteConfig, ledger: Ledger
) -> list[tuple[str, VerdictRow]]:
    grouper = MemberGrouper()
    members = walk_members(copier.window)
    met: list[tuple[str, VerdictRow]] = []
    row: VerdictRow | None = None
    note = b""  # the json member that the current sample still lacks
    while True:
        try:
            member = next(members, None)
        except TarDamage as damage:
            ledger.damaged = f"{damage.reason}: {damage.detail}"
            member = None
        if member is None:
            break
        placed = grouper.place(member)
        if placed.starts and placed.key is not None:
            copier.add(note)
            row = ledger.judge(placed.key)
            met.append((grouper.stored_key, verdicts[placed.key]))
            note = _json_member(raw_key(member.raw_name), row) if row is not None and write.member else b""
            ledger.members_added += bool(note)
        if placed.key is not None and row is None:
            continue
        if placed.extension == OWN_EXTENSION and write.member and placed.key is not None:
            continue
        copier.copy(member)
        if placed.key is None:
            ledger.members_passed += 1
        else:
            ledger.members_copied += 1
    copier.add(note)
    copier.flush()
    return met


class _Copier:
    """Moves ranges of a tar, and new members, to the output, a window at a time.

    The open range always lies in the window: it is written before the window slides over it.
    """

    def __init__(self, window: Window, sink: EarlySync) -> None:
        self.window = window
        self._sink = sink
        self._begin = self._end = 0
        self._parts: list[memoryview | bytes] = []
        window.before_slide = self.flush

    def copy(self, member: TarMember) -> None:
        """Appends a member as it stands, padded where the file ends within its padding."""
        if member.begin != self._end:
            self._close_range()
            self._begin = self._end = member.begin
        if member.end <= self.window.stop:
            self._end = member.end
        while self._end < member.end:
            if self.window.stop <= self._end:
                self.window.hold = self._end
                self.window.view(self._end, 1)
            self._end = min(member.end, self.window.stop)
        missing = -(member.end - member.begin) % BLOCK
        if missing:
            self.add(bytes(missing))

    def add(self, data: bytes) -> None:
        """Appends bytes that are not in the input."""
        if data:
            self._close_range()
            self._parts.append(data)

    def flush(self) -> None:
        """Writes what was appended."""
        self._close_range()
        if self._parts:
            self._sink.write(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))
            self._parts.clear()

    def _close_range(self) -> None:
        if self._begin < self._end:
            start = self.window.start
            self._parts.append(self.window.buffer[self._begin - start : self._end - start])
        self._begin = self._end


def end_of_archive(written: int) -> bytes:
    """The end-of-archive mark after so many bytes, filled up to a record as tar does."""
    return END_MARK + bytes(-(written + len(END_MARK)) % RECORD)


def _write_end(output: BinaryIO, written: int, ledger: Ledger) -> None:
    end = end_of_archive(written)
    output.write(end)
    ledger.bytes_written += written + len(end)


def _json_member(key: bytes, row: VerdictRow) -> bytes:
    """The `<key>.onceseen.json` member of the sample with this key as stored."""
    name = key + b"." + OWN_EXTENSION.encode()
    data = verdict_json(row)
    long_name = b""
    if len(name) > _NAME_BYTES:
        long_name = member_bytes(b"././@LongLink", name + b"\0", b"L")
    return long_name + member_bytes(name[:_NAME_BYTES], data)


def member_bytes(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    """A GNU tar member that says nothing of when or by whom: mode 0644, ids 0, time 0.

    Args:
        name: At most 100 bytes.
        data: Its content.
        kind: Type flag; `0` is a file.
    """
    size = len(data)
    head = name.ljust(_NAME_BYTES, b"\0") + b"0000644\x000000000\x000000000\0%011o\x0000000000000\0" % size
    # Adler-32's low half is 1 + the sum of the bytes: under 2^15 for these headers, so exact
    checksum = (zlib.adler32(head) & 0xFFFF) + kind[0] + _FIXED_SUM
    return b"%b%06o\0 %b%b%b%b" % (head, checksum, kind, _TAIL, data, bytes(-size % BLOCK))
