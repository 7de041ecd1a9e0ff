"""A run that a crawl was appended to: read, explained, appended to again, moved."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from integration.runs import dedup, summary, tree, verdicts
from onceseen.cli import main


def append(source: Path, reference: Path, output: Path, *flags: str) -> int:
    arguments = ["scan", str(source), "--reference", str(reference), "--output", str(output), "--append"]
    failures = ("--set", "read.max_failed_fraction=1")
    return main([*arguments, "--quiet", *failures, *flags])


@pytest.fixture(scope="module")
def chain(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, each over one shard of the demo and appended to the one before."""
    root = tmp_path_factory.mktemp("chain")
    for number, name in enumerate(("one", "two", "three")):
        source = root / f"crawl{number}"
        source.mkdir()
        shutil.copy(demo / "shards" / f"{number:05d}.tar", source / "00000.tar")
        if not number:
            assert dedup(source, root / name, "--set", "read.max_failed_fraction=1") == 0
            continue
        before = tree(root / ("one", "two")[number - 1])
        prefix = ("--prefix", f"crawl{number}")
        assert append(source, root / ("one", "two")[number - 1], root / name, *prefix) == 0
        assert tree(root / ("one", "two")[number - 1]) == before
    return root


def _old(rows: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {k: (r["verdict"], r["representative_id"]) for k, r in rows.items()}


def test_old_verdicts_stand_and_counts_grow(chain: Path) -> None:
    runs = [verdicts(chain / name) for name in ("one", "two", "three")]
    for before, after in itertools.pairwise(runs):
        old = {k: r for k, r in after.items() if k in before}
        assert _old(old) == _old(before)
        assert len(after) > len(before)
    grown = [k for k in runs[0] if runs[2][k]["copies"] > runs[0][k]["copies"]]
    assert grown
    assert summary(chain / "three")["read"] == len(runs[2])
    copies = pq.read_table(chain / "three" / "stats" / "copies.parquet").to_pylist()
    listed = {row["sample_id"]: row["copies"] for row in copies}
    assert all(listed[k] == runs[2][k]["copies"] for k in grown if runs[2][k]["verdict"] == "keep")


def test_only_new_shards_are_written(chain: Path) -> None:
    written = [p.relative_to(chain / "three" / "shards") for p in (chain / "three" / "shards").rglob("*.tar")]
    assert written == [Path("crawl2/00000.tar")]
    assert not (chain / "three" / "features" / "00000.parquet").exists()


def test_commands_take_it_like_any_other(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = verdicts(chain / "three")
    dropped = next(
        r
        for r in rows.values()
        if r["verdict"] == "drop"
        and r["representative_id"].startswith("00000/")
        and r["sample_id"].startswith("crawl2/")
        and r["kind"] in ("perceptual", "embedding")
    )
    assert main(["explain", str(chain / "three"), dropped["sample_id"]]) == 0
    assert dropped["representative_id"] in capsys.readouterr().out
    assert main(["report", str(chain / "three")]) == 0
    report = (chain / "three" / "report.html").read_text()
    assert "cannot be read again" not in report
    assert "stored thumb, grey" not in report


def test_the_same_command_does_nothing_again(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(chain / "two")
    assert append(chain / "crawl1", chain / "one", chain / "two", "--prefix", "crawl1") == 0
    assert "done already" in capsys.readouterr().out
    assert tree(chain / "two") == before


def test_runs_can_be_moved_together_and_scanned(chain: Path, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        shutil.copytree(chain / name, tmp_path / "moved" / name)
    arguments = ["scan", str(chain / "crawl0"), "--reference", str(tmp_path / "moved" / "three")]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--quiet"]) == 0
    rows = pq.read_table(tmp_path / "out" / "flagged.parquet").to_pylist()
    judged = [r for r in rows if r["verdict"] != "failed"]
    assert {r["verdict"] for r in judged} == {"duplicate"}
    assert {r["kind"] for r in judged} == {"bytes"}


def test_ids_that_would_be_ambiguous_are_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert append(chain / "crawl1", chain / "one", tmp_path / "out") == 2
    assert "--prefix crawl2" in capsys.readouterr().err
    assert append(chain / "crawl1", chain / "one", tmp_path / "out", "--prefix", "00000") == 2
    assert "ambiguous" in capsys.readouterr().err


def test_old_pictures_cannot_be_decided_anew(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = next(iter(verdicts(chain / "one")))
    (tmp_path / "decisions.csv").write_text(f"{old},drop\n")
    flags = ("--prefix", "new", "--decisions", str(tmp_path / "decisions.csv"))
    assert append(chain / "crawl1", chain / "one", tmp_path / "out", *flags) == 2
    assert "whose shards are not changed here" in capsys.readouterr().err


def test_a_run_that_is_gone_is_named(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(chain / "two", tmp_path / "alone" / "two")
    arguments = ["scan", str(chain / "crawl0"), "--reference", str(tmp_path / "alone" / "two")]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--quiet"]) == 2
    assert str(tmp_path / "alone" / "one") in capsys.readouterr().err
