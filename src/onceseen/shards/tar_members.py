"""Members of a tar, with the offsets of their headers and data, and what is wrong with it where something is.

Python's tarfile gives neither the place of a member's first header block nor a sum of what is damaged, and
costs ten times as much a member. Understood: ustar with prefix, GNU long names and sparse files, PAX headers
(local and global).

Every tar ends in one of three ways: with its end-of-archive mark (two zero blocks, one is accepted), with
`TarDamage(TRUNCATED_TAR)` where the file ends before it, or with `TarDamage(BAD_TAR)` where a header is not
one or bytes follow the mark (tars joined by `cat`, of which every reader sees the first only). Members that
are complete come before; a member whose data is cut is not a member.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from onceseen.core.failures import FailureReason
from onceseen.core.ids import decode_name
from onceseen.shards.window import Window

BLOCK = 512
END_MARK = bytes(2 * BLOCK)
RECORD = 20 * BLOCK

# name, size, checksum, type, first byte of the prefix
_FIELDS = struct.Struct("100s24x12s12x8s1s188x1s")
_ZERO_BLOCK = bytes(BLOCK)
_ADLER_BASE = 65521
_MAX_HEADER_DATA = 64 << 20
FILE_TYPES = b"07\0"
_LINK_TYPES = b"12"
_DATALESS_TYPES = b"123456"
_SPARSE_TYPE = b"S"
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


class TarDamage(Exception):
    """A tar cannot be read beyond some offset."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        """Keeps the reason, `BAD_TAR` or `TRUNCATED_TAR`, and the detail for a person."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class TarMember(NamedTuple):
    """One complete member.

    Attributes:
        raw_name: Name as stored, long names and PAX paths resolved.
        type: Type flag, one byte; `S` for sparse files of any format.
        begin: Offset of its first header block, PAX and long-name headers included.
        data: Offset of its data.
        size: Bytes of its data in the tar.
        end: Offset after its padding (where the file ends within the padding: the file's end).
    """

    raw_name: bytes
    type: bytes
    begin: int
    data: int
    size: int
    end: int

    @property
    def name(self) -> str:
        """The name as text."""
        return decode_name(self.raw_name)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file whose data lies in one piece."""
        return self.type in FILE_TYPES

    @property
    def is_link(self) -> bool:
        """Whether it is a hard or symbolic link."""
        return self.type in _LINK_TYPES

    @property
    def is_sparse(self) -> bool:
        """Whether it is a sparse file: its data is a map and pieces."""
        return self.type == _SPARSE_TYPE


def walk_members(window: Window) -> Iterator[TarMember]:
    """Goes through a tar's members in order.

    Holds the window at each member's first header block, so that the member can be copied whole while it is
    the current one. Cost: about 3 microseconds a member, and no read of data that nobody views.

    Args:
        window: Over the tar, at its start.

    Raises:
        TarDamage: At the end, where the tar is damaged.
        OSError: If the file cannot be read.
    """
    offset = 0
    everywhere: dict[bytes, bytes] = {}
    while True:
        window.hold = begin = offset
        if offset + BLOCK <= window.stop and not everywhere:
            plain = _plain_header(window.buffer, offset - window.start)
            if plain is not None and (end := offset + BLOCK + _padded(plain[1])) <= window.size:
                yield TarMember(plain[0], b"0", begin, offset + BLOCK, plain[1], end)
                offset = end
                continue
        overrides = dict(everywhere)
        while True:
            block = window.take(offset, BLOCK)
            special = offset == 0 or len(block) < BLOCK or not block[0]
            if special and _is_end(window, block, offset):
                return
            name, size, kind = _parse_header(block, offset)
            data = offset + BLOCK
            if kind not in b"LKxXg":
                break
            payload = _header_data(window, data, size)
            offset = data + _padded(size)
            said = _said(kind, payload, data)
            overrides.update(said)
            if kind == b"g":
                everywhere.update(said)
        if overrides:
            name, size, kind = _apply(overrides, name, size, kind, offset)
        if kind == _SPARSE_TYPE and block[482]:
            data = _skip_sparse_map(window, data)
        if kind in _DATALESS_TYPES:
            size = 0
        _require_whole(window, name, data, size)
        offset = data + _padded(size)
        yield TarMember(name, kind, begin, data, size, min(offset, window.size))


def _require_whole(window: Window, name: bytes, data: int, size: int) -> None:
    """Refuses a member whose data the file does not hold to its end."""
    missing = data + size - window.size
    if missing > 0:
        raise TarDamage(
            FailureReason.TRUNCATED_TAR,
            f"ends at byte {window.size}, within {decode_name(name)!r}: {missing} of its {size} bytes are missing",
        )


def _padded(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def _plain_header(buffer: memoryview, at: int) -> tuple[bytes, int] | None:
    """Name and size of the commonest header, a sound one of a regular file with a short name.

    A third of the general way's time. None for all others, damaged ones too: the general way takes them.
    """
    name, size, checksum, kind, prefix = _FIELDS.unpack_from(buffer, at)
    if kind != b"0" or prefix != b"\0":
        return None
    found = zlib.adler32(buffer[at + 156 : at + BLOCK], zlib.adler32(buffer[at : at + 148])) & 0xFFFF
    try:
        if found != (int(checksum[:6], 8) - 255) % _ADLER_BASE or size[11] not in b"\0 ":
            return None
        number = int(size[:11], 8)
    except ValueError:
        return None
    return (name.partition(b"\0")[0], number) if number >= 0 else None


def _is_end(window: Window, block: bytes, offset: int) -> bool:
    """Whether a block is the end-of-archive mark; raises where it cannot be a header either."""
    first = offset == 0
    if first:
        for magic, name in _COMPRESSIONS.items():
            if block.startswith(magic):
                raise TarDamage(
                    FailureReason.BAD_TAR, f"is compressed with {name}; expected a plain tar: unpack it"
                )
    if len(block) < BLOCK:
        if first and block:
            raise TarDamage(
                FailureReason.BAD_TAR, f"is no tar: it has {len(block)} bytes, a tar at least {BLOCK}"
            )
        raise TarDamage(
            FailureReason.TRUNCATED_TAR,
            f"ends at byte {window.size} without the end-of-archive mark: members may be missing",
        )
    if block == _ZERO_BLOCK:
        _check_tail(window, offset + BLOCK)
        return True
    return False


def _check_tail(window: Window, offset: int) -> None:
    """Refuses anything but zeros after the end mark. Reads the rest of the file: by rule under 10 KiB."""
    while offset < window.size:
        window.hold = offset
        rest = window.view(offset, RECORD)
        if rest.tobytes().count(0) != len(rest):
            raise TarDamage(
                FailureReason.BAD_TAR,
                f"{window.size - offset} bytes follow the end-of-archive mark and are not read (tars "
                "joined by cat?)",
            )
        offset += len(rest)


def _header_data(window: Window, offset: int, size: int) -> bytes:
    """Data of a PAX or long-name header."""
    if size > _MAX_HEADER_DATA:
        raise TarDamage(
            FailureReason.BAD_TAR, f"header at byte {offset - BLOCK} promises {size} bytes of names"
        )
    data = window.take(offset, size)
    if len(data) < size:
        raise TarDamage(FailureReason.TRUNCATED_TAR, f"ends at byte {window.size}, within a member's header")
    return data


def _said(kind: bytes, payload: bytes, offset: int) -> dict[bytes, bytes]:
    """What a header that describes the next member (or, type `g`, all further ones) says, as PAX records."""
    if kind == b"L":
        return {b"path": payload.split(b"\0", 1)[0]}
    return {} if kind == b"K" else _parse_pax(payload, offset)


def _parse_header(block: bytes, offset: int) -> tuple[bytes, int, bytes]:
    """Name, size and type of a header block, its checksum proven."""
    stored = _number(block[148:156], offset)
    # Adler-32's low half is 1 + the sum of the bytes, mod 65521: the tar checksum at C speed
    if zlib.adler32(block[156:], zlib.adler32(block[:148])) & 0xFFFF != (stored - 255) % _ADLER_BASE:
        signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 256
        if signed != stored:
            what = (
                "is no tar: its first header"
                if offset == 0
                else f"damaged at byte {offset}: the header there"
            )
            raise TarDamage(FailureReason.BAD_TAR, f"{what} has a wrong checksum")
    name = block[:100].split(b"\0", 1)[0]
    kind = block[156:157]
    if block[345] and block[257:263] == b"ustar\0":
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    if kind == b"\0" and name.endswith(b"/"):
        kind = b"5"  # before POSIX, a directory was a name that ends in a slash
    size = _number(block[124:136], offset)
    if size < 0:
        raise TarDamage(FailureReason.BAD_TAR, f"damaged at byte {offset}: size {size}")
    return name, size, kind


def _number(field: bytes, offset: int) -> int:
    """An octal field, or GNU's base 256."""
    if field[0] >= 0x80:
        value = int.from_bytes(field[1:], "big")
        return value - (1 << 8 * (len(field) - 1)) if field[0] == 0xFF else value
    try:
        return int(field.partition(b"\0")[0] or b"0", 8)
    except ValueError:
        if not field.strip(b" \0"):
            return 0
        what = "is no tar" if offset == 0 else f"damaged at byte {offset}"
        raise TarDamage(FailureReason.BAD_TAR, f"{what}: {field!r} in a header is no octal number") from None


