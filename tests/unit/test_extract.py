"""Extracting one shard, without Beam: the same tables whatever the threads, and no memory handed back and forth."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from onceseen.core.config import EmbedConfig, FingerprintConfig, PipelineConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs import extract
from onceseen.jobs.extract import extract_shard
from onceseen.shards import list_shards

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
CONFIG = replace(PipelineConfig(), embed=EmbedConfig(model="none"))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """24 photographs, one of them three times, one cut short, and a text named .jpg."""
    pictures = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))[::7]]
    pictures[5:5] = [pictures[0], pictures[9][:-300], b"no picture", pictures[0]]
    path = tmp_path_factory.mktemp("input") / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for i, data in enumerate(pictures):
            for name, content in ((f"{i:03d}.jpg", data), (f"{i:03d}.txt", f"caption {i}".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return list_shards([str(path)], CONFIG.read)[0]


def run(shard: Shard, directory: Path, threads: int) -> RunLayout:
    layout = RunLayout(str(directory))
    config = replace(CONFIG, fingerprint=FingerprintConfig(threads=threads))
    summary = extract_shard(shard, config, layout, None, "test")
    assert (summary.read, summary.failed) == (28, 2)
    return layout


def test_threads_do_not_show_in_the_files(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "BLOCK_ROWS", 10)
    one, many = (run(shard, tmp_path / str(threads), threads) for threads in (1, 5))
    for place in (RunLayout.features, RunLayout.thumbs, RunLayout.shard_failures, RunLayout.extract_summary):
        files = [Path(place(layout, shard.name)).read_bytes() for layout in (one, many)]
        assert files[0] == files[1]


def test_bound_of_the_memo_does_not_show_in_the_files(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = run(shard, tmp_path / "wide", 3)
    monkeypatch.setattr(extract, "_MEMO_ROWS", 2)
    narrow = run(shard, tmp_path / "narrow", 3)
    files = [Path(layout.features(shard.name)).read_bytes() for layout in (wide, narrow)]
    assert files[0] == files[1]


def test_sha256_is_of_the_image_member(shard: Shard, tmp_path: Path) -> None:
    table = pq.read_table(run(shard, tmp_path, 2).features(shard.name))
    data = Path(shard.path).read_bytes()
    rows = [row for row in table.to_pylist() if row["status"] == "ok"]
    assert len(rows) == 26
    for row in rows:
        start = row["member_offset"]
        assert hashlib.sha256(data[start : start + row["member_size"]]).digest() == row["sha256"]


FAULTS = """
import resource
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from onceseen.jobs.extract import _keep_freed_memory

def use():
    for array in [np.empty(3 << 20, np.uint8) for _ in range(4)]:
        array.fill(1)

def faults():
    use()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        use()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

_keep_freed_memory()
with ThreadPoolExecutor(1) as pool:
    print(pool.submit(faults).result())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the bounds are those of the GNU C library")
def test_freed_memory_is_used_again() -> None:
    found = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) < 6_000  # 61,440 pages are touched, and by default all are new
