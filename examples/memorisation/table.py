"""pictures.csv: one row a prompt, arm and seed."""

from __future__ import annotations

import csv
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from .analysis import PictureResult

_TYPES = typing.get_type_hints(PictureResult)


def write_table(results: Sequence[PictureResult], path: Path) -> None:
    """Writes the rows; what was not asked is left empty."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, [f.name for f in fields(PictureResult)], lineterminator="\n")
        out.writeheader()
        out.writerows(asdict(result) for result in results)


def read_table(path: Path) -> list[PictureResult]:
    """Reads what `write_table` wrote.

    Raises:
        ValueError: If the file is no such table.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != [f.name for f in fields(PictureResult)]:
            raise ValueError(
                f"{path} is no pictures.csv of this experiment: its columns are {reader.fieldnames}"
            )
        rows: list[dict[str, Any]] = [
            {name: _value(name, text) for name, text in row.items()} for row in reader
        ]
    return [PictureResult(**row) for row in rows]


def _value(name: str, text: str) -> object:
    kind = _TYPES[name]
    optional = type(None) in typing.get_args(kind)
    if optional and not text:
        return None
    if optional:
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return text == "True" if kind is bool else kind(text)
