"""Checks before any work."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from onceseen.core.config import ReadConfig, RunnerConfig
from onceseen.core.dicom import dicom_installed
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.checks import CheckError, check_disk, check_workers
from onceseen.jobs.runner import Runner
from onceseen.shards import list_shards

SHARD = Shard(0, "a", ShardKind.TAR, "/x/a.tar", 10_000_000_000, "1")


def test_disk_is_asked_for_what_is_still_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = RunLayout(str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000_000))
    with pytest.raises(CheckError, match=r"has 5.0 GB free and the run may need 11.8 GB: .* use --dry-run"):
        check_disk(layout, extract=[SHARD], rewrite=[SHARD])
    with pytest.raises(CheckError, match=r"may need 10.0 GB"):
        check_disk(layout, rewrite=[SHARD])  # after a dry run
    check_disk(layout, extract=[SHARD], rewrite=[SHARD], dry_run=True)
    check_disk(layout)  # everything was written before
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000_000))
    with pytest.raises(CheckError, match=r"may need 1.8 GB: free some, choose another --output$"):
        check_disk(layout, extract=[SHARD], rewrite=[SHARD], dry_run=True)


def _dicom_sources(root: Path) -> list[Shard]:
    """A folder of photographs' bytes, then one of DICOM, and a tar of DICOM."""
    dicom = bytes(128) + b"DICM"
    for name, data in (("a/x.jpg", b"\xff\xd8\xff"), ("b/IM1", dicom), ("b/IM2", dicom)):
        (root / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "folder" / name).write_bytes(data)
    (root / "tars").mkdir()
    with tarfile.open(root / "tars" / "00000.tar", "w") as tar:
        member = tarfile.TarInfo("k.dcm")
        member.size = len(dicom)
        tar.addfile(member, io.BytesIO(dicom))
    return [
        *list_shards([str(root / "folder")], ReadConfig()),
        *list_shards([str(root / "tars")], ReadConfig()),
    ]


def test_dicom_without_pydicom_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, slices, tar = _dicom_sources(tmp_path)
    layout, runner = RunLayout(str(tmp_path / "run")), Runner(RunnerConfig())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    check_workers(layout, [photos], runner)
    for shards, name in (([photos, slices], "b/IM1"), ([tar], r"k\.dcm")):
        with pytest.raises(CheckError, match=rf"{name} in .* is a DICOM file.*onceseen\[dicom\]"):
            check_workers(layout, shards, runner)
    monkeypatch.undo()
    if dicom_installed():
        check_workers(layout, [photos, slices], runner)
        check_workers(layout, [tar], runner)
