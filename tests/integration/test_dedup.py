"""The main job, end to end, on real photographs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from integration.runs import dedup, summary, table, tree, verdicts
from onceseen.cli import main
from onceseen.jobs.outcome import outcome


@pytest.fixture(scope="module")
def finished(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the demo, never written to by tests."""
    run = tmp_path_factory.mktemp("finished") / "run"
    assert dedup(demo / "shards", run) == 0
    return run


def _members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        return {m.name: hashlib.sha256(tar.extractfile(m).read()).hexdigest() for m in tar}  # type: ignore[union-attr]


def test_kept_members_are_the_inputs_bytes_and_dropped_ones_are_gone(demo: Path, finished: Path) -> None:
    known = verdicts(finished)
    for source in sorted((demo / "shards").glob("*.tar")):
        before, after = _members(source), _members(finished / "shards" / source.name)
        kept = [n for n in before if known[f"{source.stem}/{n.split('.')[0]}"]["verdict"] != "drop"]
        added = [n for n in after if n.endswith(".onceseen.json")]
        assert {n: h for n, h in after.items() if n not in added} == {n: before[n] for n in kept}
        assert [n for n in after if n not in added] == kept, "same order"
        assert {n.split(".")[0] for n in added} == {n.split(".")[0] for n in kept}


def test_nothing_is_lost_and_no_source_is_dropped_wrongly(demo: Path, finished: Path) -> None:
    found = summary(finished)
    assert found["read"] == sum(
        len({n.split(".")[0] for n in _members(p)}) for p in (demo / "shards").glob("*.tar")
    )
    assert found["failed"] == sum(found["failed_by"].values()) == 6
    assert main(["evaluate", str(finished), "--truth", str(demo / "manifest.csv")]) == 0
    evaluation = json.loads((finished / "stats" / "evaluation.json").read_text())
    assert evaluation["removal"]["wrong_drops"]["hits"] == 0
    assert evaluation["removal"]["removed_share_macro"] >= 0.85
    worse = {"letterbox", "pillarbox", "watermark", "logo", "resize_up"}
    assert not worse & set(evaluation["removal"]["kept_in_place_of_original"])


def test_each_dropped_sample_names_a_compared_pair_and_a_kept_representative(finished: Path) -> None:
    known = verdicts(finished)
    pairs = {(r["sample_id_a"], r["sample_id_b"]): r for r in table(finished, "pairs").to_pylist()}
    assert all(a < b for a, b in pairs)
    dropped = [v for v in known.values() if v["verdict"] == "drop"]
    assert len(dropped) > 10
    classes = _exact_classes(pairs)
    for verdict in dropped:
        kept = known[verdict["representative_id"]]
        assert kept["verdict"] == "keep"
        assert kept["copies"] == verdict["copies"] >= 2
        evidence = (verdict["evidence_a"], verdict["evidence_b"])
        same_class = classes.get(verdict["sample_id"], 0) == classes.get(verdict["representative_id"], 1)
        if not same_class:
            assert pairs[evidence]["verified"]
        heads = {classes.get(i, i) for i in evidence}
        mine = {classes.get(i, i) for i in (verdict["sample_id"], verdict["representative_id"])}
        assert heads == mine


def _exact_classes(pairs: dict[tuple[str, str], dict[str, object]]) -> dict[str, str]:
    """Class of each sample in an exact class, named by its smallest sample."""
    parent: dict[str, str] = {}

    def root(i: str) -> str:
        while parent.get(i, i) != i:
            i = parent[i]
        return i

    for (a, b), row in pairs.items():
        if row["kind"] in ("bytes", "pixels"):
            first, second = sorted((root(a), root(b)))
            parent[second] = first
            parent.setdefault(first, first)
    return {i: root(i) for i in parent}


def test_counts_weights_and_lists_agree(finished: Path) -> None:
    known = verdicts(finished)
    groups = Counter(v["representative_id"] for v in known.values() if v["verdict"] != "failed")
    copies = {
        r["sample_id"]: r["copies"] for r in pq.read_table(finished / "stats" / "copies.parquet").to_pylist()
    }
    assert copies == {i: n for i, n in groups.items() if n >= 2}
    with (finished / "stats" / "delete_list.csv").open() as stream:
        listed = {row["sample_id"] for row in csv.DictReader(stream)}
    assert listed == {i for i, v in known.items() if v["verdict"] == "drop"}
    assert summary(finished)["redundant"] == len(listed)
    assert {v["weight"] for v in known.values() if v["verdict"] == "keep"} == {1.0}


