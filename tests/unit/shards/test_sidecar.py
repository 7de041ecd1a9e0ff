"""img2dataset's sidecars are carried along: rows of kept samples and of failed downloads, and the
statistics."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.shards.shard_tools import one_shard, picture, rewrite, triples, write_tar

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.records import Shard

KEYS = [f"{i:09d}" for i in range(4)]


def _shard(tmp_path: Path, keys: list[object], **columns: list[object]) -> Shard:
    path = write_tar(tmp_path / "in" / "00000.tar", triples(4))
    table = pa.table({"key": keys, "status": ["success"] * len(keys), **columns})
    table = table.replace_schema_metadata({"note": "kept"})
    pq.write_table(table, path.with_suffix(".parquet"))
    return one_shard(path.parent)


def _sidecar(tmp_path: Path) -> pa.Table:
    return pq.read_table(tmp_path / "out" / "00000.parquet")


def test_rows_of_kept_samples_and_of_failed_downloads(tmp_path: Path) -> None:
    shard = _shard(tmp_path, [*KEYS[:2], "000000077", *KEYS[2:]], rank=[5, 4, 3, 2, 1])
    summary = rewrite(shard, tmp_path / "out", [KEYS[1]])
    table = _sidecar(tmp_path)
    assert table.column("key").to_pylist() == [KEYS[0], "000000077", KEYS[2], KEYS[3]]
    assert table.column("rank").to_pylist() == [5, 3, 2, 1]
    assert table.column("onceseen_copies").to_pylist() == [3, None, 3, 3]
    assert table.column("onceseen_component_id").to_pylist() == ["comp", None, "comp", "comp"]
    assert table.column("onceseen_component_size").to_pylist() == [4, None, 4, 4]
    assert table.column("onceseen_weight").to_pylist() == pytest.approx([1 / 3, None, 1 / 3, 1 / 3])
    original = pq.read_schema(Path(shard.path).with_suffix(".parquet"))
    assert list(table.schema)[: len(original)] == list(original)
    assert table.schema.metadata[b"note"] == b"kept"
    assert (summary.read, summary.kept, summary.sidecar_rows) == (4, 3, 4)
    assert not summary.warnings


@pytest.mark.parametrize(("on_failure", "kept"), [("keep", ["x", "a"]), ("drop", ["a"])])
def test_failed_samples_rows(tmp_path: Path, on_failure: str, kept: list[str]) -> None:
    path = write_tar(tmp_path / "in" / "00000.tar", [("x.jpg", b""), ("a.jpg", b"1")])
    pq.write_table(pa.table({"key": ["x", "a"]}), path.with_suffix(".parquet"))
    rewrite(one_shard(path), tmp_path / "out", read=ReadConfig(on_failure=on_failure))
    assert _sidecar(tmp_path).column("key").to_pylist() == kept


def test_repeated_keys(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("b.jpg", b"4")]
    path = write_tar(tmp_path / "in" / "00000.tar", members)
    pq.write_table(pa.table({"key": ["a", "a", "b"], "n": [1, 2, 3]}), path.with_suffix(".parquet"))
    rewrite(one_shard(path), tmp_path / "out", ["a", "b"])
    assert _sidecar(tmp_path).column("n").to_pylist() == [2, 3]
    rewrite(one_shard(path), tmp_path / "out", ["a#2", "b", "b#2"])
    assert _sidecar(tmp_path).column("n").to_pylist() == [1]


def test_whole_number_keys_and_nulls(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "in" / "00000.tar", [("./7.jpg", b"1"), ("./8.jpg", b"2")])
    pq.write_table(pa.table({"key": pa.array([7, None, 8])}), path.with_suffix(".parquet"))
    rewrite(one_shard(path), tmp_path / "out", ["./7"])
    assert _sidecar(tmp_path).column("key").to_pylist() == [None, 8]


def test_an_earlier_runs_columns_are_replaced(tmp_path: Path) -> None:
    rewrite(_shard(tmp_path, list(KEYS)), tmp_path / "out", [KEYS[0]])
    rewrite(one_shard(tmp_path / "out"), tmp_path / "twice", [KEYS[1]])
    table = pq.read_table(tmp_path / "twice" / "00000.parquet")
    assert table.column_names.count("onceseen_copies") == 1
    assert table.column("key").to_pylist() == KEYS[2:]


def test_statistics_keep_their_own_fields(tmp_path: Path) -> None:
    shard = _shard(tmp_path, list(KEYS))
    stats = {"count": 5, "successes": 4, "failed_to_download": 1, "status_dict": {"success": 4}}
    Path(shard.path).with_name("00000_stats.json").write_text(json.dumps(stats, indent=4))
    rewrite(shard, tmp_path / "out", [KEYS[2]])
    written = json.loads((tmp_path / "out" / "00000_stats.json").read_text())
    assert written.pop("onceseen") == {"read": 4, "kept": 3, "dropped": 1, "failed": 0, "damaged": ""}
    assert written == stats


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_what_cannot_be_filtered_is_carried_with_a_warning(tmp_path: Path, content: bytes | None) -> None:
    path = write_tar(tmp_path / "in" / "00000.tar", triples(2))
    sidecar = path.with_suffix(".parquet")
    if content is None:
        pq.write_table(pa.table({"uid": ["a", "b"]}), sidecar)
    else:
        sidecar.write_bytes(content)
    path.with_name("00000_stats.json").write_text("{")
    summary = rewrite(one_shard(path.parent), tmp_path / "out", [KEYS[0]])
    assert (tmp_path / "out" / "00000.parquet").read_bytes() == sidecar.read_bytes()
    assert (tmp_path / "out" / "00000_stats.json").read_text() == "{"
    assert len(summary.warnings) == 2


def test_sidecars_can_be_left_out_and_are_then_removed(tmp_path: Path) -> None:
    shard = _shard(tmp_path, list(KEYS))
    rewrite(shard, tmp_path / "out")
    summary = rewrite(shard, tmp_path / "out", write=WriteConfig(sidecar=False, fsync=False))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00000.tar"]
    assert summary.sidecar_rows == 0


def test_the_same_bytes_again(tmp_path: Path) -> None:
    shard = _shard(tmp_path, list(KEYS), blob=[picture(i).hex() for i in range(4)])
    rewrite(shard, tmp_path / "out", [KEYS[0]])
    rewrite(shard, tmp_path / "again", [KEYS[0]])
    names = ("00000.tar", "00000.parquet")
    assert [(tmp_path / "out" / n).read_bytes() for n in names] == [
        (tmp_path / "again" / n).read_bytes() for n in names
    ]
