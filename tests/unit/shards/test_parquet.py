"""Parquet files with image bytes: keys, columns, damage, pictures read again, and the rewrite."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.shards.shard_tools import READ, WRITE, one_shard, picture, read_all, rewrite, verdict

from onceseen.core.config import ReadConfig
from onceseen.core.failures import FailureReason
from onceseen.core.records import Shard, ShardKind
from onceseen.shards import WantedImage, read_images, rewrite_shard
from onceseen.shards.parquet_read import open_parquet, row_batches


def _write(path: Path, columns: dict[str, object], rows_a_group: int = 40, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, row_group_size=rows_a_group, **options)
    return path


def _structs(count: int) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": picture(i), "path": f"{i}.jpg"} for i in range(count)], kind)


def _hugging_face(path: Path, count: int = 100) -> Path:
    table = pa.table(
        {"label": list(range(count)), "image": _structs(count), "text": [f"t {i}" for i in range(count)]}
    )
    features = {
        "info": {"features": {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}}
    }
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    return _write(path, table)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_binary_column(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "md5": pa.array([b"x" * 16] * 100, pa.binary(16)),
        "jpg": pa.array([picture(i) for i in range(100)], kind),
        "key": [f"k{i}" for i in range(100)],
        "caption": [f"c {i}" for i in range(100)],
        "url": [f"u{i}" for i in range(100)],
    }
    samples, failures = read_all(one_shard(_write(tmp_path / "in" / "p.parquet", columns)))
    assert not failures
    assert [s.image for s in samples] == [picture(i) for i in range(100)]
    assert [s.sample_id for s in samples] == [f"p/k{i}" for i in range(100)]
    assert [s.caption for s in samples] == [f"c {i}" for i in range(100)]
    assert [json.loads(s.meta) for s in samples] == [{"url": f"u{i}"} for i in range(100)]
    assert {(s.member, s.member_offset) for s in samples} == {("jpg", -1)}


def test_hugging_face_struct(tmp_path: Path) -> None:
    samples, failures = read_all(one_shard(_hugging_face(tmp_path / "in" / "train-00000.parquet")))
    assert not failures
    assert [s.image for s in samples] == [picture(i) for i in range(100)]
    assert [s.sample_id for s in samples][:2] == ["train-00000/000000000", "train-00000/000000001"]
    assert samples[3].caption == "t 3"


@pytest.mark.parametrize(
    ("column", "keys"),
    [
        (["a", "b", "c"], ["a", "b", "c"]),
        ([10, 7, 8], ["10", "7", "8"]),
        (["a", "b", "a"], ["000000000", "000000001", "000000002"]),
        (["a", None, "c"], ["000000000", "000000001", "000000002"]),
        (["a", "", "c"], ["000000000", "000000001", "000000002"]),
        ([0.5, 1.5, 2.5], ["000000000", "000000001", "000000002"]),
    ],
)
def test_key_column_by_default(tmp_path: Path, column: list[object], keys: list[str]) -> None:
    path = _write(tmp_path / "p.parquet", {"key": column, "image": [b"1", b"2", b"3"]})
    assert [s.key for s in read_all(one_shard(path))[0]] == keys


def test_named_columns(tmp_path: Path) -> None:
    columns = {
        "thumb": [b"no"] * 4,
        "picture": [b"1", b"2", b"3", b"4"],
        "uid": ["x", "y", None, "x"],
        "alt": ["p", "q", "r", None],
        "caption": ["wrong"] * 4,
    }
    config = ReadConfig(image_column="picture", key_column="uid", caption_column="alt", meta_columns=("uid",))
    samples, _ = read_all(one_shard(_write(tmp_path / "p.parquet", columns), config), config)
    assert [s.key for s in samples] == ["x", "y", "000000002", "x#2"]
    assert [s.image for s in samples] == [b"1", b"2", b"3", b"4"]
    assert [s.caption for s in samples] == ["p", "q", "r", ""]
    assert samples[2].meta == '{"uid": null}'


def test_samples_that_cannot_be_judged(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.parquet", {"image": [None, b"", b"x" * 50, b"fine"]})
    config = ReadConfig(max_bytes=40)
    samples, failures = read_all(one_shard(path), config)
    assert not failures
    assert [s.error for s in samples] == [
        FailureReason.NO_IMAGE,
        FailureReason.EMPTY_IMAGE,
        FailureReason.TOO_MANY_BYTES,
        None,
    ]


def test_a_null_struct_has_no_image(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None, {"bytes": None, "path": "elsewhere.jpg"}, {"bytes": b"1", "path": None}]
    samples, _ = read_all(one_shard(_write(tmp_path / "p.parquet", {"image": pa.array(rows, kind)})))
    assert [s.error for s in samples] == [FailureReason.NO_IMAGE, FailureReason.NO_IMAGE, None]


def test_pictures_read_again_by_row_group(tmp_path: Path) -> None:
    shard = one_shard(_hugging_face(tmp_path / "p.parquet"))
    wanted = [WantedImage(row, f"{row:09d}", "image", -1, 900) for row in (99, 3, 41, 40, 39, 0)]
    assert list(read_images(shard, READ, wanted)) == [(r, picture(r)) for r in (0, 3, 39, 40, 41, 99)]
    assert list(read_images(shard, READ, [])) == []
    with pytest.raises(ValueError, match=r"has 100 rows.*--overwrite"):
        list(read_images(shard, READ, [WantedImage(100, "x", "image", -1, 1)]))


def test_a_damaged_footer(tmp_path: Path) -> None:
    path = _hugging_face(tmp_path / "in" / "p.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    shard = one_shard(path)
    samples, failures = read_all(shard)
    assert not samples
    assert [(f.subject, f.reason) for f in failures] == [("p", FailureReason.BAD_PARQUET)]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "p.parquet").write_bytes(b"of an earlier rewrite")
    summary = rewrite(shard, tmp_path / "out")
    assert summary.damaged.startswith("bad_parquet: ")
    assert not (tmp_path / "out" / "p.parquet").exists()


@pytest.mark.parametrize("where", ["header", "checksum"])
def test_damage_in_the_middle_gives_the_rows_before_it(tmp_path: Path, where: str) -> None:
    path = _write(
        tmp_path / "in" / "p.parquet",
        {"image": [picture(i) for i in range(100)], "other": [f"o{i}" for i in range(100)]},
        compression="none",
        use_dictionary=False,
        write_page_checksum=where == "checksum",
    )
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    if where == "header":
        data[column.data_page_offset : column.data_page_offset + 20] = b"\xff" * 20
    else:
        data[column.data_page_offset + column.total_compressed_size - 5] ^= 1
    path.write_bytes(data)
    shard = one_shard(path)
    samples, failures = read_all(shard)
    assert [f.reason for f in failures] == [FailureReason.BAD_PARQUET]
    assert [s.image for s in samples] == [picture(i) for i in range(40)]
    summary = rewrite(shard, tmp_path / "out", ["000000007"])
    assert summary.damaged.startswith("bad_parquet: ")
    table = pq.read_table(tmp_path / "out" / "p.parquet")
    assert table.column("other").to_pylist() == [f"o{i}" for i in range(40) if i != 7]


def test_a_file_without_image_column_is_a_failure(tmp_path: Path) -> None:
    path = _write(tmp_path / "p.parquet", {"key": ["a"]})
    shard = Shard(0, "p", ShardKind.PARQUET, str(path), 1, "")
    assert [f.reason for f in read_all(shard)[1]] == [FailureReason.BAD_PARQUET]
    gone = Shard(0, "q", ShardKind.PARQUET, str(tmp_path / "q.parquet"), 1, "")
    assert [f.reason for f in read_all(gone)[1]] == [FailureReason.UNREADABLE_SHARD]


def test_rewrite_keeps_schema_order_and_values(tmp_path: Path) -> None:
    path = _hugging_face(tmp_path / "in" / "p.parquet")
    dropped = [f"{i:09d}" for i in range(100) if i % 3 == 0 or 40 <= i < 80]
    summary = rewrite(one_shard(path), tmp_path / "out", dropped)
    before, after = pq.read_table(path), pq.read_table(tmp_path / "out" / "p.parquet")
    kept = [i for i in range(100) if f"{i:09d}" not in dropped]
    assert after.select(before.column_names).equals(before.take(kept))
    assert after.schema.metadata == before.schema.metadata
    assert after.column_names == [
        *before.column_names,
        "onceseen_copies",
        "onceseen_component_id",
        "onceseen_component_size",
        "onceseen_weight",
    ]
    assert after.column("onceseen_copies").to_pylist() == [3] * len(kept)
    assert (summary.kept, summary.dropped) == (len(kept), len(dropped))
    assert summary.bytes_written == (tmp_path / "out" / "p.parquet").stat().st_size
    file = pq.ParquetFile(tmp_path / "out" / "p.parquet")
    assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [26, 13]


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "ZSTD"])
def test_rewrite_keeps_the_compression(tmp_path: Path, codec: str) -> None:
    columns = {"image": [picture(i) for i in range(9)], "text": ["same"] * 9}
    path = _write(tmp_path / "in" / "p.parquet", columns, compression=codec, use_dictionary=["text"])
    rewrite(one_shard(path), tmp_path / "out", ["000000002"])
    group = pq.ParquetFile(tmp_path / "out" / "p.parquet").metadata.row_group(0)
    assert {group.column(i).compression for i in (0, 1)} == {codec.replace("NONE", "UNCOMPRESSED")}
    assert "RLE_DICTIONARY" not in group.column(0).encodings
    assert "RLE_DICTIONARY" in group.column(1).encodings


def test_all_dropped_and_twice(tmp_path: Path) -> None:
    path = _hugging_face(tmp_path / "in" / "p.parquet", 5)
    keys = [f"{i:09d}" for i in range(5)]
    rewrite(one_shard(path), tmp_path / "none", keys)
    empty = pq.read_table(tmp_path / "none" / "p.parquet")
    assert empty.num_rows == 0
    assert read_all(one_shard(tmp_path / "none" / "p.parquet")) == ([], [])
    rewrite(one_shard(path), tmp_path / "once", keys[:1])
    rewrite(one_shard(path), tmp_path / "again", keys[:1])
    assert (tmp_path / "once" / "p.parquet").read_bytes() == (tmp_path / "again" / "p.parquet").read_bytes()
    rewrite(one_shard(tmp_path / "once" / "p.parquet"), tmp_path / "twice", [])
    assert pq.read_table(tmp_path / "twice" / "p.parquet").equals(
        pq.read_table(tmp_path / "once" / "p.parquet")
    )


def test_rows_without_verdict_are_refused(tmp_path: Path) -> None:
    shard = one_shard(_hugging_face(tmp_path / "in" / "p.parquet", 5))
    samples, _ = read_all(shard)
    verdicts = {s.key: verdict(s) for s in samples}
    few = {s.key: verdicts[s.key] for s in samples[:4]}
    with pytest.raises(ValueError, match="has no verdict"):
        rewrite_shard(shard, few, str(tmp_path / "out"), READ, WRITE)
    with pytest.raises(ValueError, match="6 samples have verdicts, 5 were met"):
        rewrite_shard(shard, {**verdicts, "x": verdicts[samples[0].key]}, str(tmp_path / "out"), READ, WRITE)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("size", "rows"), [(1_000, 32), (3_000_000, 2), (9_000_000, 1)])
def test_large_rows_come_in_small_batches(tmp_path: Path, size: int, rows: int) -> None:
    images = [bytes([i]) * size for i in range(40 if size < 10_000 else 5)]
    path = _write(tmp_path / "a.parquet", {"image": images}, compression="none", use_dictionary=False)
    with open_parquet(str(path)) as file:
        batches = list(row_batches(file, 0))
    assert max(batch.num_rows for _, batch in batches) == rows
    assert [first for first, _ in batches] == list(range(0, len(images), rows))


def test_a_written_page_holds_few_rows(tmp_path: Path) -> None:
    """A page is the least that can be read; written at once, all of these rows would be one of 80 MB."""
    images = [bytes([i]) * 2_000_000 for i in range(40)]
    _write(tmp_path / "in" / "a.parquet", {"image": images}, compression="none", use_dictionary=False)
    shard = one_shard(tmp_path / "in")
    verdicts = {sample.key: verdict(sample) for sample in read_all(shard)[0]}
    rewrite_shard(shard, verdicts, str(tmp_path / "out"), READ, WRITE)
    column = pq.read_metadata(tmp_path / "out" / "a.parquet").row_group(0).column(0)
    assert column.num_values == 40
    whole = (tmp_path / "out" / "a.parquet").read_bytes()
    assert _first_page_bytes(whole, column.data_page_offset) < 40_000_000


def _first_page_bytes(file: bytes, offset: int) -> int:
    """The uncompressed size in a page's header: a Thrift struct whose second field it is, as a zigzag varint."""
    at = offset + 3  # field 1 (type), its value, field 2
    value = shift = 0
    while True:
        byte = file[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
