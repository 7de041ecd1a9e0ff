"""What a run says of a sample, looked up by key and URL: no torch, no pipeline."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onceseen.core.schemas import VERDICTS
from onceseen.training import (
    MEMBER,
    VerdictTables,
    accepted_by_weight,
    kept,
    largest_weight,
    sample_copies,
    sample_weight,
    weights,
)


def _row(shard: str, key: str, verdict: str, copies: int = 1, weight: float = 1.0) -> dict[str, Any]:
    row = dict.fromkeys(VERDICTS.names)
    row |= {"sample_id": f"{shard}/{key}", "shard": shard, "key": key, "verdict": verdict, "copies": copies}
    return row | {"component_size": copies, "weight": weight}


def _run(directory: Path, rows: list[dict[str, Any]], alpha: float = 1.0) -> str:
    for shard in {row["shard"] for row in rows}:
        path = directory / "verdicts" / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist([row for row in rows if row["shard"] == shard], schema=VERDICTS)
        pq.write_table(table, path)
    config = {"config": {"keep": {"alpha": alpha}}}
    (directory / "run.json").write_text(json.dumps(config), encoding="utf-8")
    return str(directory)


def _sample(url: str, key: str, **members: Any) -> dict[str, Any]:
    return {"__url__": url, "__key__": key, **members}


@pytest.fixture
def run(tmp_path: Path) -> str:
    rows = [
        _row("00000", "a", "keep", copies=9),
        _row("00000", "b", "drop", copies=9, weight=0.0),
        _row("00000", "c", "failed", copies=0),
        _row("part1/00000", "a", "drop", weight=0.0),
        _row("part1/00000", "d/e", "keep", copies=4),
    ]
    return _run(tmp_path / "run", rows)


def test_kept_leaves_out_what_was_dropped(run: str) -> None:
    stays = kept(run)
    verdicts = [stays(_sample("/data/00000.tar", key)) for key in "abc"]
    assert verdicts == [True, False, True]


def test_failed_samples_can_be_left_out(run: str) -> None:
    assert not kept(run, failed=False)(_sample("/data/00000.tar", "c"))


@pytest.mark.parametrize(
    "url", ["/data/part1/00000.tar", "file:/data/part1/00000.tar", "s3://bucket/part1/00000.tar"]
)
def test_the_longest_name_that_has_a_table_is_the_shard(run: str, url: str) -> None:
    assert VerdictTables(run).lookup(_sample(url, "a")).sample_id == "part1/00000/a"


def test_source_decides_which_shard_it_is(run: str) -> None:
    sample = _sample("/data/part1/00000.tar", "a")
    assert VerdictTables(run, source="/data/part1").lookup(sample).sample_id == "00000/a"
    assert VerdictTables(run, source="/data/").lookup(sample).sample_id == "part1/00000/a"


def test_a_shard_outside_the_source_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match="does not lie under source /other"):
        kept(run, source="/other")(_sample("/data/00000.tar", "a"))


def test_an_unknown_shard_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match=r"no table for /data/00007\.tar"):
        kept(run)(_sample("/data/00007.tar", "a"))


def test_an_unknown_sample_is_refused(run: str) -> None:
    with pytest.raises(ValueError, match=r"'zzz' of /data/00000\.tar has no verdict"):
        kept(run)(_sample("/data/00000.tar", "zzz"))


def test_a_repeated_key_counts_only_if_its_verdicts_agree(tmp_path: Path) -> None:
    rows = [_row("0", "same", "keep"), _row("0", "same#2", "keep"), _row("0", "other", "keep")]
    stays = kept(_run(tmp_path, [*rows, _row("0", "other#2", "drop", weight=0.0)]))
    assert stays(_sample("0.tar", "same"))
    with pytest.raises(ValueError, match="more than once with different verdicts"):
        stays(_sample("0.tar", "other"))


def test_only_the_last_few_tables_stay_in_memory(tmp_path: Path) -> None:
    tables = VerdictTables(_run(tmp_path, [_row(f"{n}", "a", "keep") for n in range(5)]), tables=2)
    for n in (0, 1, 2, 3, 4, 3):
        assert tables.lookup(_sample(f"{n}.tar", "a")).sample_id == f"{n}/a"
    assert list(tables._by_url) == ["4.tar", "3.tar"]


def test_tables_do_not_travel_to_workers(run: str) -> None:
    stays = kept(run)
    fresh = len(pickle.dumps(stays))
    stays(_sample("/data/00000.tar", "a"))
    again = pickle.loads(pickle.dumps(stays))
    assert len(pickle.dumps(stays)) == fresh
    assert not again(_sample("/data/00000.tar", "b"))


def test_weights_are_those_of_the_run_unless_another_alpha_is_asked_for(run: str) -> None:
    samples = [_sample("/data/00000.tar", key) for key in "ab"] + [_sample("/data/part1/00000.tar", "d/e")]
    assert [weights(run)(s) for s in samples] == [1.0, 0.0, 1.0]
    assert [weights(run, alpha=0.0)(s) for s in samples] == [9.0, 0.0, 4.0]
    assert [weights(run, alpha=0.5)(s) for s in samples] == [3.0, 0.0, 2.0]


def test_another_alpha_keeps_the_share_of_each_kept_copy(tmp_path: Path) -> None:
    """Two kept of eight copies under alpha 0 weigh 4 each; under alpha 1 they weigh 1 together."""
    rows = [_row("0", key, "keep", copies=8, weight=4.0) for key in "ab"]
    run = _run(tmp_path, rows, alpha=0.0)
    assert sum(weights(run, alpha=1.0)(_sample("0.tar", key)) for key in "ab") == pytest.approx(1.0)


def test_wrong_alpha_and_missing_run_json_are_refused(run: str) -> None:
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        weights(run, alpha=1.5)
    Path(run, "run.json").unlink()
    with pytest.raises(ValueError, match=r"does not tell the run's keep\.alpha"):
        weights(run, alpha=0.5)


def test_largest_weight(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", [_row("0", "a", "keep", weight=2.5), _row("x/1", "b", "keep", weight=7.0)])
    assert largest_weight(run) == 7.0
    with pytest.raises(ValueError, match="no kept sample"):
        largest_weight(str(tmp_path / "none"))


def _member(sample_id: str, weight: float) -> dict[str, Any]:
    return {"sample_id": sample_id, "verdict": "keep", "copies": 3, "component_size": 4, "weight": weight}


@pytest.mark.parametrize(
    "encode", [json.dumps, lambda m: json.dumps(m).encode(), dict], ids=["str", "bytes", "dict"]
)
def test_the_member_is_read_before_and_after_decoding(encode: Any) -> None:
    sample = _sample("0.tar", "a", **{MEMBER: encode(_member("0/a", 1.5))})
    assert (sample_weight(sample), sample_copies(sample)) == (1.5, 3)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, r"has no member onceseen\.json"),
        ({MEMBER: b"{"}, "JSONDecodeError"),
        ({MEMBER: b"\xff"}, "UnicodeDecodeError"),
        ({MEMBER: b"[]"}, "TypeError"),
        ({MEMBER: b'{"sample_id": "0/a"}'}, "KeyError"),
        ({MEMBER: json.dumps(_member("0/a", -1.0))}, "must not be negative"),
        ({MEMBER: json.dumps(_member("0/a", 1.0) | {"verdict": "maybe"})}, "expected keep, drop or failed"),
    ],
)
def test_a_wrong_member_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_weight(_sample("0.tar", "a", **members))


def _weighted(number: int, weight: float) -> dict[str, Any]:
    return _sample("0.tar", f"{number}", **{MEMBER: json.dumps(_member(f"0/{number}", weight))})


def test_samples_are_accepted_in_proportion_to_their_weight() -> None:
    accepts = accepted_by_weight(sample_weight, largest=4.0, seed=1)
    light = sum(accepts(_weighted(n, 1.0)) for n in range(4000))
    heavy = sum(accepts(_weighted(n, 4.0)) for n in range(4000))
    assert heavy == 4000
    assert abs(light - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5


def test_acceptance_is_fixed_by_seed_epoch_and_id_alone() -> None:
    def drawn(seed: int, epoch: int, order: list[int]) -> list[int]:
        accepts = accepted_by_weight(sample_weight, 2.0, seed=seed, epoch=epoch)
        return sorted(n for n in order if accepts(_weighted(n, 1.0)))

    forwards = list(range(200))
    assert drawn(0, 0, forwards) == drawn(0, 0, forwards[::-1])
    assert drawn(0, 0, forwards) != drawn(1, 0, forwards)
    assert drawn(0, 0, forwards) != drawn(0, 1, forwards)


def test_acceptance_on_original_shards_takes_the_id_of_the_run(run: str) -> None:
    """The directory that the shards lie in does not change the draw."""
    accepts = accepted_by_weight(weights(run, alpha=0.5), largest=30.0)
    assert accepts(_sample("/x/part1/00000.tar", "d/e")) == accepts(_sample("/y/z/part1/00000.tar", "d/e"))
    assert not accepts(_sample("/x/00000.tar", "b"))


def test_a_weight_over_the_largest_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weighs 3\.0, expected 0 to 2\.0"):
        accepted_by_weight(sample_weight, 2.0)(_weighted(1, 3.0))
    with pytest.raises(ValueError, match="expected a weight over 0"):
        accepted_by_weight(sample_weight, 0.0)
