"""Judged pairs as files: one a round and shard; what a later round says of a pair stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from onceseen.core.files import exists, read_table, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.schemas import PAIRS
from onceseen.jobs.match.work import WorkFiles

JUDGED = PAIRS.append(pa.field("doubtful", pa.bool_()))
"""A row of the pairs table, and whether reading the pictures again could change it."""


def write_judged(layout: RunLayout, step: str, number: int, rows: Sequence[dict[str, object]]) -> None:
    """Writes what one round found in one shard."""
    write_table(
        WorkFiles(layout).path(step, number, "parquet"), pa.Table.from_pylist(list(rows), schema=JUDGED)
    )


def read_judged(
    layout: RunLayout, rounds: Sequence[str], number: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """All pairs judged in one shard (that of the larger node), each by the last round that judged it.

    Args:
        layout: The run.
        rounds: Steps, in the order in which they ran.
        number: Shard number.
        columns: Columns wanted, node_a and node_b among them; None: all.
    """
    work = WorkFiles(layout)
    wanted = list(columns) if columns is not None else JUDGED.names
    empty = JUDGED.empty_table().select(wanted)
    paths = [work.path(step, number, "parquet") for step in rounds]
    whole = pa.concat_tables([empty, *(read_table(path, wanted) for path in paths if exists(path))])
    first, second = (whole.column(n).to_numpy(zero_copy_only=False) for n in ("node_a", "node_b"))
    order = np.lexsort((np.arange(len(whole)), np.maximum(first, second), np.minimum(first, second)))
    low, high = np.minimum(first, second)[order], np.maximum(first, second)[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return whole.take(order[last])
