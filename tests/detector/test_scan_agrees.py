"""`scan` and `Reference` say the same of the same queries, with the same evidence."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from detector.conftest import Planted
from detector.test_reference import copy_of
from onceseen import Reference
from onceseen.cli import main

KINDS = ("png", "jpeg50", "crop20", "mirrored", "letterbox", "text")


def test_scan_and_reference_agree(planted: Planted, reference: Reference, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.mkdir()
    for photo in planted.known()[3::5]:
        for kind in KINDS:
            (queries / f"{photo.stem}-{kind}.jpg").write_bytes(copy_of(photo, kind))
    for photo in planted.unknown()[::20]:
        (queries / photo.name).write_bytes(photo.read_bytes())
    (queries / "broken.jpg").write_bytes(b"\xff\xd8\xffbroken")
    out = tmp_path / "scan"
    assert main(["scan", str(queries), "--reference", str(planted.run), "--output", str(out), "--quiet"]) == 0
    rows = pq.read_table(out / "flagged.parquet").to_pylist()
    assert len(rows) == len(list(queries.iterdir()))
    checks = reference.check([queries / Path(row["query_id"]).name for row in rows])
    for row, check in zip(rows, checks, strict=True):
        assert row["verdict"] == check.finding, row
        if check.match is None or check.reference is None:
            assert row["reference_id"] is None
            continue
        found = check.match
        assert (row["kind"], row["transform"]) == (found.kind, found.transform), row
        assert row["score"] == pytest.approx(found.score, abs=1e-6), row
        assert row["coverage_query"] == pytest.approx(found.coverage_query, abs=1e-6)
        for name in ("representative_id", "copies", "component_id", "component_size"):
            assert row[name] == getattr(check.reference, name), row
    assert {row["verdict"] for row in rows} >= {"duplicate", "clear", "failed"}
