from __future__ import annotations

import numpy as np
import pytest

from onceseen.core.config import BandsConfig
from onceseen.neighbors.bands import band_positions, band_values, banding_recall, search_band
from onceseen.neighbors.packing import MIRRORED_FLAG, SIGNATURE, Asked, Records, unique_pairs


def _signatures(pdq: np.ndarray, flags: int = 0) -> Records:
    out = np.empty(len(pdq), dtype=SIGNATURE)
    out["node"], out["flags"], out["pdq"] = np.arange(len(pdq)), flags, pdq
    return out


def _search_all(records: Records, config: BandsConfig) -> set[tuple[int, int]]:
    found = []
    for band in range(config.bands):
        values = band_values(records["pdq"], band_positions(config)[band])
        for value in np.unique(values):
            found.append(search_band(records[values == value], band, config))
    return {(int(a), int(b)) for a, b in unique_pairs(np.concatenate(found)).tolist()}


def test_bands_of_one_permutation_share_no_bit() -> None:
    positions = band_positions(BandsConfig(bands=32, bits=16))
    for half in (positions[:16], positions[16:]):
        assert sorted(half.ravel()) == list(range(256))
    assert not np.array_equal(positions[:16], positions[16:])


def test_all_pairs_within_the_pigeonhole_distance_are_found() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, (200, 256), dtype=np.uint8)
    flipped = base.copy()
    for row in flipped:
        row[rng.choice(256, 15, replace=False)] ^= 1
    records = _signatures(np.packbits(np.concatenate([base, flipped]), axis=1))
    assert {(i, i + 200) for i in range(200)} <= _search_all(records, BandsConfig(bands=16))


def test_pairs_over_the_distance_are_not_candidates() -> None:
    pdq = np.zeros((2, 32), dtype=np.uint8)
    pdq[1, -4:] = 0xFF
    records = _signatures(pdq)
    assert _search_all(records, BandsConfig(max_distance=31)) == set()
    assert _search_all(records, BandsConfig(max_distance=32)) == {(0, 1)}


def test_two_mirrored_signatures_are_not_compared() -> None:
    """Mirror against mirror says what straight against straight says already."""
    pdq = np.zeros((2, 32), dtype=np.uint8)
    both = _signatures(pdq, MIRRORED_FLAG)
    assert _search_all(both, BandsConfig()) == set()
    both["flags"][0] = 0
    assert _search_all(both, BandsConfig()) == {(0, 1)}


def test_a_hot_bucket_is_split_and_still_connects_equal_signatures() -> None:
    config = BandsConfig(bands=4, max_bucket=8)
    records = _signatures(np.zeros((50, 32), dtype=np.uint8))
    pairs = search_band(records, 0, config)
    joined = {0}
    for a, b in pairs.tolist():
        if a in joined:
            joined.add(b)
    assert joined == set(range(50))
    assert len(pairs) < 50 * 8


@pytest.mark.parametrize("distance", [0, 8, 15])
def test_recall_is_certain_where_some_band_must_be_untouched(distance: int) -> None:
    assert banding_recall(distance, 16, 16) == 1.0


def test_recall_of_the_defaults_is_as_documented() -> None:
    config = BandsConfig()
    assert banding_recall(20, config.bands, config.bits) > 0.9999
    assert banding_recall(31, config.bands, config.bits) == pytest.approx(0.99, abs=0.005)


@pytest.mark.parametrize("since", [0, 20, 49, 50])
def test_pairs_of_two_older_nodes_are_not_asked_for(since: int) -> None:
    config = BandsConfig(bands=1, bits=16, max_distance=127, max_bucket=1_000)
    rng = np.random.default_rng(5)
    pdq = rng.integers(0, 256, (50, 32), dtype=np.uint8)
    pdq[:, :] = np.where(rng.random((50, 32)) < 0.8, pdq[:1], pdq)
    positions = band_positions(config)[0]
    records = _signatures(pdq)
    bucket = records[band_values(records["pdq"], positions) == band_values(pdq[:1], positions)[0]]
    everything = search_band(bucket, 0, config)
    newer = [pair for pair in everything.tolist() if pair[1] >= since]
    assert search_band(bucket, 0, config, Asked(since)).tolist() == newer
    across = [pair for pair in newer if pair[0] < since]
    assert search_band(bucket, 0, config, Asked(since, across=True)).tolist() == across
