"""Counts of a run, and that nothing can be lost without an error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, named, picture

from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import read_json, read_table, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Verdict
from onceseen.core.schemas import FAILURES
from onceseen.stats import ReconciliationError, ShardStatistics, ShardTally, summarise, write_summary

EXTRAS = {"candidate_recall": 0.97, "bytes_read": 1000, "bytes_written": None}
SHARDS = ["00000", "00001"]


def _samples() -> list[Planted]:
    one, two, three = (jpeg(picture(seed)) for seed in (1, 2, 3))
    return [
        Planted("00000/a", one),
        dropped("00000/b", one, "00000/a", "bytes"),
        Planted("00000/c", two, component="00000/a"),
        failed("00000/d", "truncated_image"),
        dropped("00001/a", jpeg(picture(1), 60), "00000/a"),
        dropped("00001/b", jpeg(picture(2), 60), "00000/c", "embedding", component="00000/a"),
        Planted("00001/c", three),
        failed("00001/d", "empty_image"),
        failed("00001/e", "truncated_image"),
    ]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return SmallRun(tmp_path, _samples()).write()


def _change(layout: RunLayout, shard: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = layout.verdicts(shard)
    table = read_table(path)
    rows = table.to_pylist()
    change(rows)
    write_table(path, pa.Table.from_pylist(rows, schema=table.schema))


def test_summary_holds_the_contracts_fields(layout: RunLayout) -> None:
    summary = summarise(layout, named(*SHARDS), EXTRAS)
    assert summary == {
        "read": 9,
        "kept": 3,
        "dropped": 3,
        "failed": 3,
        "shards_failed": 0,
        "dropped_by": {"bytes": 1, "embedding": 1, "perceptual": 1},
        "failed_by": {"empty_image": 1, "truncated_image": 2},
        "components": 1,
        "participants": 5,
        "redundant": 3,
        "copies_histogram": {"1": 1, "2": 1, "3": 1},
        "candidate_recall": 0.97,
        "bytes_read": 1000,
        "bytes_written": None,
        "shards": [
            {"shard": "00000", "read": 4, "kept": 2, "dropped": 1, "failed": 1},
            {"shard": "00001", "read": 5, "kept": 1, "dropped": 2, "failed": 2},
        ],
    }
    assert read_json(write_summary(layout, summary)) == summary


def test_a_second_copy_kept_is_no_group_of_its_own(tmp_path: Path) -> None:
    data = jpeg(picture(1))
    kept_too = Planted("s/b", data, under="s/a")
    layout = SmallRun(
        tmp_path, [Planted("s/a", data), kept_too, dropped("s/c", data, "s/a", "bytes")]
    ).write()
    summary = summarise(layout, named("s"), EXTRAS)
    assert summary["kept"] == 2
    assert summary["redundant"] == 2
    assert summary["copies_histogram"] == {"3": 1}


def test_a_decided_drop_without_representative_is_in_no_group(tmp_path: Path) -> None:
    refused = Planted("s/b", jpeg(picture(2)), verdict=Verdict.DROP, kind="decision", score=1.0)
    layout = SmallRun(tmp_path, [Planted("s/a", jpeg(picture(1))), refused]).write()
    summary = summarise(layout, named("s"), EXTRAS)
    assert summary["dropped_by"] == {"decision": 1}
    assert summary["copies_histogram"] == {"1": 1}


def test_a_damaged_shard_is_counted_apart(tmp_path: Path) -> None:
    damage = Failure("00001", "read", FailureReason.TRUNCATED_TAR, "ends early")
    layout = SmallRun(tmp_path, _samples(), shard_failures=[("00001", damage)]).write()
    summary = summarise(layout, named(*SHARDS), EXTRAS)
    assert summary["shards_failed"] == 1
    assert summary["failed"] == 3


def test_an_unreadable_shard_without_tables_counts_nothing(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("00000/a", jpeg(picture(1)))]).write()
    damage = {
        "subject": "00001",
        "shard": "00001",
        "stage": "read",
        "reason": "unreadable_shard",
        "detail": "",
    }
    write_table(layout.shard_failures("00001"), pa.Table.from_pylist([damage], schema=FAILURES))
    summary = summarise(layout, named(*SHARDS), EXTRAS)
    assert summary["shards_failed"] == 1
    assert summary["shards"][1] == {"shard": "00001", "read": 0, "kept": 0, "dropped": 0, "failed": 0}


def _lose(rows: list[dict[str, Any]]) -> None:
    del rows[1]


def _double(rows: list[dict[str, Any]]) -> None:
    rows.append(dict(rows[0]))


def _rename(rows: list[dict[str, Any]]) -> None:
    rows[0]["sample_id"] = "00000/z"


def _revive(rows: list[dict[str, Any]]) -> None:
    rows[3].update(verdict="keep", copies=1)


def _unread(rows: list[dict[str, Any]]) -> None:
    rows[2]["verdict"] = "failed"


def _miscount(rows: list[dict[str, Any]]) -> None:
    rows[0]["copies"] = 7


def _misjoin(rows: list[dict[str, Any]]) -> None:
    rows[0]["component_size"] = 3


def _unproven(rows: list[dict[str, Any]]) -> None:
    rows[1]["kind"] = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lose, r"shard 00000: read 4, kept 2, dropped 0, failed 1.* features/ alone, the first 00000/b"),
        (_double, r"shard 00000: verdicts hold 5 rows but 4 ids"),
        (_rename, r"shard 00000: .*the first 00000/a"),
        (_revive, r"shard 00000: 1 samples could not be read but 0 .* 00000/d: status truncated_image"),
        (_unread, r"shard 00000: 1 samples could not be read but 2 .* 00000/c: status ok"),
        (_miscount, r"copies of all groups: 10, expected 6"),
        (_misjoin, r"1 samples say that they are in components of 3"),
        (_unproven, r"00000/b is dropped without a kind"),
    ],
)
def test_every_loss_is_an_error(
    layout: RunLayout, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    _change(layout, "00000", change)
    with pytest.raises(ReconciliationError, match=message):
        summarise(layout, named(*SHARDS), EXTRAS)


def test_a_missing_verdict_file_is_an_error(layout: RunLayout) -> None:
    os.remove(layout.verdicts("00001"))
    with pytest.raises(ReconciliationError, match=r"shard 00001: .* is missing"):
        summarise(layout, named(*SHARDS), EXTRAS)


def test_a_shard_counted_twice_is_an_error(layout: RunLayout) -> None:
    with pytest.raises(ReconciliationError, match="shard 00000 was counted 2 times"):
        summarise(layout, named(*SHARDS, "00000"), EXTRAS)


def test_a_tally_that_does_not_add_up_names_its_numbers() -> None:
    with pytest.raises(
        ReconciliationError, match=r"shard x: read 5 is not kept 1 \+ dropped 1 \+ failed 1 = 3"
    ):
        ShardTally("x", 5, 1, 1, 1).check()


def test_unknown_extras_are_refused(layout: RunLayout) -> None:
    with pytest.raises(ValueError, match=r"\['seconds'\] are not known"):
        summarise(layout, named(*SHARDS), {"seconds": 3})


_COUNTS = st.integers(0, 5)


@st.composite
def _part(draw: st.DrawFn) -> ShardStatistics:
    kept, groups = draw(_COUNTS), draw(_COUNTS)
    kinds = draw(st.dictionaries(st.sampled_from(["bytes", "pixels"]), st.integers(1, 5)))
    reasons = draw(st.dictionaries(st.sampled_from(["no_image", "empty_image"]), st.integers(1, 5)))
    tally = ShardTally(draw(st.text("abc", min_size=1, max_size=6)), kept, kept, 0, 0)
    sizes = draw(st.dictionaries(st.integers(2, 4), st.integers(1, 9)))
    copies = draw(st.dictionaries(st.integers(1, 4), st.integers(1, 9)))
    return ShardStatistics((tally,), draw(_COUNTS), groups, draw(_COUNTS), kinds, reasons, sizes, copies)


@settings(max_examples=50, deadline=None)
@given(st.lists(_part(), max_size=8, unique_by=lambda p: p.shards[0].shard), st.integers(0, 8), st.randoms())
def test_merge_is_associative_and_commutative(parts: list[ShardStatistics], cut: int, random: Any) -> None:
    whole = ShardStatistics.merge(parts)
    mixed = list(parts)
    random.shuffle(mixed)
    halves = ShardStatistics.merge([ShardStatistics.merge(mixed[:cut]), ShardStatistics.merge(mixed[cut:])])
    assert halves == whole
    assert ShardStatistics.merge([whole, ShardStatistics()]) == whole
