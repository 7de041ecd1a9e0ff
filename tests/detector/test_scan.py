"""`onceseen scan` by its command: real photographs against a finished run of planted copies."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from detector.conftest import Planted
from integration.runs import tree
from onceseen import Reference
from onceseen.cli import main
from onceseen.jobs.match import verification
from onceseen.jobs.scan import findings as findings_module

COPIES = ("bytes", "noise", "mirror", "crop", "letterbox", "small")


@dataclass(frozen=True)
class Queries:
    """A folder of queries: copies of known photographs named `<kind>_<source>.jpg`, others `other_<source>.jpg`."""

    folder: Path
    planted: Planted

    def names(self, kind: str) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.name.startswith(kind)}

    def copies(self) -> set[str]:
        return {name for kind in COPIES for name in self.names(kind)}

    def source(self, name: str) -> str:
        return Path(name).stem.partition("_")[2]


def _copy(path: Path, kind: str) -> bytes:
    """A copy of a photograph by one transform, as a file."""
    if kind == "bytes":
        return path.read_bytes()
    image = cv2.imread(str(path))
    height, width = image.shape[:2]
    if kind == "noise":
        noise = np.random.default_rng(7).normal(0, 6, image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    elif kind == "mirror":
        image = np.ascontiguousarray(image[:, ::-1])
    elif kind == "crop":
        image = image[height // 12 :, width // 14 :]
    elif kind == "letterbox":
        image = cv2.copyMakeBorder(image, height // 8, height // 8, 0, 0, cv2.BORDER_CONSTANT)
    else:
        image = cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@pytest.fixture(scope="module")
def queries(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Queries:
    folder = tmp_path_factory.mktemp("queries") / "generated"
    folder.mkdir()
    for number, path in enumerate(planted.known()[:12]):
        kind = COPIES[number % len(COPIES)]
        (folder / f"{kind}_{path.stem}.jpg").write_bytes(_copy(path, kind))
    for path in planted.unknown()[:8]:
        shutil.copy(path, folder / f"other_{path.stem}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return Queries(folder, planted)


def scan(queries: Path, reference: Path, output: Path, *flags: str) -> int:
    return main(
        ["scan", str(queries), "--reference", str(reference), "--output", str(output), "--quiet", *flags]
    )


def flagged(output: Path) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in pq.read_table(output / "flagged.parquet").to_pylist()}


@pytest.fixture(scope="module")
def scanned(queries: Queries, planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scan") / "out"
    before = tree(planted.run), tree(queries.folder)
    assert scan(queries.folder, planted.run, output) == 0
    assert (tree(planted.run), tree(queries.folder)) == before
    return output


def test_copies_are_found_and_others_are_clear(queries: Queries, scanned: Path) -> None:
    rows = flagged(scanned)
    assert {name for name, row in rows.items() if row["verdict"] == "duplicate"} == queries.copies()
    assert {name for name, row in rows.items() if row["verdict"] == "clear"} == queries.names("other")
    assert rows["broken.jpg"]["verdict"] == "failed"
    for name in queries.copies():
        assert queries.source(name) in queries.planted.sources[rows[name]["reference_id"]], name
    for name in queries.names("mirror"):
        assert "mirrored" in rows[name]["transform"]
    for name in queries.names("crop"):
        assert rows[name]["coverage_query"] > 0.9 > rows[name]["coverage_reference"]


def test_copies_of_the_reference_are_counted(queries: Queries, scanned: Path) -> None:
    verdicts = {
        row["sample_id"]: row
        for path in (queries.planted.run / "verdicts").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    rows = [row for row in flagged(scanned).values() if row["verdict"] == "duplicate"]
    for row in rows:
        known = verdicts[row["reference_id"]]
        names = ("representative_id", "copies", "component_id", "component_size")
        assert {name: row[name] for name in names} == {name: known[name] for name in names}
        assert row["reference_verdict"] == known["verdict"]
    assert max(row["copies"] for row in rows) >= 3


def test_the_summary_adds_up_and_the_lists_say_the_same(queries: Queries, scanned: Path) -> None:
    summary = json.loads((scanned / "summary.json").read_text())
    assert summary["read"] == len(list(queries.folder.iterdir()))
    assert summary["read"] == sum(summary[name] for name in ("duplicate", "near", "clear", "failed"))
    assert summary["failed_by"] == {"truncated_image": 1}
    with (scanned / "delete_list.csv").open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert {row["sample_id"] for row in listed} == queries.copies()
    assert all(row["reason"] and row["evidence"] for row in listed)
    assert "bytes" in {row["reason"] for row in listed}
    assert not (scanned / "shards").exists()
    report = (scanned / "report.html").read_text()
    assert "<script src" not in report
    for name in queries.copies():
        assert name in report


def test_the_python_call_says_the_same(queries: Queries, scanned: Path, reference: Reference) -> None:
    rows = flagged(scanned)
    names = sorted(rows)
    checks = reference.check([(queries.folder / name).read_bytes() for name in names])
    for name, check in zip(names, checks, strict=True):
        assert str(check.finding) == rows[name]["verdict"], name
        if check.match is not None:
            assert queries.source(name) in queries.planted.sources[check.match.reference_id]
            assert check.reference is not None
            assert check.reference.copies == rows[name]["copies"]


def test_apply_writes_the_others_byte_for_byte(queries: Queries, scanned: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(scanned, output)
    assert scan(queries.folder, queries.planted.run, output, "--apply") == 0
    written = {p.name: p for p in (output / "shards").rglob("*") if p.suffix == ".jpg"}
    assert written.keys() == queries.names("other") | {"broken.jpg"}
    for name, path in written.items():
        assert path.read_bytes() == (queries.folder / name).read_bytes()
    before = tree(output)
    assert scan(queries.folder, queries.planted.run, output, "--apply") == 0
    assert tree(output) == before


def test_what_a_person_said_stands(queries: Queries, scanned: Path, tmp_path: Path) -> None:
    rows = flagged(scanned)
    apart, kept = sorted(queries.copies())[:2]
    same, gone = sorted(queries.names("other"))[:2]
    other = rows[sorted(queries.copies())[3]]["reference_id"]
    text = tmp_path / "decisions.csv"
    text.write_text(
        "query_id,reference_id,decision\n"
        f"{apart},{rows[apart]['reference_id']},different\n{kept},,keep\n"
        f"{same},{other},same\n{gone},,drop\nof another scan.jpg,,keep\n"
    )
    assert scan(queries.folder, queries.planted.run, tmp_path / "out", "--decisions", str(text)) == 0
    found = flagged(tmp_path / "out")
    assert [found[name]["verdict"] for name in (apart, kept)] == ["clear", "clear"]
    assert [found[name]["verdict"] for name in (same, gone)] == ["duplicate", "duplicate"]
    assert found[same]["reference_id"] == other
    said = {apart, kept, same, gone}
    assert {n: r for n, r in found.items() if n not in said} == {
        n: r for n, r in rows.items() if n not in said
    }


def test_a_scan_does_not_depend_on_how_it_is_cut(
    queries: Queries, scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, rows in (("PART_ROWS", 4), ("DOSSIER_ROWS", 2), ("_SEND_ROWS", 8), ("_REREAD_PAIRS", 3)):
        monkeypatch.setattr(verification, name, rows)
    flags = ("--set", "cells.passes=2", "--set", "read.folder_split=5")
    assert scan(queries.folder, queries.planted.run, tmp_path / "out", *flags) == 0
    found = flagged(tmp_path / "out")
    places = ("shard", "key", "row")
    for row in (*found.values(), *(expected := flagged(scanned)).values()):
        for name in places:
            del row[name]
    assert found == expected


def test_a_killed_scan_goes_on(
    queries: Queries, scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(findings_module, "write_findings", killed)
        assert scan(queries.folder, queries.planted.run, output) == 1
    assert not (output / "flagged.parquet").exists()
    assert scan(queries.folder, queries.planted.run, output) == 0
    for name in ("flagged.parquet", "summary.json", "delete_list.csv"):
        assert (output / name).read_bytes() == (scanned / name).read_bytes()


def test_a_reference_may_be_moved(queries: Queries, scanned: Path, tmp_path: Path) -> None:
    shutil.copytree(queries.planted.run, tmp_path / "moved", ignore=shutil.ignore_patterns("index"))
    assert scan(queries.folder, tmp_path / "moved", tmp_path / "out") == 0
    assert (tmp_path / "out" / "flagged.parquet").read_bytes() == (scanned / "flagged.parquet").read_bytes()


def _leaky_test_set(queries: Queries, directory: Path) -> Path:
    """An evaluation set of two splits in tars: two known photographs are in it."""
    known, unknown = queries.planted.known(), queries.planted.unknown()
    for split, pictures in (
        ("test", [(known[0], "noise"), *((p, "bytes") for p in unknown[:3])]),
        ("validation", [(known[1], "mirror"), *((p, "small") for p in unknown[3:6])]),
    ):
        (directory / split).mkdir(parents=True)
        with tarfile.open(directory / split / "00000.tar", "w") as tar:
            for number, (path, kind) in enumerate(pictures):
                picture = directory / f"{split}{number}.jpg"
                picture.write_bytes(_copy(path, kind))
                tar.add(picture, arcname=f"{number:04d}.jpg")
                picture.unlink()
    return directory


def test_decontamination_takes_whole_components_from_the_training_side(
    queries: Queries, tmp_path: Path
) -> None:
    planted, sets, output = queries.planted, _leaky_test_set(queries, tmp_path / "sets"), tmp_path / "clean"
    before = tree(sets), tree(planted.run)
    flags = (str(sets / "validation"), "--policy", "decontaminate", "--apply")
    arguments = [
        "scan",
        str(sets / "test"),
        flags[0],
        "--reference",
        str(planted.run),
        "--output",
        str(output),
    ]
    assert main([*arguments, "--quiet", *flags[1:]]) == 0
    assert (tree(sets), tree(planted.run)) == before
    leaks = {path.stem for path in planted.known()[:2]}
    with (output / "delete_list.csv").open(newline="") as stream:
        listed = {row["sample_id"] for row in csv.DictReader(stream)}
    verdicts = [
        row
        for path in (planted.run / "verdicts").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    touched = {r["component_id"] for r in verdicts if planted.sources.get(r["sample_id"], set()) & leaks}
    assert listed >= {s for s, found in planted.sources.items() if found & leaks}
    assert listed == {r["sample_id"] for r in verdicts if r["component_id"] in touched}
    kept = {r["sample_id"] for r in verdicts if r["verdict"] == "keep"} - listed
    written = set()
    for path in (output / "shards").glob("*.tar"):
        with tarfile.open(path) as tar:
            stems = {name.partition(".")[0] for name in tar.getnames() if not name.endswith("onceseen.json")}
            written |= {f"{path.stem}/{stem}" for stem in stems}
    failed = {r["sample_id"] for r in verdicts if r["verdict"] == "failed"}
    assert written == kept | failed
    summary = json.loads((output / "summary.json").read_text())
    assert [(r["evaluation"], r["training"], r["evaluation_duplicate"]) for r in summary["splits"]] == [
        ("test", "shards", 1),
        ("validation", "shards", 1),
    ]
    side = summary["training"]["shards"]
    assert side["contaminated"] == len(listed) == summary["contaminated"]
    assert side["kept_after"] == len(kept)


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_what_stops_a_scan(queries: Queries, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = queries.planted.run, tmp_path / "out"
    assert scan(queries.folder, tmp_path / "nowhere", out) == 2
    assert "it has no run.json" in _error(capsys)
    assert scan(queries.folder, run, out, "--set", "embed.model=none", "--set", "cells.enabled=false") == 2
    assert "embed.model is none, the reference was embedded by efficientnet-lite0" in _error(capsys)
    assert scan(queries.folder, run, out, "--set", "fingerprint.trim_borders=false") == 2
    assert "fingerprint.trim_borders is False, True in the reference" in _error(capsys)
    (tmp_path / "empty").mkdir()
    assert scan(tmp_path / "empty", run, out) == 2
    assert "empty" in _error(capsys)
    assert scan(queries.folder, run, out, "--policy", "delete") == 2
    assert "--policy" in _error(capsys)
    assert scan(queries.folder, run, out, "--prefix", "x") == 2
    assert "belong to --append" in _error(capsys)
    assert scan(queries.folder, run, run) == 2
    assert "not of `onceseen scan`" in _error(capsys)
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "has schema version 99"),
        (
            {"jobs": {n: {"state": "", "fingerprint": ""} for n in ("extract", "match", "rewrite")}},
            "not finished",
        ),
        ({"kind": "scan"}, "is the output of `onceseen scan`"),
    ],
)
def test_a_reference_that_cannot_be_one(
    change: dict[str, Any],
    words: str,
    queries: Queries,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = json.loads((queries.planted.run / "run.json").read_text())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | change))
    assert scan(queries.folder, tmp_path / "run", tmp_path / "out") == 2
    assert words in _error(capsys)


def test_queries_of_which_none_can_be_read(
    queries: Queries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    assert scan(bad, queries.planted.run, tmp_path / "out") == 1
    assert "none of the 1 queries could be read (truncated_image)" in _error(capsys)


def test_another_scan_in_the_same_place_is_refused(
    queries: Queries, scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, fewer = tmp_path / "out", tmp_path / "fewer"
    shutil.copytree(scanned, output)
    shutil.copytree(queries.folder, fewer)
    (fewer / "broken.jpg").unlink()
    assert scan(fewer, queries.planted.run, output) == 2
    assert "holds a scan of something else" in _error(capsys)
    assert scan(fewer, queries.planted.run, output, "--overwrite") == 0
    assert len(flagged(output)) == len(list(fewer.iterdir()))
