"""Captions as keys: one normal form and one fixed 64-bit hash."""

from __future__ import annotations

import hashlib
import unicodedata


def normalise_caption(caption: str) -> str:
    r"""Compatibility-composed, case-folded, runs of white space as one blank.

    >>> normalise_caption("  A  Cat\n on the MAT ")
    'a cat on the mat'
    """
    return " ".join(unicodedata.normalize("NFKC", caption).casefold().split())


def hash64(text: str) -> int:
    """A fixed 64-bit hash of a text (BLAKE2b), never 0.

    Of a billion texts, any two collide with a probability of 3%.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
