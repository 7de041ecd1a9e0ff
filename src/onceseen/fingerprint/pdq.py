"""PDQ, the 256-bit perceptual hash of Meta's ThreatExchange, in numpy and OpenCV.

The definition (facebook/ThreatExchange, pdq/cpp/hashing): luma; a box filter of ceil(side / 128) pixels, twice, along
both axes; 64 x 64 samples of the result; the first 16 x 16 frequencies of its discrete cosine transform, without the
constant one; a bit for each that is over their median.

All of it up to the median is linear and separable. So filter and sampling are one matrix for the rows and one for the
columns (64 x side, without its zeros, kept for the sides met last), and the whole hash is a few products: the same bits
as the reference at a fraction of its time.

Sums of floating-point numbers depend on their order, so on the processor and the number of threads. Here they do not:
luma is counted in thousandths (integers), matrices and intermediate results are rounded to fixed fractions of a power
of two, and then every product and sum fits the 53 bits of a float64 exactly. The hash is the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

HASH_BYTES: Final = 32
_SAMPLES: Final = 64
_FREQUENCIES: Final = 16
_MIN_SIDE: Final = 5
_BLOCK_PIXELS: Final = 1 << 16
# Fractional bits. Luma 18 + 24, then 18 + 10 + 24 = 52 bits, rounded to 18 + 10 for the transform; its sums grow by
# up to 3.5 bits at each step: 18 + 3.5 + 10 + 18 = 49.5, then 18 + 7 + 8 + 18 = 51 bits.
_SAMPLE_BITS: Final = 10
_SAMPLING_BITS: Final = 24
_COSINE_BITS: Final = 18
_HALFWAY_BITS: Final = 8
# Luma is an integer of thousandths under 2^18, scaled by a power of two so that rounding samples is `rint`.
_LUMA_UNIT: Final = 1000 * 2**_SAMPLE_BITS
_LUMA: Final = np.array([[299, 587, 114]], np.float32) * 2**_SAMPLE_BITS
_QUALITY_DIVISOR: Final = 90


class PdqHash(NamedTuple):
    """A PDQ hash.

    Attributes:
        bits: 32 bytes, in the order of the reference's hexadecimal form.
        mirrored: The hash of the picture mirrored left to right, likewise.
        quality: 0 to 100; under 50 the picture has too little structure for the hash to mean much.
    """

    bits: bytes
    mirrored: bytes
    quality: int


def pdq_hash(rgb: NDArray[np.uint8]) -> PdqHash:
    """Hashes a picture and its mirror image.

    The mirror image is sampled anew. Changing the signs of every other frequency, the reference's short cut
    (`pdqHash256FromFloatLuma` dihedral), is off by the one pixel that its filter and sampling are askew: 16 bits in the
    median of photographs of 256 to 512 pixels, and over 31 in 5% of them.

    Cost: about 0.5 ms at 400 x 300, and going with the pixels, nearly all of it without the interpreter lock; the
    memory of a block of rows, 1 to 2 MB, or what the block of the widest pictures takes.

    Args:
        rgb: (h, w, 3) uint8. Under 5 pixels a side the hash is all zeros and the quality 0, as in the reference.
    """
    if min(rgb.shape[:2]) < _MIN_SIDE:
        return PdqHash(bytes(HASH_BYTES), bytes(HASH_BYTES), 0)
    samples = sample_luma(rgb)
    straight, mirrored = _hash_samples(samples)
    return PdqHash(straight, mirrored, _quality(samples[0]))


def sample_luma(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The filtered luma at 64 x 64 points.

    Returns:
        (2, 64, 64) float64, whole multiples of 2^-10 thousandths of a grey level: of the picture, and of its mirror
        image.
    """
    height, width = rgb.shape[:2]
    taps, weights = _taps(height)
    rows = np.empty((_SAMPLES, width))
    blocks = min(_SAMPLES, -(-height * width // _BLOCK_PIXELS))
    for block in range(blocks):
        part = slice(block * _SAMPLES // blocks, (block + 1) * _SAMPLES // blocks)
        first, last = int(taps[part.start, 0]), int(taps[part.stop - 1, -1])
        luma = cv2.transform(rgb[first : last + 1].astype(np.float32), _LUMA).reshape(-1, width)
        rows[part] = _weighted(luma, taps[part] - first, weights[part])
    columns = np.rint(rows, out=rows).T
    samples = np.rint(_weighted(columns, *_taps_both_ways(width)))
    return samples.reshape(2, _SAMPLES, _SAMPLES).swapaxes(1, 2)


def _weighted(
    lines: NDArray[np.floating], taps: NDArray[np.intp], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted sums of lines: (n, w) by (s, t) to (s, w). Not by BLAS, whose own threads would fight ours."""
    near = lines.take(taps.ravel(), axis=0).reshape(*taps.shape, -1)
    return np.asarray(np.einsum("st,stw->sw", weights, near), np.float64)


def _hash_samples(samples: NDArray[np.float64]) -> tuple[bytes, bytes]:
    """The hashes of the two (64, 64) samples that `sample_luma` gives, 32 bytes each."""
    down, across = _cosines()
    halfway = np.rint(down @ samples)
    flat = (halfway @ across).reshape(len(samples), -1)
    middle = flat.shape[1] // 2 - 1  # the lower median
    median = np.partition(flat, middle, axis=1)[:, middle, None]
    straight, mirrored = np.packbits((flat > median)[:, ::-1], axis=1)
    return straight.tobytes(), mirrored.tobytes()


def hamming_distance(a: bytes, b: bytes) -> int:
    """Bits in which two hashes of the same length differ.

    Raises:
        ValueError: The lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"hashes of {len(a)} and {len(b)} bytes; expected the same length")
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def hamming_matrix(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Bits in which each row of `a` differs from each row of `b`.

    Cost: n x m x 4 words; takes n x m x 8 bytes of memory while it works, so callers bound n x m.

    Args:
        a: (n, 32) uint8.
        b: (m, 32) uint8.

    Returns:
        (n, m) uint16.

    Raises:
        ValueError: A shape or a type is another one.
    """
    for name, rows in (("a", a), ("b", b)):
        if rows.ndim != 2 or rows.shape[1] != HASH_BYTES or rows.dtype != np.uint8:
            raise ValueError(f"{name} is {rows.dtype} {rows.shape}; expected uint8 (n, {HASH_BYTES})")
    words_a, words_b = np.ascontiguousarray(a).view(np.uint64), np.ascontiguousarray(b).view(np.uint64)
    distance = np.zeros((len(a), len(b)), np.uint16)
    for word in range(words_a.shape[1]):
        distance += np.bitwise_count(words_a[:, word, None] ^ words_b[None, :, word])
    return distance


def _rounded(values: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """Rounded to multiples of 2^-bits."""
    unit = 2.0**bits
    return np.rint(values * unit) / unit


def _sampling(side: int) -> NDArray[np.float64]:
    """The two box filters and the sampling along one axis. (64, side), rows sum to 1."""
    full = (side + 2 * _SAMPLES - 1) // (2 * _SAMPLES)
    right = (full + 2) // 2  # inputs from the output's own on; the reference's half window
    left = full - right
    places = ((np.arange(_SAMPLES) + 0.5) * side / _SAMPLES).astype(np.intp)
    matrix = np.zeros((_SAMPLES, side))
    for row, place in enumerate(places):
        inner = range(max(0, place - left), min(side, place + right))
        for middle in inner:
            first, end = max(0, middle - left), min(side, middle + right)
            matrix[row, first:end] += 1 / ((end - first) * len(inner))
    return _rounded(matrix, _SAMPLING_BITS)


@lru_cache(maxsize=128)
def _taps(side: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """`_sampling` without its zeros: (64, t) places in ascending order, and their weights."""
    matrix = _sampling(side)
    inside = matrix != 0
    first = inside.argmax(axis=1)
    count = int((side - inside[:, ::-1].argmax(axis=1) - first).max())
    places = np.minimum(first, side - count)[:, None] + np.arange(count)
    return places, np.take_along_axis(matrix, places, axis=1)


@lru_cache(maxsize=128)
def _taps_both_ways(width: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """`_taps` of a row, then of the mirrored row. (128, t)."""
    places, weights = _taps(width)
    return np.concatenate((places, width - 1 - places)), np.concatenate((weights, weights))


@lru_cache(maxsize=1)
def _cosines() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows 1 to 16 of the discrete cosine transform of 64 points.

    Returns:
        (16, 64) to multiply samples by from the left, scaled so that their unit becomes 2^-8 thousandths; and (64, 16)
        from the right.
    """
    frequency = np.arange(1, _FREQUENCIES + 1)[:, None]
    place = 2 * np.arange(_SAMPLES)[None, :] + 1
    scale = np.sqrt(2 / _SAMPLES)
    matrix = _rounded(scale * np.cos(np.pi / (2 * _SAMPLES) * frequency * place), _COSINE_BITS)
    return matrix * 2.0 ** (_HALFWAY_BITS - _SAMPLE_BITS), np.ascontiguousarray(matrix.T)


def _quality(samples: NDArray[np.float64]) -> int:
    steps = np.concatenate((np.diff(samples, axis=0).ravel(), np.diff(samples, axis=1).ravel()))
    percent = np.abs(steps, out=steps) * 100 / (255 * _LUMA_UNIT)
    return min(100, int(percent.astype(np.int64).sum()) // _QUALITY_DIVISOR)
