"""Takedown on finished runs of real photographs: what goes, what stays, and what a later run makes of it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from integration.runs import summary, tree, verdicts
from onceseen.cli import main
from onceseen.core.layout import RunLayout
from onceseen.jobs.decisions import DecisionRows
from onceseen.jobs.outcome import outcome
from onceseen.stats.lookup import read_run
from onceseen.takedown import applying, find_copies
from onceseen.takedown.deciding import decide_again

QUICK = ("--set", "embed.model=none", "--set", "cells.enabled=false", "--set", "verify.local_features=false")
FAILED = ("--set", "read.max_failed_fraction=0.1")
DAY = ("--date", "2026-01-31", "--why", "asked for")
PHOTOS = sorted((Path(__file__).resolve().parents[2] / "examples" / "photos").glob("*.jpg"))[:10]


def _dedup(source: Path, run: Path, *flags: str) -> int:
    return main(["dedup", str(source), "--output", str(run), "--quiet", *QUICK, *flags])


def _takedown(run: Path, *arguments: str) -> int:
    return main(["takedown", "--reference", str(run), *arguments])


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _files() -> dict[str, bytes]:
    """Photographs; of three also a PNG of the same pixels, a smaller copy and a worse one; one broken file."""
    files = {"broken.jpg": b"no picture"}
    for number, path in enumerate(PHOTOS):
        image = Image.open(path).convert("RGB")
        image.thumbnail((400, 400))
        files[f"p{number}.jpg"] = _encoded(image, "JPEG", quality=95)
        if number < 3:
            same = Image.open(io.BytesIO(files[f"p{number}.jpg"]))
            files[f"p{number}-same.png"] = _encoded(same, "PNG")
            files[f"p{number}-small.jpg"] = _encoded(
                image.resize((image.width // 2, image.height // 2)), "JPEG"
            )
            files[f"p{number}-worse.jpg"] = _encoded(image, "JPEG", quality=40)
    return files


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars, a picture's copies in different ones; never written to by tests."""
    root = tmp_path_factory.mktemp("takedown") / "shards"
    root.mkdir()
    for number in range(3):
        with tarfile.open(root / f"0000{number}.tar", "w") as tar:
            for place, (name, data) in enumerate(sorted(_files().items())):
                if place % 3 == number:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root


