"""The same shards through a Beam filesystem: everything goes by `store://` paths, as it would by gs:// or s3://.

The filesystem is a real one for Beam (found by its scheme), over a local directory, without directories of
its own as object stores are; its streams give short reads, as network streams do.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import CompressionTypes, FileMetadata, FileSystem
from tests.unit.shards.shard_tools import (
    READ,
    picture,
    read_all,
    rewrite,
    tar_members,
    triples,
    write_tar,
)

from onceseen.shards import WantedImage, list_shards, read_images

SCHEME = "store"


class _ShortReads(io.RawIOBase):
    """A file whose reads give at most 100,000 bytes."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed with this stream

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(memoryview(buffer)[:100_000])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


class StoreFileSystem(FileSystem):
    """`store://bucket/name` is a file under `root`."""

    root: ClassVar[Path]

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    def _local(self, path: str) -> Path:
        return self.root / path.removeprefix(f"{SCHEME}://")

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *(p.strip("/") for p in paths)])

    def split(self, path: str) -> tuple[str, str]:
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path: str) -> None:
        return

    def has_dirs(self) -> bool:
        return False

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(self.root.rglob("*")):
            name = f"{SCHEME}://{path.relative_to(self.root)}"
            if path.is_file() and name.startswith(dir_or_prefix):
                yield FileMetadata(name, path.stat().st_size, path.stat().st_mtime)

    def create(
        self,
        path: str,
        mime_type: str = "application/octet-stream",
        compression_type: str = CompressionTypes.AUTO,
    ) -> BinaryIO:
        self._local(path).parent.mkdir(parents=True, exist_ok=True)
        return open(self._local(path), "wb")

    def open(
        self,
        path: str,
        mime_type: str = "application/octet-stream",
        compression_type: str = CompressionTypes.AUTO,
    ) -> BinaryIO:
        return io.BufferedReader(_ShortReads(str(self._local(path))), 4096)

    def copy(self, source_file_names: Sequence[str], destination_file_names: Sequence[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            shutil.copyfile(self._local(source), self._local(target))

    def rename(self, source_file_names: Sequence[str], destination_file_names: Sequence[str]) -> None:
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            self._local(source).rename(self._local(target))

    def exists(self, path: str) -> bool:
        return self._local(path).is_file()

    def size(self, path: str) -> int:
        return self._local(path).stat().st_size

    def last_updated(self, path: str) -> float:
        return self._local(path).stat().st_mtime

    def checksum(self, path: str) -> str:
        return str(self.size(path))

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            self._local(path).unlink()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    StoreFileSystem.root = tmp_path
    return tmp_path / "bucket"


def test_tars_by_directory_file_and_glob(store: Path) -> None:
    for name in ("set/b/1", "set/0", "other/0"):
        write_tar(store / f"{name}.tar", triples(3))
    pq.write_table(pa.table({"key": ["000000001"]}), store / "set" / "0.parquet")
    for source in ("store://bucket/set", "store://bucket/set/", "store://bucket/set/**"):
        shards = list_shards([source], READ)
        assert [(s.name, s.path) for s in shards] == [
            ("0", "store://bucket/set/0.tar"),
            ("b/1", "store://bucket/set/b/1.tar"),
        ]
    assert [s.name for s in list_shards(["store://bucket/set/0.tar"], READ)] == ["0"]
    assert [s.name for s in list_shards(["store://bucket/*/0.tar"], READ)] == ["other/0", "set/0"]
    both = list_shards(["store://bucket/set", "store://bucket/other"], READ)
    assert [s.name for s in both] == ["other/0", "set/0", "set/b/1"]
    assert both[0].size == (store / "other" / "0.tar").stat().st_size
    with pytest.raises(ValueError, match="matches nothing"):
        list_shards(["store://bucket/none"], READ)


def test_a_tar_is_read_rewritten_and_read_by_range(store: Path) -> None:
    members = [(f"{i}.jpg", picture(i, 200_000 * i)) for i in range(12)]
    write_tar(store / "set" / "0.tar", members)
    pq.write_table(pa.table({"key": ["0", "3", "5"]}), store / "set" / "0.parquet")
    shard = list_shards(["store://bucket/set"], READ)[0]
    samples, failures = read_all(shard)
    assert not failures
    assert [s.image or b"" for s in samples] == [data for _, data in members]
    wanted = [WantedImage(s.row, s.key, s.member, s.member_offset, s.member_size) for s in samples[9:2:-3]]
    assert list(read_images(shard, READ, wanted)) == [(r, members[r][1]) for r in (3, 6, 9)]
    summary = rewrite(shard, "store://bucket/out", ["3", "11"])
    assert (summary.kept, summary.failed) == (9, 1)  # the first picture is empty
    output = store / "out" / "0.tar"
    assert sorted(p.name for p in output.parent.iterdir()) == ["0.parquet", "0.tar"]
    assert pq.read_table(output.with_suffix(".parquet")).column("key").to_pylist() == ["0", "5"]
    assert [m for m in tar_members(output) if m[0].endswith(".jpg")] == [
        m for m in members if m[0] not in ("3.jpg", "11.jpg")
    ]


def test_parquet_and_folders(store: Path) -> None:
    (store / "pq").mkdir(parents=True)
    table = pa.table({"image": [picture(i) for i in range(50)]})
    pq.write_table(table, store / "pq" / "a.parquet", row_group_size=20)
    (store / "photos" / "s").mkdir(parents=True)
    for i in range(5):
        (store / "photos" / "s" / f"{i}.jpg").write_bytes(picture(i))
        (store / "photos" / "s" / f"{i}.txt").write_text(f"caption {i}")
    parquet, folder = (list_shards([f"store://bucket/{n}"], READ)[0] for n in ("pq", "photos"))
    assert [s.image for s in read_all(parquet)[0]] == [picture(i) for i in range(50)]
    found = [(s.sample_id, s.image, s.caption) for s in read_all(folder)[0]]
    assert found == [(f"s/{i}.jpg", picture(i), f"caption {i}") for i in range(5)]
    rewrite(parquet, "store://bucket/out", ["000000007"])
    assert pq.read_table(store / "out" / "a.parquet").num_rows == 49
    rewrite(folder, "store://bucket/out", [])
    rewrite(folder, "store://bucket/out", ["2.jpg"])
    written = sorted(p.name for p in (store / "out" / "s").iterdir())
    assert written == sorted(f"{i}.{e}" for i in (0, 1, 3, 4) for e in ("jpg", "jpg.onceseen.json", "txt"))
