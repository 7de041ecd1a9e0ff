"""PDQ: against the reference package, and the distances."""

from __future__ import annotations

import numpy as np
import pdqhash
import pytest
from numpy.typing import NDArray

from onceseen.fingerprint import hamming_distance, hamming_matrix, pdq_hash


def reference(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(np.ascontiguousarray(rgb))
    return np.packbits(bits).tobytes(), quality


def test_agrees_with_the_reference_on_photographs(photos: list[NDArray[np.uint8]]) -> None:
    distances = []
    for rgb in photos:
        expected, quality = reference(rgb)
        ours = pdq_hash(rgb)
        distances.append(hamming_distance(ours.bits, expected))
        assert abs(ours.quality - quality) <= 1
    assert np.percentile(distances, 99) <= 1
    assert max(distances) <= 4


def test_mirrored_is_the_hash_of_the_mirrored_picture(photos: list[NDArray[np.uint8]]) -> None:
    for rgb in photos[:30]:
        ours, flipped = pdq_hash(rgb), pdq_hash(rgb[:, ::-1])
        assert (ours.mirrored, ours.bits) == (flipped.bits, flipped.mirrored)
        assert hamming_distance(ours.mirrored, reference(rgb[:, ::-1])[0]) <= 4


@pytest.mark.parametrize(
    "shape", [(64, 64), (65, 127), (129, 640), (1500, 1030), (40, 30), (5, 9), (4, 700), (1, 1)]
)
def test_agrees_at_any_size(shape: tuple[int, int]) -> None:
    height, width = shape
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * a + y * b) for a, b in ((0.03, 0.05), (0.11, -0.02), (-0.4, 0.7))]
    rgb = np.stack([128 + 100 * w for w in waves], axis=2).astype(np.uint8)
    expected, quality = reference(rgb)
    ours = pdq_hash(rgb)
    assert abs(ours.quality - quality) <= 1
    if quality >= 50 or min(shape) < 5:
        assert hamming_distance(ours.bits, expected) <= 2


def test_is_exact_in_any_order_of_summation(photos: list[NDArray[np.uint8]]) -> None:
    from onceseen.fingerprint import pdq

    luma = photos[0].astype(np.float64) @ np.array([299.0, 587.0, 114.0]) * 2**10
    down, across = pdq._sampling(luma.shape[0]), pdq._sampling(luma.shape[1])
    order = np.random.default_rng(5).permutation(luma.shape[0])
    for ours, picture in zip(pdq.sample_luma(photos[0]), (luma, luma[:, ::-1]), strict=True):
        rows = np.rint(down[:, order] @ picture[order])
        np.testing.assert_array_equal(ours, np.rint(rows @ across.T))


@pytest.mark.parametrize("side", [5, 63, 64, 65, 300, 1500, 4000])
def test_taps_are_the_whole_matrix(side: int) -> None:
    from onceseen.fingerprint import pdq

    places, weights = pdq._taps(side)
    matrix = np.zeros((len(places), side))
    np.put_along_axis(matrix, places, weights, axis=1)
    np.testing.assert_array_equal(matrix, pdq._sampling(side))
    assert (np.diff(places, axis=1) == 1).all()
    assert places.min() >= 0
    assert places.max() < side


def test_blocks_of_rows_do_not_show(photos: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch) -> None:
    from onceseen.fingerprint import pdq

    whole = [pdq_hash(rgb) for rgb in photos[:12]]
    for pixels in (1, 5_000, 1 << 40):
        monkeypatch.setattr(pdq, "_BLOCK_PIXELS", pixels)
        assert [pdq_hash(rgb) for rgb in photos[:12]] == whole


def test_flat_picture_has_no_quality() -> None:
    assert pdq_hash(np.full((50, 60, 3), 90, np.uint8)).quality == 0


def test_hamming_distances_agree() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (n, 32), dtype=np.uint8) for n in (7, 5))
    matrix = hamming_matrix(a, b)
    assert (matrix.shape, matrix.dtype) == ((7, 5), np.uint16)
    brute = [[int(np.unpackbits(x ^ y).sum()) for y in b] for x in a]
    assert matrix.tolist() == brute
    assert [[hamming_distance(x.tobytes(), y.tobytes()) for y in b] for x in a] == brute
    assert hamming_distance(b"\0" * 32, b"\xff" * 32) == 256


def test_wrong_hashes_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        hamming_distance(b"abc", b"ab")
    with pytest.raises(ValueError, match="expected uint8"):
        hamming_matrix(np.zeros((2, 31), np.uint8), np.zeros((2, 32), np.uint8))