@pytest.fixture(scope="module")
def finished(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, never written to by tests."""
    run = tmp_path_factory.mktemp("takedown") / "run"
    assert _dedup(source, run, *FAILED) == 0
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to write to."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def _largest_group(run: Path) -> str:
    """The kept sample with the most copies."""
    counts = Counter(row["representative_id"] for row in verdicts(run).values() if row["verdict"] == "drop")
    return min(counts, key=lambda i: (-counts[i], i))


def _keys(run: Path) -> set[str]:
    """Sample ids that RUN/shards holds."""
    found = set()
    for path in (run / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            found |= {f"{path.stem}/{name.split('.')[0]}" for name in tar.getnames()}
    return found


def _listed(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_deciding_again_without_a_new_word_changes_nothing(finished: Path) -> None:
    layout = RunLayout(str(finished))
    assert decide_again(layout, read_run(layout), verdicts(finished), DecisionRows()) == {}


def test_every_copy_is_listed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(finished)
    known = verdicts(finished)
    head = _largest_group(finished)
    dropped = min(i for i, row in known.items() if row["representative_id"] == head and i != head)
    for asked in (head, dropped):  # the kept one and a copy that is not in the set any more
        assert _takedown(finished, "--sample", asked, "--output", "list.csv") == 0
        rows = _listed(tmp_path / "list.csv")
        taken = {row["sample_id"] for row in rows if row["taken"] == "True"}
        assert taken >= {i for i, row in known.items() if row["representative_id"] == head}
        assert {row["sample_id"] for row in rows} == {
            i for i, row in known.items() if row["component_id"] == known[head]["component_id"]
        }
        assert [row["sample_id"] for row in rows if row["relation"] == "asked"] == [asked]
        for row in rows:
            assert bool(row["written"]) == (known[row["sample_id"]]["verdict"] == "keep")
            assert row["verdict"] == known[row["sample_id"]]["verdict"]
            assert Path(row["source"]).exists()
            assert len(row["sha256"]) == 64
    assert tree(finished) == before, "a list changes nothing"


def test_apply_is_what_a_run_with_these_decisions_gives(source: Path, run: Path, tmp_path: Path) -> None:
    before = tree(source)
    head = _largest_group(run)
    layout = RunLayout(str(run))
    taken = {row.sample_id for row in find_copies(layout, read_run(layout), [head]).taken}
    assert _takedown(run, "--sample", head, "--apply", *DAY) == 0
    known = verdicts(run)
    assert all((known[i]["verdict"], known[i]["kind"]) == ("drop", "decision") for i in taken)
    assert not taken & _keys(run)
    assert _keys(run) == {i for i, row in known.items() if row["verdict"] != "drop"}
    assert summary(run)["dropped_by"]["decision"] == len(taken)
    ledger = _listed(run / "takedowns.csv")
    assert {row["sample_id"] for row in ledger} == taken
    assert {row["date"] for row in ledger} == {"2026-01-31"}
    assert all(row["why"].startswith("asked for (") and Path(row["path"]).exists() for row in ledger)
    assert tree(source) == before, "SRC is never touched"

    fresh = tmp_path / "fresh"
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("sample_id,decision\n" + "".join(f"{i},drop\n" for i in sorted(taken)))
    assert _dedup(source, fresh, *FAILED, "--decisions", str(decisions)) == 0
    assert outcome(str(run)) == outcome(str(fresh))


def test_a_later_run_does_not_bring_it_back(
    source: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = _largest_group(run)
    assert _takedown(run, "--sample", head, "--apply", *DAY) == 0
    after = outcome(str(run))
    marks = tree(run / ".state" / "rewrite")
    assert _dedup(source, run, *FAILED) == 0
    assert "nothing to do" in capsys.readouterr().out, "done marks and fingerprints are kept true"
    assert _dedup(source, run, *FAILED, "--redo", "match") == 0
    assert outcome(str(run)) == after
    assert tree(run / ".state" / "rewrite") == marks


def test_a_second_takedown_adds_to_the_ledger(run: Path) -> None:
    first = _largest_group(run)
    assert _takedown(run, "--sample", first, "--apply", *DAY) == 0
    before = (run / "takedowns.csv").read_text()
    alone = min(i for i, row in verdicts(run).items() if row["verdict"] == "keep" and row["copies"] == 1)
    assert _takedown(run, "--sample", alone, "--apply", "--date", "2026-02-01") == 0
    after = (run / "takedowns.csv").read_text()
    assert after.startswith(before)
    assert alone in after[len(before) :]
    assert alone not in _keys(run)
    again = tree(run)
    assert _takedown(run, "--sample", alone, "--apply", "--date", "2026-03-01") == 0
    assert {k: v for k, v in tree(run).items() if "run.json" not in k} == {
        k: v for k, v in again.items() if "run.json" not in k
    }


@pytest.mark.parametrize("after", [0, 1])
def test_a_killed_apply_can_be_given_again(run: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    head = _largest_group(run)
    other = Path(shutil.copytree(run, run.parent / "other"))
    assert _takedown(other, "--sample", head, "--apply", *DAY) == 0
    written = applying.rewrite_one
    done: list[str] = []

    def killed(shard: Any, *rest: Any) -> None:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(shard.name)
        written(shard, *rest)

    monkeypatch.setattr(applying, "rewrite_one", killed)
    assert _takedown(run, "--sample", head, "--apply", *DAY) == 1
    monkeypatch.undo()
    assert (run / "takedowns.csv").exists()
    assert outcome(str(run)) != outcome(str(other))
    assert _takedown(run, "--sample", head, "--apply", *DAY) == 0
    assert outcome(str(run)) == outcome(str(other))
    assert (run / "takedowns.csv").read_text() == (other / "takedowns.csv").read_text()
    assert tree(run / ".state" / "rewrite") == tree(other / ".state" / "rewrite")


def test_refusals(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(run)
    failed = min(i for i, row in verdicts(run).items() if row["verdict"] == "failed")
    for arguments, words in (
        ((), "no picture was given"),
        (("--sample", "00000/nobody"), "has no sample '00000/nobody'"),
        (("--sample", failed, "--apply"), "could not be read"),
        (("--sample", _largest_group(run), "--apply", "--date", "yesterday"), "invalid _day value"),
    ):
        assert _takedown(run, *arguments) == 2
        assert words in capsys.readouterr().err
    assert main(["takedown", "--sample", "a", "--reference", str(tmp_path)]) == 2
    assert "not a run directory" in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    record["shards"] = [{**s, "size": s["size"] + 1} for s in record["shards"]]
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    (moved / "run.json").write_text(json.dumps(record))
    assert _takedown(moved, "--sample", _largest_group(run), "--apply") == 2
    assert "extract in another way" in capsys.readouterr().err
    record = json.loads((run / "run.json").read_text())
    record["config"]["keep"]["max_copies"] = 2
    (moved / "run.json").write_text(json.dumps(record))
    assert _takedown(moved, "--sample", _largest_group(run), "--apply") == 2
    assert "cannot be decided again" in capsys.readouterr().err
    assert not (moved / "takedowns.csv").exists()
    (run / "takedowns.csv").write_text("torn")
    assert _takedown(run, "--sample", _largest_group(run), "--apply") == 2
    assert "takedowns.csv is damaged" in capsys.readouterr().err
    (run / "takedowns.csv").unlink()
    assert {k: v for k, v in tree(run).items()} == before


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_parquet_and_folder_shards(kind: str, tmp_path: Path) -> None:
    source, run = tmp_path / "set", tmp_path / "run"
    files = {name: data for name, data in _files().items() if name.startswith(("p0", "p4"))}
    source.mkdir()
    if kind == "parquet":
        keys = sorted(files)
        pq.write_table(pa.table({"key": keys, "image": [files[k] for k in keys]}), source / "a.parquet")
    else:
        for name, data in files.items():
            (source / name).write_bytes(data)
    assert _dedup(source, run) == 0
    before = tree(source)
    head = _largest_group(run)
    assert _takedown(run, "--sample", head, "--apply", *DAY) == 0
    assert tree(source) == before
    if kind == "parquet":
        left = pq.read_table(run / "shards" / "a.parquet")["key"].to_pylist()
    else:
        left = [path.name for path in (run / "shards").rglob("*") if path.suffix in (".jpg", ".png")]
        written = [row["path"] for row in _listed(run / "takedowns.csv")]
        assert sorted(Path(path).name for path in written) == sorted(n for n in files if n.startswith("p0"))
    assert left == ["p4.jpg"]
    assert summary(run)["dropped_by"] == {"decision": 4}
