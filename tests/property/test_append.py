"""A crawl appended to a run comes to what one run over both comes to, with `keep.prefer: old`."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceseen.cli import main
from planted_demo import PHOTOS

SOURCES = 5
COPIES = ("photo", "jpeg", "small", "mirror", "crop", "letterbox", "blank", "broken")
Samples = Sequence[tuple[int, str]]
"""(source, copy) of each sample of a shard."""


@cache
def _photos() -> list[np.ndarray]:
    images = [cv2.imread(str(path)) for path in sorted(PHOTOS.glob("animal-*.jpg"))[:SOURCES]]
    return [
        cv2.resize(i, None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
        for i, s in ((i, 256 / max(i.shape[:2])) for i in images)
    ]


@cache
def _file(source: int, copy: str) -> bytes:
    image = _photos()[source]
    height, width = image.shape[:2]
    quality = 92
    if copy == "broken":
        return b"\xff\xd8\xff\xe0" + bytes([source])
    if copy == "jpeg":
        quality = 55
    elif copy == "small":
        image = cv2.resize(image, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    elif copy == "mirror":
        image = np.ascontiguousarray(image[:, ::-1])
    elif copy == "crop":
        image = image[height // 10 :, : -width // 10]
    elif copy == "letterbox":
        image = cv2.copyMakeBorder(image, height // 7, height // 7, 0, 0, cv2.BORDER_CONSTANT)
    elif copy == "blank":
        image = np.full((120, 160, 3), 40 * source, np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _write(directory: Path, shards: Sequence[Samples]) -> None:
    directory.mkdir(parents=True)
    for number, samples in enumerate(shards):
        with tarfile.open(directory / f"{number:05d}.tar", "w") as tar:
            for row, (source, copy) in enumerate(samples):
                for name, data in (
                    (f"{row:04d}.jpg", _file(source, copy)),
                    (f"{row:04d}.txt", f"picture {source}".encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def _rows(run: Path, name: str, strip: str = "") -> list[dict[str, Any]]:
    found = [
        row for path in sorted((run / name).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    for row in found:
        for key, value in row.items():
            if isinstance(value, str):
                row[key] = value.removeprefix(strip)
    return sorted(found, key=lambda row: [str(value) for value in row.values()])


def _written(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "shards").rglob("*.tar"))}


def _run(*arguments: object) -> None:
    code = main([*map(str, arguments), "--quiet", "--set", "read.max_failed_fraction=1"])
    assert code == 0


_sample = st.tuples(st.integers(0, SOURCES - 1), st.sampled_from(COPIES))
_shards = st.lists(st.lists(_sample, min_size=3, max_size=8), min_size=1, max_size=2)


@pytest.mark.timeout(600)
@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(_shards, _shards)
def test_an_appended_crawl_equals_one_run_over_both(old: Sequence[Samples], new: Sequence[Samples]) -> None:
    hashes = ("--set", "embed.model=none", "--set", "cells.enabled=false")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        _write(root / "a_old", old)
        _write(root / "b_new", new)
        first, second, both = root / "first", root / "second", root / "both"
        _run("dedup", root / "a_old", "--output", first, *hashes)
        before = {p: p.read_bytes() for p in sorted(first.rglob("*")) if p.is_file() and p.name != ".lock"}
        _run(
            "scan", root / "b_new", "--reference", first, "--output", second, "--append", "--prefix", "b_new"
        )
        after = {p: p.read_bytes() for p in sorted(first.rglob("*")) if p.is_file() and p.name != ".lock"}
        assert after == before
        _run("dedup", root / "a_old", root / "b_new", "--output", both, *hashes, "--set", "keep.prefer=old")
        for name in ("verdicts", "pairs", "stats"):
            assert _rows(second, name) == _rows(both, name, "a_old/"), name
        assert [row["verdict"] for row in _rows(first, "verdicts")] == [
            row["verdict"] for row in _rows(second, "verdicts") if not row["shard"].startswith("b_new/")
        ]
        assert {p.name for p in (second / "shards").iterdir()} == {"b_new"}
