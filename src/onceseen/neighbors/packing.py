"""Packed blocks: what passes through a shuffle instead of one object a picture.

A block is the bytes of a NumPy structured array. Sorting after concatenation makes every result independent of the
order in which a runner delivers blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.records import Shard, node_id

Records = NDArray[np.void]

PAIR = np.dtype([("a", "<i8"), ("b", "<i8")])
"""A candidate pair of node ids, a < b: 16 bytes."""

MEMBER = np.dtype([("hash", "S16"), ("node", "<i8"), ("sha", "S16")])
"""One sample for exact classes: pixel hash, node id, first half of SHA-256: 40 bytes."""

STAR = np.dtype([("node", "<i8"), ("head", "<i8"), ("bytes", "?")])
"""A member of an exact class and the class's head; `bytes`: the files are equal too: 17 bytes."""

SIGNATURE = np.dtype([("node", "<i8"), ("flags", "u1"), ("pdq", "u1", (32,))])
"""One PDQ signature in one band: 41 bytes."""

MIRRORED_FLAG = 1
VIEW_FLAG = 2

PAIR_SCORE = np.dtype([("a", "<i8"), ("b", "<i8"), ("score", "<f4")])
"""An unverified pair and its score: 20 bytes."""

LABEL = np.dtype([("node", "<i8"), ("root", "<i8")])
"""A participant and its component's smallest node: 16 bytes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which pairs a search is asked for; others cost no comparison.

    Attributes:
        since: One node of each pair is this one or a later one; 0: all pairs.
        across: Whether the other is an earlier one: a query and a reference.
    """

    since: int = 0
    across: bool = False

    def is_newer(self, shard: Shard) -> bool:
        """Whether a shard's samples ask for pairs: queries, or a crawl that is appended."""
        return node_id(shard.number, 0) >= self.since


ALL_PAIRS = Asked()


def code_dtype(dimensions: int) -> np.dtype[np.void]:
    """A vector code of `dimensions` int8 values: its node, flags, scale and residual: dimensions + 17 bytes."""
    return np.dtype(
        [
            ("node", "<i8"),
            ("flags", "u1"),
            ("scale", "<f4"),
            ("residual", "<f4"),
            ("code", "i1", (dimensions,)),
        ]
    )


def unpack(blocks: Iterable[bytes], dtype: np.dtype[np.void]) -> Records:
    """Concatenates blocks into one array, in the order given.

    Args:
        blocks: Bytes of arrays of `dtype`.
        dtype: The record's layout.

    Returns:
        (n,) array; empty for no blocks.
    """
    parts = [np.frombuffer(block, dtype=dtype) for block in blocks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=dtype)


def pair_records(a: NDArray[np.int64], b: NDArray[np.int64]) -> Records:
    """Pairs with a < b, sorted, each once; pairs of a node with itself are left out.

    Args:
        a: (n,) node ids.
        b: (n,) node ids.
    """
    pairs = np.empty(len(a), dtype=PAIR)
    pairs["a"] = np.minimum(a, b)
    pairs["b"] = np.maximum(a, b)
    return unique_pairs(pairs[pairs["a"] != pairs["b"]])


def unique_pairs(pairs: Records) -> Records:
    """Sorted by (a, b), each pair once."""
    if len(pairs) == 0:
        return pairs
    ordered = pairs[np.lexsort((pairs["b"], pairs["a"]))]
    fresh = np.ones(len(ordered), dtype=bool)
    fresh[1:] = (ordered["a"][1:] != ordered["a"][:-1]) | (ordered["b"][1:] != ordered["b"][:-1])
    return ordered[fresh]


def mix64(values: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """A fixed 64-bit hash of integers (splitmix64's finaliser): a pseudo-random order that never changes.

    Args:
        values: (n,) integers.
        salt: Different salts give independent orders.
    """
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (salt + 1)) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(z ^ (z >> np.uint64(31)))
