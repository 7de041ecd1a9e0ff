"""Whether two runs came out the same, whatever runner, workers, order or kills there were between them.

    python -m onceseen.jobs.outcome RUN RUN

Compared are shards/ by bytes, and verdicts, pairs and statistics by content: what follows from features and centroids
alone. Times, provenance and the report are not.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from typing import Any

from onceseen.core.files import list_files, read_bytes, read_table
from onceseen.core.layout import RunLayout

_TABLES = ("verdicts", "pairs", "stats")
_TEXTS = ("summary.json", "delete_list.csv")


def outcome(run: str) -> dict[str, Any]:
    """What a run came to, by file: rows of tables, digests of shards, texts.

    Args:
        run: A finished run. Memory: all rows of its tables.

    Raises:
        OSError: If a file of it cannot be read.
    """
    layout = RunLayout.at(run)
    found: dict[str, Any] = {}
    for path in list_files(layout.shards_dir()):
        found[_within(layout, path)] = hashlib.sha256(read_bytes(path)).hexdigest()
    for path in (p for name in _TABLES for p in list_files(layout.path(name), ".parquet")):
        found[_within(layout, path)] = read_table(path).to_pylist()
    for path in map(layout.stats, _TEXTS):
        found[_within(layout, path)] = read_bytes(path)
    return found


def _within(layout: RunLayout, path: str) -> str:
    return path[len(layout.root) :].lstrip("/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares two runs; exit code 0 where they are the same, 1 where not."""
    description, *_ = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m onceseen.jobs.outcome", description=description)
    parser.add_argument("runs", nargs=2, metavar="RUN")
    options = parser.parse_args(arguments)
    first, second = map(outcome, options.runs)
    different = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    for name in different:
        print(f"differs: {name}")
    if not different:
        print(
            f"{options.runs[0]} and {options.runs[1]}: the same in all of {len(first)} files of the outcome"
        )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