def _parse_pax(payload: bytes, offset: int) -> dict[bytes, bytes]:
    """Records `length key=value` of a PAX header."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(payload) and payload[at]:
        digits, space, _ = payload[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = payload[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(payload):
            raise TarDamage(
                FailureReason.BAD_TAR, f"damaged at byte {offset + at}: a PAX record is malformed"
            )
        records[key] = value[:-1]
        at += length
    return records


def _apply(
    overrides: dict[bytes, bytes], name: bytes, size: int, kind: bytes, offset: int
) -> tuple[bytes, int, bytes]:
    """What long-name and PAX headers say of the member that follows them."""
    name = overrides.get(b"GNU.sparse.name") or overrides.get(b"path") or name
    if b"size" in overrides:
        if not overrides[b"size"].isdigit():
            raise TarDamage(
                FailureReason.BAD_TAR, f"damaged at byte {offset}: PAX size {overrides[b'size']!r}"
            )
        size = int(overrides[b"size"])
    if any(key.startswith(b"GNU.sparse.") for key in overrides):
        kind = _SPARSE_TYPE
    return name, size, kind


def _skip_sparse_map(window: Window, offset: int) -> int:
    """Offset after the extension blocks of an old GNU sparse header."""
    while True:
        block = window.view(offset, BLOCK)
        if len(block) < BLOCK:
            raise TarDamage(
                FailureReason.TRUNCATED_TAR, f"ends at byte {window.size}, within a sparse header"
            )
        offset += BLOCK
        if not block[504]:
            return offset
