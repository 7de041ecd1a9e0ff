"""What stops a run before any work: one clear line and exit code 2 or 1."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from integration.runs import dedup
from onceseen.cli import main
from onceseen.core.layout import RunLayout
from onceseen.jobs.lock import run_lock

HASHES = ("--set", "embed.model=none", "--set", "cells.enabled=false")


@pytest.fixture
def shards(demo: Path, tmp_path: Path) -> Path:
    """One shard of the demo, to be changed by a test."""
    directory = tmp_path / "shards"
    directory.mkdir()
    shutil.copy(demo / "shards" / "00000.tar", directory)
    return directory


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_no_input_matched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dedup(tmp_path / "*.tar", tmp_path / "run") == 2
    assert str(tmp_path / "*.tar") in _error(capsys)
    assert not (tmp_path / "run" / "features").exists()


def test_ambiguous_ids(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other" / "shards"
    shutil.copytree(shards, other)
    assert dedup(shards, tmp_path / "run", str(other)) == 2
    assert "shards" in _error(capsys)


def test_output_not_writable(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert dedup(shards, tmp_path / "file" / "run") == 1
    assert "cannot be written" in _error(capsys)


def test_unknown_model_option_and_key(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dedup(shards, tmp_path / "run", "--set", "embed.model=clip") == 2
    assert "embed.model is 'clip'" in _error(capsys)
    assert dedup(shards, tmp_path / "run", "--set", "embed.model=onnx:nowhere.onnx") == 2
    assert "nowhere.onnx" in _error(capsys)
    assert dedup(shards, tmp_path / "run", "--set", "cells.device=tpu") == 2
    assert "cells.device is 'tpu'" in _error(capsys)
    assert dedup(shards, tmp_path / "run", "--no_such_option=1") == 2
    assert "--no_such_option=1" in _error(capsys)
    assert dedup(shards, tmp_path / "run", "--set", "embed.model=none") == 2
    assert "cells.enabled: false" in _error(capsys)


@pytest.mark.parametrize("section", ["embed", "cells"])
def test_a_gpu_that_is_not_there(
    section: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
    assert dedup(shards, tmp_path / "run", "--set", f"{section}.device=cuda") == 2
    assert f"{section}.device is 'cuda', but " in _error(capsys)
    assert not (tmp_path / "run").exists()


def test_another_models_features_and_another_input(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert dedup(shards, run, *HASHES, "--dry-run") == 0
    capsys.readouterr()
    assert dedup(shards, run, "--dry-run") == 2
    assert "embed.model: none before, efficientnet-lite0" in _error(capsys)
    assert dedup(shards, tmp_path / "r2", "--dry-run", "--features", str(run)) == 2
    assert "cannot be used" in _error(capsys)
    shutil.copy(shards / "00000.tar", shards / "00001.tar")
    assert dedup(shards, run, *HASHES, "--dry-run") == 2
    assert "1 shard(s) new, for example 00001" in _error(capsys)
    assert dedup(shards, run, *HASHES, "--dry-run", "--overwrite") == 0


def test_a_held_lock(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(RunLayout(str(tmp_path / "run"))):
        assert dedup(shards, tmp_path / "run", *HASHES) == 1
    assert "is held by process" in _error(capsys)


def test_too_many_failures_stop_before_the_rewrite(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert dedup(demo / "shards", run, *HASHES, "--set", "read.max_failed_fraction=0") == 1
    assert "read.max_failed_fraction" in _error(capsys)
    assert not (run / "shards").exists()
    assert dedup(demo / "shards", run, *HASHES, "--set", "read.max_failed_fraction=1") == 0
    assert (run / "shards" / "00000.tar").exists()


def test_a_run_never_removes_what_is_not_its_own(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (shards / "00000.tar").read_bytes()
    assert dedup(shards, tmp_path, *HASHES) == 2  # RUN/shards is SRC
    assert f"{shards / '00000.tar'} lies in {shards}" in _error(capsys)
    assert dedup(f"{shards}/*.tar", tmp_path, *HASHES, "--overwrite") == 2
    assert "choose another --output" in _error(capsys)
    other = tmp_path / "other"
    (other / "stats").mkdir(parents=True)
    (other / "stats" / "mine.txt").write_text("precious")
    for flags in ((), ("--overwrite",)):
        assert dedup(shards, other, *HASHES, *flags) == 2
        assert "holds stats but no run.json" in _error(capsys)
    assert (other / "stats" / "mine.txt").read_text() == "precious"
    assert (shards / "00000.tar").read_bytes() == before


def test_a_run_never_reads_itself(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dedup(shards, shards / "run", *HASHES) == 2
    assert f"lies in SRC {shards}" in _error(capsys)
    assert dedup(shards, shards, *HASHES) == 2
    assert f"lies in SRC {shards}" in _error(capsys)
    run = tmp_path / "run"
    assert dedup(shards, run, *HASHES, "--dry-run") == 0
    capsys.readouterr()
    shutil.copytree(run, shards / "old")
    assert dedup(shards, run, *HASHES, "--dry-run") == 2
    assert f"holds a run directory; expected a dataset: move {shards / 'old'}" in _error(capsys)


def test_file_urls_are_paths(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a run"
    assert main(["dedup", shards.as_uri(), "--output", run.as_uri(), "--quiet", "--dry-run", *HASHES]) == 0
    assert (run / "report.html").exists()
    assert main(["report", f"{run.as_uri()}/"]) == 0
    assert dedup("file://elsewhere/shards", run, *HASHES) == 2
    assert "names the machine 'elsewhere'" in _error(capsys)
