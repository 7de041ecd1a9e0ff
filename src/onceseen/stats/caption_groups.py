"""Near-identical captions by their MinHash signatures, without comparing all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MAX_BUCKET = 10_000
"""Captions of one bucket that a leader is compared with at most (the best ones)."""

_Signatures = npt.NDArray[np.uint32]
_Ints = npt.NDArray[np.int64]


def star_groups(minhashes: Sequence[bytes], similarity: float) -> npt.NDArray[np.int64]:
    """Groups captions around leaders: best first, each leader takes the free captions that are near it.

    Bands of the signature propose (`band_shape`), the share of equal values in the whole signature decides. A
    caption without a signature leads itself.

    Args:
        minhashes: Signatures (`fingerprint.caption_minhash`: little-endian uint32 values), best caption
            first.
        similarity: Estimated Jaccard similarity from which two are near-identical.

    Returns:
        Index of each caption's leader, (n,) int64. Cost: n log n a band, plus n comparisons with its bucket's
        free captions; 4 bytes a value of each signature and 16 a band.

    Raises:
        ValueError: If signatures differ in length.
    """
    leaders = np.arange(len(minhashes), dtype=np.int64)
    signed = np.array([i for i, m in enumerate(minhashes) if m], np.int64)
    if len(signed) < 2:
        return leaders
    signatures = _signatures([minhashes[int(i)] for i in signed])
    buckets = _Buckets(signatures, band_shape(signatures.shape[1], similarity))
    free = np.ones(len(signed), bool)
    for i in buckets.crowded():
        if not free[i]:
            continue
        free[i] = False
        near = buckets.beside(i, free)
        if len(near):
            near = near[(signatures[near] == signatures[i]).mean(axis=1) >= similarity]
            leaders[signed[near]] = signed[i]
            free[near] = False
    return leaders


def band_shape(permutations: int, similarity: float, recall: float = 0.97) -> tuple[int, int]:
    """Bands and rows: the most rows with which a pair at `similarity` still meets with probability `recall`.

    1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2).

    >>> band_shape(32, 0.8)
    (8, 4)
    """
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - similarity**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


def _signatures(minhashes: Sequence[bytes]) -> _Signatures:
    lengths = {len(m) for m in minhashes}
    if len(lengths) != 1 or next(iter(lengths)) % 4:
        raise ValueError(
            f"caption signatures have lengths of {sorted(lengths)} bytes; expected one length, a multiple of "
            "4: all features of a run must come from one extract"
        )
    return np.frombuffer(b"".join(minhashes), "<u4").reshape(len(minhashes), -1)


class _Buckets:
    """For each band, captions sorted by the band's values, so that a bucket is a slice."""

    def __init__(self, signatures: _Signatures, shape: tuple[int, int]) -> None:
        bands, rows = shape
        self._orders: list[_Ints] = []
        self._starts: list[_Ints] = []
        self._ends: list[_Ints] = []
        for band in range(bands):
            values = signatures[:, band * rows : (band + 1) * rows]
            _, label = np.unique(values, axis=0, return_inverse=True)
            label = label.reshape(-1)
            order = np.argsort(label, kind="stable")
            counts = np.bincount(label)
            ends = np.cumsum(counts)
            self._orders.append(order)
            self._starts.append((ends - counts)[label])
            self._ends.append(ends[label])

    def crowded(self) -> list[int]:
        """Captions that share a bucket with another, best first."""
        sizes = [end - start for start, end in zip(self._starts, self._ends, strict=True)]
        return [int(i) for i in np.flatnonzero(np.max(sizes, axis=0) > 1)]

    def beside(self, i: int, free: npt.NDArray[np.bool_]) -> _Ints:
        """Free captions that share a bucket with i, ascending; at most `MAX_BUCKET` of each bucket."""
        found = []
        for order, start, end in zip(self._orders, self._starts, self._ends, strict=True):
            if end[i] - start[i] > 1:
                members = order[start[i] : end[i]]
                found.append(members[free[members]][:MAX_BUCKET])
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
