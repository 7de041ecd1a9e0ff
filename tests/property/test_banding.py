"""Recall of the PDQ bands against the formula, on random flips."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onceseen.core.config import BandsConfig
from onceseen.neighbors.bands import band_positions, band_values, banding_recall

TRIALS = 4_000


@settings(max_examples=25, deadline=None)
@given(
    distance=st.integers(0, 60),
    bands=st.integers(1, 40),
    bits=st.sampled_from([8, 12, 16, 20, 24]),
    seed=st.integers(0, 2**31),
)
def test_measured_recall_is_the_formulas(distance: int, bands: int, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = band_positions(BandsConfig(bands=bands, bits=bits, seed=seed))
    flips = np.zeros((TRIALS, 256), dtype=np.uint8)
    columns = rng.random((TRIALS, 256)).argsort(axis=1)[:, :distance]
    np.put_along_axis(flips, columns, 1, axis=1)
    untouched = band_values(np.packbits(flips, axis=1), positions) == 0
    measured = float(untouched.any(axis=1).mean())
    expected = banding_recall(distance, bands, bits)
    # Bands of different permutations overlap by chance, so the product over permutations is an approximation;
    # five standard errors of the trials and 0.02 for that.
    assert abs(measured - expected) < 0.02 + 5 * (expected * (1 - expected) / TRIALS) ** 0.5
