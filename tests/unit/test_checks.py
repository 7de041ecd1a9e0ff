"""Checks before any work."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.checks import CheckError, check_disk

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
