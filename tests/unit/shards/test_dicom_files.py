"""DICOM files in tars, tables and folders: found by extension, or by their mark where they have none."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.shards.shard_tools import READ

from onceseen.core.config import ReadConfig
from onceseen.core.records import ImageSample, Shard, ShardKind
from onceseen.shards import WantedImage, list_shards, read_images, read_shard

DICOM = bytes(128) + b"DICM" + b"and what follows"


def _folder(root: Path, *names: str, data: bytes = DICOM) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def _samples(shard: Shard) -> list[ImageSample]:
    found = list(read_shard(shard, READ))
    assert all(isinstance(s, ImageSample) for s in found)
    return [s for s in found if isinstance(s, ImageSample)]


def test_files_without_an_extension_are_found_by_their_mark(tmp_path: Path) -> None:
    marked = ("a/IM000001", "a/IM000002", "b/1.2.840.113619.2.55.3", "b/SCAN.IMA", "b/x.dcm", "b/y.DICOM")
    root = _folder(tmp_path / "set", *marked, "DICOMDIR", "a/DICOMDIR")
    _folder(root, "README", "a/LICENSE", "b/1.2.840.7", data=b"text without a mark" * 20)
    _folder(root, "a/IM000001.txt", data=b"a chest")
    shards = list_shards([str(root)], READ)
    assert [(s.name, s.kind) for s in shards] == [("a", ShardKind.FOLDER), ("b", ShardKind.FOLDER)]
    samples = [s for shard in shards for s in _samples(shard)]
    assert [s.sample_id for s in samples] == sorted(marked, key=str.encode)
    assert {s.image for s in samples} == {DICOM}
    assert samples[0].caption == "a chest"
    (again,) = read_images(shards[0], READ, [WantedImage(1, "IM000002", "a/IM000002", -1, 0)])
    assert again == (1, DICOM)


def test_files_named_one_by_one(tmp_path: Path) -> None:
    root = _folder(tmp_path, "IM1", "IM2")
    _folder(root, "notes", data=b"no picture")
    (shard,) = list_shards([str(root / "IM1"), str(root / "IM2")], READ)
    assert [s.key for s in _samples(shard)] == ["IM1", "IM2"]
    with pytest.raises(ValueError, match="notes is no shard"):
        list_shards([str(root / "IM1"), str(root / "notes")], READ)


def test_beside_tars_nothing_is_looked_into(tmp_path: Path) -> None:
    root = _folder(tmp_path / "set", "IM1")
    with tarfile.open(root / "00000.tar", "w") as tar:
        for name in ("k1.dcm", "k2.dicom", "k3.series.dcm"):
            member = tarfile.TarInfo(name)
            member.size = len(DICOM)
            tar.addfile(member, io.BytesIO(DICOM))
    (shard,) = list_shards([str(root)], READ)
    assert shard.kind is ShardKind.TAR
    assert [(s.key, s.image, s.extension) for s in _samples(shard)] == [
        (key, DICOM, extension) for key, extension in (("k1", "dcm"), ("k2", "dicom"), ("k3", "dcm"))
    ]


def test_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table({"key": ["a"], "image": [DICOM]}), path)
    (shard,) = list_shards([str(path)], READ)
    assert [s.image for s in _samples(shard)] == [DICOM]


def test_folders_of_long_numbers_are_split_with_their_captions(tmp_path: Path) -> None:
    names = [f"1.2.840.113619.{number}" for number in range(60)]
    root = _folder(tmp_path / "set", *names[:30], *(f"{n}.dcm" for n in names[30:]))
    _folder(root, *(f"{n}.txt" for n in names), data=b"caption")
    _folder(root, f"{names[40]}.dcm.json", data=b"{}")
    shards = list_shards([str(root)], ReadConfig(folder_split=20))
    assert len(shards) == 3
    sizes = [len(_samples(s)) for s in shards]
    assert sum(sizes) == 60
    assert min(sizes) > 5
    by_key = {s.key: s for shard in shards for s in _samples(shard)}
    # `1.2.3.4.txt` would be the caption of `1.2.3.4`, of `1.2.3.4.dcm` and, by its stem, of no other
    assert all(by_key[n].caption == "caption" for n in names[:30])
    assert all(by_key[f"{n}.dcm"].caption == "caption" for n in names[30:])
