"""Builds shards for the tests of this room, and verdicts for what is in them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.failures import Failure
from onceseen.core.records import ImageSample, Shard
from onceseen.shards import RewriteSummary, VerdictRow, list_shards, read_shard, rewrite_shard

READ = ReadConfig()
WRITE = WriteConfig(fsync=False)

Member = tuple[str, bytes]


def write_tar(path: Path, members: Iterable[Member], tar_format: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of regular files, as Python's own module writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tar_format, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_600_000_000
            tar.addfile(info, io.BytesIO(data))
    return path


def picture(seed: int, size: int = 900) -> bytes:
    """Bytes that stand for a picture: this room never decodes."""
    return (hashlib.sha512(str(seed).encode()).digest() * (size // 64 + 1))[:size]


def triples(count: int) -> list[Member]:
    """img2dataset's members of some samples."""
    members: list[Member] = []
    for i in range(count):
        fields = {"caption": f"json caption {i}", "url": f"https://example.org/{i}.jpg", "width": 256}
        members.append((f"{i:09d}.jpg", picture(i, 700 + 211 * i)))
        members.append((f"{i:09d}.json", json.dumps(fields).encode()))
        members.append((f"{i:09d}.txt", f"caption {i}".encode()))
    return members


def one_shard(path: Path, config: ReadConfig = READ) -> Shard:
    """The only shard of a SRC."""
    shards = list_shards([str(path)], config)
    assert len(shards) == 1
    return shards[0]


def read_all(shard: Shard, config: ReadConfig = READ) -> tuple[list[ImageSample], list[Failure]]:
    """Samples and failures, the failures all at the end."""
    rows = list(read_shard(shard, config))
    samples = [row for row in rows if isinstance(row, ImageSample)]
    failures = [row for row in rows if isinstance(row, Failure)]
    assert rows == [*samples, *failures]
    assert [s.row for s in samples] == list(range(len(samples)))
    return samples, failures


def verdict(sample: ImageSample, *, drop: bool = False) -> VerdictRow:
    """A verdict for a sample: failed if it has an error."""
    kind = "failed" if sample.error else ("drop" if drop else "keep")
    return VerdictRow(
        sample_id=sample.sample_id,
        verdict=kind,
        representative_id="elsewhere/rep" if drop else sample.sample_id,
        copies=3,
        component_id="comp",
        component_size=4,
        weight=1 / 3,
        kind="pixels" if drop else "",
        score=1.0,
    )


def rewrite(
    shard: Shard,
    output: Path | str,
    dropped: Sequence[str] = (),
    read: ReadConfig = READ,
    write: WriteConfig = WRITE,
) -> RewriteSummary:
    """Reads a shard and rewrites it without some keys."""
    samples, _ = read_all(shard, read)
    verdicts = {s.key: verdict(s, drop=s.key in dropped) for s in samples}
    assert set(dropped) <= set(verdicts)
    summary = rewrite_shard(shard, verdicts, str(output), read, write)
    assert summary.read == summary.kept + summary.dropped + summary.failed == len(samples)
    return summary


def tar_members(path: Path) -> list[Member]:
    """Names and bytes of a tar's regular files, read by Python's own module."""
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
        found = [m for m in tar.getmembers() if m.isreg()]
        return [(m.name, data.read()) for m in found if (data := tar.extractfile(m)) is not None]
