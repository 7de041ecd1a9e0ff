"""Sample ids: `<shard name>/<key>`, stable across runs and readers, never a position in a stream."""

from __future__ import annotations

_SAFE_ESCAPE = "%"


def decode_name(raw: bytes) -> str:
    r"""A stored name as text: UTF-8 where it is, every other byte percent-encoded.

    A literal `%` is left alone in valid UTF-8 names; in others it is encoded too, so that the result is unambiguous.

    >>> decode_name(b"caf\xc3\xa9.jpg")
    'café.jpg'
    >>> decode_name(b"caf\xe9.jpg")
    'caf%E9.jpg'
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(b) if 0x20 <= b < 0x7F and chr(b) != _SAFE_ESCAPE else f"%{b:02X}" for b in raw)


def name_order(name: str) -> bytes:
    """Sort key: UTF-8 byte order. Lone surrogates (file systems give them) sort by their escaped form."""
    return name.encode("utf-8", "surrogateescape")


def sample_id(shard: str, key: str) -> str:
    """The id of a sample."""
    return f"{shard}/{key}"


def split_key(member: str) -> tuple[str, str]:
    """Splits a tar member's name into key and extension, as WebDataset does.

    The key is everything before the first dot of the base name, the extension what follows, in lower case.

    >>> split_key("a/b.c/000.seg.png")
    ('a/b.c/000', 'seg.png')
    """
    directory, slash, base = member.rpartition("/")
    stem, _, extension = base.partition(".")
    return directory + slash + stem, extension.lower()
