"""Tables of URLs: which kinds img2dataset reads, and what a given one holds."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

__all__ = ["input_format", "table_columns"]

_TEXT = ("txt", "csv", "tsv", "json", "jsonl")
_FORMATS = (*_TEXT, *(f"{name}.gz" for name in _TEXT), "parquet")


def input_format(path: str) -> str:
    """Return img2dataset's name for the kind of a table.

    Args:
        path: Path of the table.

    Returns:
        Such as ``parquet`` or ``csv.gz``.

    Raises:
        ValueError: The ending is none that img2dataset reads.
    """
    parts = Path(path).name.lower().split(".")
    ending = ".".join(parts[-2:]) if parts[-1] == "gz" else parts[-1]
    if len(parts) < 2 or ending not in _FORMATS:
        raise ValueError(f"{path} is no table of URLs by its ending: expected one of {', '.join(_FORMATS)}")
    return ending


def table_columns(path: str) -> tuple[list[str], int]:
    """Return the columns of a table and its number of rows.

    Memory: one batch of a few MB at a time for csv, tsv and txt; only the footer is read of parquet; json and
    jsonl are read as a whole, as img2dataset does.

    Args:
        path: Path of the table.

    Returns:
        Column names in order (``["url"]`` for txt) and the number of rows.

    Raises:
        ValueError: There is no such file, its ending is unknown, or it can't be read as what its ending says.
    """
    kind = input_format(path)
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; expected a table of URLs ({', '.join(_FORMATS)})")
    try:
        if kind == "parquet":
            footer = pq.ParquetFile(path)
            return list(footer.schema_arrow.names), int(footer.metadata.num_rows)
        return _text_columns(path, kind)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} can't be read as {kind}: {error}") from error


def _text_columns(path: str, kind: str) -> tuple[list[str], int]:
    with gzip.open(path, "rb") if kind.endswith(".gz") else open(path, "rb") as stream:
        base = kind.removesuffix(".gz")
        if base == "json":
            import pandas

            frame = pandas.read_json(stream)
            return [str(name) for name in frame.columns], len(frame)
        if base == "jsonl":
            table = pajson.read_json(stream)
            return list(table.column_names), int(table.num_rows)
        read = pacsv.ReadOptions(column_names=["url"] if base == "txt" else None)
        parse = pacsv.ParseOptions(delimiter="\t" if base == "tsv" else ",")
        try:
            reader = pacsv.open_csv(stream, read_options=read, parse_options=parse)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return ["url"] if base == "txt" else [], 0
            raise
        return list(reader.schema.names), sum(batch.num_rows for batch in reader)
