"""Comparing two runs."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onceseen.jobs.outcome import main


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    for name, compression in (("a", "zstd"), ("b", "none")):  # other bytes of a table, the same rows
        run = tmp_path / name
        for directory in ("shards/00", "verdicts/00", "stats"):
            (run / directory).mkdir(parents=True)
        (run / "shards/00/1.tar").write_bytes(b"kept")
        pq.write_table(
            pa.table({"sample_id": ["x", "y"]}), run / "verdicts/00/1.parquet", compression=compression
        )
        (run / "stats/summary.json").write_text("{}")
        (run / "stats/delete_list.csv").write_text("sample_id\n")
        (run / "timings.json").write_text(name)
    return tmp_path / "a", tmp_path / "b"


def test_runs_that_came_out_the_same(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run) for run in runs]) == 0
    assert "the same in all of 4 files" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["shards/00/1.tar", "stats/summary.json", "stats/delete_list.csv"])
def test_other_bytes_are_named(
    runs: tuple[Path, Path], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs[1] / path).write_bytes(b"other")
    assert main([str(run) for run in runs]) == 1
    assert capsys.readouterr().out == f"differs: {path}\n"


def test_other_rows_and_missing_files_are_named(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"sample_id": ["y", "x"]}), runs[1] / "verdicts/00/1.parquet")
    (runs[0] / "shards/00/1.tar").unlink()
    assert main([str(run) for run in runs]) == 1
    assert capsys.readouterr().out == "differs: shards/00/1.tar\ndiffers: verdicts/00/1.parquet\n"
