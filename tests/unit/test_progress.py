"""Progress is counted from done marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from onceseen.core.files import read_json, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.progress import shard_progress, undone

SHARDS = [Shard(i, f"d/{i:05d}", ShardKind.TAR, f"/x/{i}.tar", 1, "1") for i in range(40)]


def test_marks_of_this_job_count_and_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = RunLayout(str(tmp_path))

    def done(shard: Shard) -> bool:
        path = Path(layout.rewrite_mark(shard.name))
        return path.exists() and read_json(str(path))["fingerprint"] == "now"

    marks = (layout.rewrite_marks_dir(), layout.rewrite_mark)
    with shard_progress("rewrite", SHARDS, marks, done, total=45, show=True):
        for shard in SHARDS[:30]:
            write_json(layout.rewrite_mark(shard.name), {"fingerprint": "now"})
        write_json(layout.rewrite_mark(SHARDS[30].name), {"fingerprint": "before"})
        write_json(layout.rewrite_mark("of another"), {"fingerprint": "now"})
    assert "35/45" in capsys.readouterr().err
    assert undone(SHARDS, done, marks) == SHARDS[30:]
    assert undone([], done, marks) == []


def test_no_bar_where_nobody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shard_progress("rewrite", SHARDS, (str(tmp_path), str), lambda _: True, total=40, show=False):
        pass
    assert capsys.readouterr().err == ""
