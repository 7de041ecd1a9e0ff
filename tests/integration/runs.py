"""How integration tests run the command and compare runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.cli import main


def dedup(source: Path | str, run: Path, *flags: str) -> int:
    """`onceseen dedup`, in this process."""
    return main(["dedup", str(source), "--output", str(run), "--quiet", *flags])


def summary(run: Path) -> dict[str, Any]:
    """stats/summary.json, after a look at whether it adds up."""
    found: dict[str, Any] = json.loads((run / "stats" / "summary.json").read_text())
    assert found["read"] == found["kept"] + found["dropped"] + found["failed"]
    return found


def table(run: Path, name: str) -> pa.Table:
    """All files of a table, as one, in the order of their names."""
    paths = sorted((run / name).rglob("*.parquet"))
    return pa.concat_tables([pq.read_table(path) for path in paths])


def verdicts(run: Path) -> dict[str, dict[str, Any]]:
    """Verdicts by sample id."""
    return {row["sample_id"]: row for row in table(run, "verdicts").to_pylist()}


def tree(directory: Path) -> dict[str, str]:
    """SHA-256 by relative path, the lock left out: it names its last holder."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
