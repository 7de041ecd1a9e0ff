"""The columns that parquet tables gain, and writing a table as its original was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.shards.ledger import weight32
from onceseen.shards.records import VerdictRow

ADDED_COLUMNS = pa.schema(
    [
        ("onceseen_copies", pa.int32()),
        ("onceseen_component_id", pa.string()),
        ("onceseen_component_size", pa.int32()),
        ("onceseen_weight", pa.float32()),
    ]
)


def widened_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with the added columns at its end (in place of an earlier run's), its metadata kept."""
    own = [field for field in schema if field.name not in ADDED_COLUMNS.names]
    return pa.schema([*own, *ADDED_COLUMNS], metadata=schema.metadata)


def widen(table: pa.Table, rows: Sequence[VerdictRow | None]) -> pa.Table:
    """A table with the added columns.

    Args:
        table: n rows, their other values untouched.
        rows: The verdict of each; None gives nulls (a row of no sample, such as a failed download).
    """
    values = {
        "onceseen_copies": [r.copies if r else None for r in rows],
        "onceseen_component_id": [r.component_id if r else None for r in rows],
        "onceseen_component_size": [r.component_size if r else None for r in rows],
        "onceseen_weight": [weight32(r.weight) if r else None for r in rows],
    }
    own = [name for name in table.column_names if name not in ADDED_COLUMNS.names]
    columns = [table.column(name) for name in own]
    columns += [pa.array(values[field.name], field.type) for field in ADDED_COLUMNS]
    return pa.Table.from_arrays(columns, schema=widened_schema(table.schema))


def writer_options(file: pq.ParquetFile) -> dict[str, Any]:
    """Compression and dictionary of each column as the original's first row group has them.

    Statistics are written for the columns that have them in the original: not for image bytes that have none.
    """
    metadata = file.metadata
    if not metadata.num_row_groups:
        return {}
    group = metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    codecs = {c.path_in_schema: _codec(c.compression) for c in columns}
    for name in ADDED_COLUMNS.names:
        codecs[name] = "SNAPPY"
    dictionaries = [c.path_in_schema for c in columns if any("DICTIONARY" in e for e in c.encodings)]
    statistics = [c.path_in_schema for c in columns if c.is_stats_set]
    return {
        "compression": codecs,
        "use_dictionary": [*dictionaries, "onceseen_component_id"],
        "write_statistics": sorted({*statistics, *ADDED_COLUMNS.names}),
    }


def _codec(stored: str) -> str:
    return "NONE" if stored == "UNCOMPRESSED" else stored