def test_the_same_command_again_does_nothing(
    demo: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(finished)
    assert dedup(demo / "shards", finished) == 0
    assert "done already" in capsys.readouterr().out
    assert tree(finished) == before


@pytest.mark.parametrize(
    "flags",
    [
        ("--direct_num_workers=2",),
        ("--direct_runner_bundle_repeat=1", "--set", "cells.passes=3", "--set", "fingerprint.threads=1"),
    ],
    ids=["two workers", "other bundles and passes"],
)
def test_another_way_of_running_gives_the_same(
    demo: Path, finished: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    assert dedup(demo / "shards", tmp_path / "run", *flags) == 0
    assert outcome(str(tmp_path / "run")) == outcome(str(finished))


@pytest.mark.parametrize("moment", ["extract", "match", "rewrite"])
def test_a_killed_run_resumed_gives_the_same(demo: Path, finished: Path, tmp_path: Path, moment: str) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "onceseen",
        "dedup",
        str(demo / "shards"),
        "--output",
        str(run),
        "--quiet",
    ]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    mark = {
        "extract": run / ".state" / "extract" / "00000.json",
        "match": run / ".state" / "match" / "judged-0",
        "rewrite": run / "shards",
    }[moment]
    deadline = time.monotonic() + 150
    while not mark.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (run / "stats" / "summary.json").exists()
    assert dedup(demo / "shards", run) == 0
    assert outcome(str(run)) == outcome(str(finished))


def test_a_changed_threshold_asks_for_redo_and_embeds_nothing_again(
    demo: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert dedup(demo / "shards", run, "--dry-run", "--features", str(finished)) == 0
    assert not (run / "shards").exists()
    features = tree(run / "features")
    assert features == tree(finished / "features")
    assert dedup(demo / "shards", run, "--set", "keep.max_copies=2") == 2
    assert "--redo match" in capsys.readouterr().err
    assert dedup(demo / "shards", run, "--set", "keep.max_copies=2", "--redo", "match") == 0
    assert tree(run / "features") == features
    kept = Counter(v["representative_id"] for v in verdicts(run).values() if v["verdict"] == "keep")
    assert max(kept.values()) == 2
    assert summary(run)["kept"] > summary(finished)["kept"]
    assert dedup(demo / "shards", run, "--set", "keep.max_copies=2", "--set", "write.member=false") == 2
    assert "--redo rewrite" in capsys.readouterr().err


def test_a_persons_word_is_above_every_score(demo: Path, finished: Path, tmp_path: Path) -> None:
    known = verdicts(finished)
    dropped = next(
        v for v in known.values() if v["verdict"] == "drop" and v["kind"] in ("perceptual", "embedding")
    )
    single = next(v for v in known.values() if v["verdict"] == "keep" and v["component_size"] == 1)
    other = next(v for v in reversed(known.values()) if v["verdict"] == "keep" and v["component_size"] == 1)
    exact = next(v for v in known.values() if v["verdict"] == "drop" and v["kind"] == "bytes")
    file = tmp_path / "decisions.csv"
    file.write_text(
        "sample_id_a,sample_id_b,decision\n"
        f"{dropped['sample_id']},,keep\n"
        f"{single['sample_id']},{other['sample_id']},same\n"
        f"{exact['evidence_a']},{exact['evidence_b']},different\n"
    )
    run = tmp_path / "run"
    assert (
        dedup(demo / "shards", run, "--dry-run", "--features", str(finished), "--decisions", str(file)) == 0
    )
    now = verdicts(run)
    assert now[dropped["sample_id"]]["verdict"] == "keep"
    assert sorted(now[v["sample_id"]]["verdict"] for v in (single, other)) == ["drop", "keep"]
    assert summary(run)["dropped_by"]["decision"] == 1
    kept = (run / "decisions.csv").read_text()
    assert f"{dropped['sample_id']},,keep" in kept
    before = tree(run)
    file.write_text("no/such/sample,keep\n")
    asked = ("--dry-run", "--features", str(finished), "--decisions", str(file), "--redo", "match")
    assert dedup(demo / "shards", run, *asked) == 2
    assert tree(run) == before  # told before anything is removed
    file.write_text("")
    assert dedup(demo / "shards", run, *asked) == 0
    assert not (run / "decisions.csv").exists()
    assert verdicts(run) == known


def test_explain_says_why(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dropped = next(v for v in verdicts(finished).values() if v["verdict"] == "drop")
    assert main(["explain", str(finished), dropped["sample_id"]]) == 0
    text = capsys.readouterr().out
    assert dropped["representative_id"] in text
    assert main(["explain", str(finished), dropped["evidence_a"], dropped["evidence_b"]]) == 0
    assert main(["explain", str(finished), "00000/nothing"]) == 2


def test_reports_are_written_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = finished / "report.html"
    before = report.read_bytes()
    assert main(["report", str(finished)]) == 0
    assert str(report) in capsys.readouterr().out
    assert report.read_bytes() == before
