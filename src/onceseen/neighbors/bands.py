"""Candidate pairs from PDQ: locality-sensitive bands of sampled bits (bit sampling for the Hamming distance).

Each band is `bits` of the 256 bits, taken from seeded permutations so that the bands of one permutation are disjoint.
Two signatures meet where all bits of a band agree. For disjoint bands the recall at Hamming distance d is exact
(Indyk and Motwani 1998 for the family; the sum below is inclusion-exclusion over flipped bits), and with 16 disjoint
bands every pair within 15 bits meets for certain (pigeonhole).

Worked example, the default 32 bands of 16 bits (two permutations of 16 disjoint bands each): recall 1 to d = 15,
0.99997 at 20, 0.99 at 31, for bits that flip at random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import BandsConfig
from onceseen.neighbors.packing import ALL_PAIRS, Asked, Records, pair_records, unique_pairs

PDQ_BITS = 256
_COMPARE_BLOCK = 512


def band_positions(config: BandsConfig) -> NDArray[np.int64]:
    """Bit positions of every band.

    Returns:
        (bands, bits) int64: positions in 0..255; bands cut from the same permutation share no bit.
    """
    per_permutation = PDQ_BITS // config.bits
    rng = np.random.default_rng(config.seed)
    rows: list[NDArray[np.int64]] = []
    while len(rows) < config.bands:
        order = rng.permutation(PDQ_BITS)[: per_permutation * config.bits]
        rows.extend(order.reshape(per_permutation, config.bits))
    return np.stack(rows[: config.bands])


def banding_recall(distance: int, bands: int, bits: int) -> float:
    """Probability that two signatures at a Hamming distance share a band, for bits that flip at random.

    Args:
        distance: Hamming distance, 0 to 256.
        bands: Number of bands.
        bits: Bits a band.

    Returns:
        Exact within each permutation of disjoint bands; permutations are independent by construction.
    """
    per_permutation = PDQ_BITS // bits
    miss = 1.0
    left = bands
    while left > 0:
        disjoint = min(left, per_permutation)
        miss *= _all_bands_hit(distance, disjoint, bits)
        left -= disjoint
    return 1.0 - miss


def _all_bands_hit(distance: int, bands: int, bits: int) -> float:
    """P(every one of the disjoint bands holds a flipped bit), in exact integer arithmetic."""
    total = math.comb(PDQ_BITS, distance)
    missed = sum(
        (-1) ** j * math.comb(bands, j) * math.comb(PDQ_BITS - j * bits, distance) for j in range(bands + 1)
    )
    return float(missed / total)


def band_values(pdq: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The value of one or more bands for each signature.

    Args:
        pdq: (n, 32) uint8 signatures.
        positions: (bands, bits) positions, or (bits,) of one band.

    Returns:
        (n, bands) uint32, or (n,) for one band.
    """
    bits = np.unpackbits(pdq, axis=1)
    weights = (np.uint32(1) << np.arange(positions.shape[-1], dtype=np.uint32)).astype(np.uint32)
    return np.asarray((bits[:, positions].astype(np.uint32) * weights).sum(axis=-1, dtype=np.uint32))


def band_partitions(count: int, bands: int, partitions: int) -> int:
    """Sub-ranges of each band's values such that there are about `partitions` keys in all and none is large.

    Args:
        count: Signatures in all.
        bands: Number of bands.
        partitions: Keys wanted at least, for parallelism.
    """
    by_size = math.ceil(count / 50_000)
    by_parallelism = math.ceil(partitions / bands)
    return max(1, by_size, by_parallelism)


def search_band(signatures: Records, band: int, config: BandsConfig, asked: Asked = ALL_PAIRS) -> Records:
    """Candidate pairs among signatures that may share one band's value.

    Args:
        signatures: Array of `SIGNATURE`, any order.
        band: Which band.
        config: Bands and distance.
        asked: Which pairs.

    Returns:
        `PAIR` array: distinct nodes within `max_distance`, at least one of the two not mirrored. O(n log n) plus the
        bucket's pairs, buckets over `max_bucket` being split by further bits.
    """
    ordered = signatures[np.lexsort((signatures["flags"], signatures["node"]))]
    values = band_values(ordered["pdq"], band_positions(config)[band])
    found = [
        _compare_bucket(part, config, asked)
        for bucket in _runs(values, np.arange(len(ordered)))
        if ordered["node"][bucket[-1]] >= asked.since
        for part in split_bucket(ordered[bucket], config, band)
    ]
    return unique_pairs(np.concatenate(found)) if found else pair_records(*np.zeros((2, 0), dtype=np.int64))


def _runs(values: NDArray[np.uint32], indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Index arrays of equal values, those of one index left out."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    for run in np.split(order, cuts):
        if len(run) > 1:
            yield indices[run]


def split_bucket(bucket: Records, config: BandsConfig, band: int, depth: int = 1) -> Iterator[Records]:
    """Cuts a bucket over `max_bucket` by the next bands' bits, each part at most `max_bucket` long.

    A hot bucket (a popular low-contrast layout) thus costs a bounded number of comparisons; what its parts miss is
    left to the other bands. Equal signatures that no bits can part are cut in node order with an overlap of one, so
    that they stay connected.
    """
    if len(bucket) <= config.max_bucket:
        yield bucket
        return
    if depth >= config.bands:
        step = config.max_bucket - 1
        for start in range(0, len(bucket) - 1, step):
            yield bucket[start : start + config.max_bucket]
        return
    positions = band_positions(config)[(band + depth) % config.bands]
    values = band_values(bucket["pdq"], positions)
    for run in _runs(values, np.arange(len(bucket))):
        yield from split_bucket(bucket[run], config, band, depth + 1)


def _compare_bucket(bucket: Records, config: BandsConfig, asked: Asked) -> Records:
    """All pairs of one bucket, by node, within the distance, compared in blocks."""
    words = np.ascontiguousarray(bucket["pdq"]).view(np.uint64)
    nodes, mirrored = bucket["node"], (bucket["flags"] & 1).astype(bool)
    first = int(np.searchsorted(nodes, asked.since))
    left: list[NDArray[np.int64]] = [nodes[:0]]
    right: list[NDArray[np.int64]] = [nodes[:0]]
    for start in range(first, len(bucket), _COMPARE_BLOCK):
        block = slice(start, start + _COMPARE_BLOCK)
        for others in (slice(0, first), slice(start, start if asked.across else None)):
            distance = np.bitwise_count(words[block, None, :] ^ words[None, others, :]).sum(
                axis=-1, dtype=np.uint16
            )
            near = (distance <= config.max_distance) & ~(mirrored[block, None] & mirrored[None, others])
            i, j = np.nonzero(near)
            left.append(nodes[block][i])
            right.append(nodes[others][j])
    return pair_records(np.concatenate(left), np.concatenate(right))
