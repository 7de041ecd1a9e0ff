"""Repeated captions."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, named, picture

from onceseen.core.files import read_bytes, read_table
from onceseen.core.schemas import CAPTIONS
from onceseen.fingerprint import caption_minhash
from onceseen.stats import write_captions_table
from onceseen.stats.caption_groups import band_shape, star_groups
from onceseen.stats.captions import LEFT_OUT

ONE, TWO, THREE, FOUR = (jpeg(picture(seed)) for seed in (1, 2, 3, 4))
LONG = "a photograph of a small brown dog running over a wide green field under a cloudy sky in the late afternoon"


def _samples() -> list[Planted]:
    return [
        Planted("a/1", ONE, LONG),
        dropped("a/2", ONE, "a/1", "bytes", caption=LONG.upper()),
        dropped("a/3", ONE, "a/1", "bytes", caption="Something else altogether"),
        Planted("a/4", TWO, LONG + "."),
        Planted("a/5", THREE, "Seen once, of a picture seen once"),
        failed("a/6", "decode_error"),
        Planted("b/1", FOUR, "image"),
        dropped("b/2", FOUR, "b/1", "bytes"),
    ]


def test_near_identical_captions_are_counted_together(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, _samples()).write()
    table = read_table(write_captions_table(layout, named("a", "b")))
    assert table.schema.equals(CAPTIONS)
    assert table.to_pylist() == [
        {"caption": LONG, "occurrences": 3, "pictures": 2, "max_copies": 3, "sample_id": "a/1"},
        {
            "caption": "Something else altogether",
            "occurrences": 1,
            "pictures": 1,
            "max_copies": 3,
            "sample_id": "a/1",
        },
        {"caption": "image", "occurrences": 1, "pictures": 1, "max_copies": 2, "sample_id": "b/1"},
    ]


def test_the_same_bytes_whatever_the_order_of_shards(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, _samples()).write()
    first = read_bytes(write_captions_table(layout, named("a", "b")))
    assert read_bytes(write_captions_table(layout, named("b", "a"))) == first


def test_over_the_bound_the_rarest_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = SmallRun(tmp_path, _samples()).write()
    with caplog.at_level(logging.WARNING):
        table = read_table(write_captions_table(layout, named("a", "b"), max_distinct=1))
    assert [row["caption"] for row in table.to_pylist()] == [LONG]
    assert table.column("occurrences").to_pylist() == [2]
    assert table.schema.metadata[LEFT_OUT] == b"4"
    assert "5 distinct captions, the rarest 4 left out" in caplog.text


def test_a_set_without_captions_gives_an_empty_table(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("a/1", ONE)]).write()
    assert read_table(write_captions_table(layout, named("a"))).num_rows == 0


def _signature(values: list[int]) -> bytes:
    return np.array(values, "<u4").tobytes()


def test_groups_are_stars_not_chains() -> None:
    base = list(range(32))
    first = base
    second = [100 + i if i < 6 else v for i, v in enumerate(base)]  # 26 of 32 with the first: near
    third = [200 + i if i >= 26 else v for i, v in enumerate(second)]  # 26 with the second, 20 with the first
    leaders = star_groups([_signature(v) for v in (first, second, third)], 0.8)
    assert leaders.tolist() == [0, 0, 2]


def test_a_caption_without_signature_leads_itself() -> None:
    same = _signature(list(range(32)))
    assert star_groups([same, b"", same, b""], 0.8).tolist() == [0, 1, 0, 3]


def test_signatures_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one extract"):
        star_groups([_signature([1, 2]), _signature([1])], 0.8)


def test_banding_misses_few_pairs_at_the_threshold() -> None:
    rng = np.random.default_rng(3)
    bands, rows = band_shape(32, 0.8)
    assert 1 - (1 - 0.8**rows) ** bands >= 0.97
    found = 0
    for _ in range(200):
        first = rng.integers(0, 2**32, 32)
        second = first.copy()
        changed = rng.choice(32, 6, replace=False)
        second[changed] = rng.integers(0, 2**32, 6)
        found += star_groups([_signature(first.tolist()), _signature(second.tolist())], 0.8).tolist() == [
            0,
            0,
        ]
    assert found >= 190


def test_the_signature_format_is_the_fingerprints() -> None:
    signature = caption_minhash(LONG, 32)
    assert len(signature) == 32 * 4
    assert star_groups([signature, caption_minhash(LONG, 32)], 0.8).tolist() == [0, 0]
