"""Caption MinHash: how alike two captions are, from a few bytes each."""

from __future__ import annotations

import inspect
import unicodedata
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_SHINGLE: Final = 4
_MAX_CHARS: Final = 4096
_SEED: Final = 1
_DTYPE: Final = np.dtype("<u4")


def caption_minhash(caption: str, permutations: int) -> bytes:
    """MinHash of a caption's words and four-character shingles.

    The text is normalised first (NFKC, case folded, white space squeezed), so that captions which differ in nothing
    a reader would notice have the same hash. Shingles of characters serve languages without spaces and forgive
    typing errors; whole words keep short captions apart. Only the first 4,096 characters count.

    Args:
        caption: The text.
        permutations: Number of hash functions (`fingerprint.minhash_permutations`).

    Returns:
        `permutations` little-endian uint32 values of `datasketch.MinHash`; empty for a caption without a character.
    """
    text = _normalise(caption)
    if not text:
        return b""
    sketch = _sketch(permutations, _permutations(permutations))
    sketch.update_batch(sorted(_shingles(text)))
    return np.asarray(sketch.hashvalues).astype(_DTYPE).tobytes()


def minhash_similarity(a: bytes, b: bytes) -> float:
    """Estimated Jaccard similarity of two captions; 0 where one of them is empty.

    Raises:
        ValueError: Neither is empty and their lengths differ: they come from different configurations.
    """
    if not a or not b:
        return 0.0
    if len(a) != len(b):
        raise ValueError(
            f"caption hashes of {len(a)} and {len(b)} bytes; expected the same fingerprint.minhash_permutations"
        )
    return float(np.mean(np.frombuffer(a, _DTYPE) == np.frombuffer(b, _DTYPE)))


def _normalise(caption: str) -> str:
    text = unicodedata.normalize("NFKC", caption[:_MAX_CHARS]).casefold()
    return " ".join(text.split())


def _shingles(text: str) -> set[bytes]:
    padded = f" {text} "
    shingles = {padded[i : i + _SHINGLE] for i in range(max(1, len(padded) - _SHINGLE + 1))}
    words = {f"word:{word}" for word in text.split()}
    return {shingle.encode("utf-8", "surrogatepass") for shingle in shingles | words}


@cache
def _permutations(count: int) -> NDArray[np.uint64]:
    return np.asarray(_sketch(count, None).permutations)


def _sketch(count: int, permutations: NDArray[np.uint64] | None) -> Any:  # noqa: ANN401 - datasketch has no types
    # only here, since it brings SciPy along, which takes seconds to import
    from datasketch import MinHash

    return MinHash(permutations=permutations, num_perm=count, seed=_SEED, **_scheme())


@cache
def _scheme() -> dict[str, str]:
    """Datasketch 2 brought other permutations; those of version 1 are in both: so hashes outlive an upgrade."""
    from datasketch import MinHash

    return {"scheme": "legacy"} if "scheme" in inspect.signature(MinHash).parameters else {}
