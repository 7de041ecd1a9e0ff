"""The written shards: layout as img2dataset's, readable by webdataset, the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from onceseen.planted.imaging import encode_jpeg, encode_png
from onceseen.planted.shards import (
    SIDECAR_SCHEMA,
    PlantedSample,
    sample_key,
    write_folder,
    write_parquet_shard,
    write_tar_shard,
)


@pytest.fixture
def samples() -> list[PlantedSample]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    return [
        PlantedSample(
            "a café", "https://images1.example.com/a.jpg", encode_jpeg(noise, 90).data, "jpg", 60, 40
        ),
        PlantedSample(
            "gone", "https://images1.example.com/b.jpg", None, error_message="HTTP Error 404: Not Found"
        ),
        PlantedSample("c", "https://images1.example.com/c.png", encode_png(noise).data, "png", 60, 40),
    ]


def test_tar_members_lie_together_in_order(tmp_path: Path, samples: list[PlantedSample]) -> None:
    path = write_tar_shard(tmp_path, 7, samples)
    with tarfile.open(path) as tar:
        infos = tar.getmembers()
    assert [info.name for info in infos] == [
        "000070000.jpg",
        "000070000.json",
        "000070000.txt",
        "000070002.json",
        "000070002.png",
        "000070002.txt",
    ]
    assert {(info.mtime, info.mode, info.uname) for info in infos} == {(0, 0o444, "bigdata")}


def test_webdataset_reads_what_was_written(tmp_path: Path, samples: list[PlantedSample]) -> None:
    path = write_tar_shard(tmp_path, 7, samples)
    read = list(wds.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [item["__key__"] for item in read] == ["000070000", "000070002"]
    assert read[0]["jpg"] == samples[0].image
    assert read[0]["txt"].decode() == "a café"
    assert read[1]["png"] == samples[2].image
    meta = json.loads(read[0]["json"])
    assert list(meta) == SIDECAR_SCHEMA.names
    assert meta["sha256"] == hashlib.sha256(read[0]["jpg"]).hexdigest()
    assert (meta["width"], meta["height"], meta["status"]) == (60, 40, "success")


def test_sidecar_and_statistics_count_the_failed_download(
    tmp_path: Path, samples: list[PlantedSample]
) -> None:
    write_tar_shard(tmp_path, 7, samples)
    table = pq.read_table(tmp_path / "00007.parquet")
    assert table.schema.equals(SIDECAR_SCHEMA)
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == ["success", "failed_to_download", "success"]
    assert rows[1]["width"] is None
    assert rows[1]["error_message"] == "HTTP Error 404: Not Found"
    stats = json.loads((tmp_path / "00007_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["failed_to_download"]) == (3, 2, 1)
    assert stats["status_dict"] == {"HTTP Error 404: Not Found": 1, "success": 2}


def test_parquet_holds_the_image_bytes(tmp_path: Path, samples: list[PlantedSample]) -> None:
    rows = pq.read_table(write_parquet_shard(tmp_path, 2, samples)).to_pylist()
    assert [row["jpg"] for row in rows] == [sample.image for sample in samples]
    assert [row["key"] for row in rows] == ["000020000", "000020001", "000020002"]


def test_folder_holds_pictures_with_captions_beside_them(
    tmp_path: Path, samples: list[PlantedSample]
) -> None:
    folder = write_folder(tmp_path, 2, samples)
    assert sorted(path.name for path in folder.iterdir()) == [
        "000020000.jpg",
        "000020000.json",
        "000020000.txt",
        "000020002.json",
        "000020002.png",
        "000020002.txt",
    ]
    assert (folder / "000020000.jpg").read_bytes() == samples[0].image
    assert (folder / "000020000.txt").read_text(encoding="utf-8") == "a café"


@pytest.mark.parametrize("write", [write_tar_shard, write_parquet_shard, write_folder])
def test_the_same_samples_give_the_same_bytes(
    tmp_path: Path, samples: list[PlantedSample], write: object
) -> None:
    assert callable(write)
    for run in ("one", "two"):
        write(tmp_path / run, 0, samples)
    first = {
        p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("*") if p.is_file()
    }
    second = {
        p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("*") if p.is_file()
    }
    assert first
    assert first == second


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="row below 10000"):
        sample_key(0, 10_000)
    with pytest.raises(ValueError, match="got neither"):
        PlantedSample("", "u", None)
    with pytest.raises(ValueError, match="got both"):
        PlantedSample("", "u", b"x", error_message="HTTP Error 404: Not Found")
