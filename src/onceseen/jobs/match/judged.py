"""Judged pairs as files: one a round and shard; what a later round says of a pair stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.core.files import read_table_if_there, write_table
from onceseen.core.ipc import bytes_table, table_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.schemas import PAIRS
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.shuffles import block_slices

JUDGED = PAIRS.append(pa.field("doubtful", pa.bool_()))
"""A row of the pairs table, and whether reading the pictures again could change it."""


def write_judged(keyed: tuple[int, Iterable[bytes]], layout: RunLayout, step: str) -> None:
    """Writes what one round found in one shard."""
    write_table(WorkFiles(layout).path(step, keyed[0], "parquet"), gather_judged(keyed[1]))


def judged_blocks(rows: Sequence[dict[str, object]]) -> Iterator[bytes]:
    """Judged rows as blocks that travel."""
    table = pa.Table.from_pylist(list(rows), schema=JUDGED)
    for part in block_slices(len(table), table.nbytes // max(1, len(table))):
        yield table_bytes(table[part])


def gather_judged(blocks: Iterable[bytes]) -> pa.Table:
    """Rows of `judged_blocks` in any order, by the nodes of the pair."""
    table = pa.concat_tables([JUDGED.empty_table(), *map(bytes_table, blocks)])
    low, high = _nodes(table)
    return table.take(np.lexsort((high, low))).combine_chunks()


def _nodes(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smaller and the larger node of each pair."""
    first, second = (table.column(n).to_numpy(zero_copy_only=False) for n in ("node_a", "node_b"))
    return np.minimum(first, second), np.maximum(first, second)


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
    found = (read_table_if_there(work.path(step, number, "parquet"), wanted) for step in rounds)
    whole = pa.concat_tables([empty, *(table for table in found if table is not None)])
    low, high = _nodes(whole)
    order = np.lexsort((np.arange(len(whole)), high, low))
    low, high = low[order], high[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return whole.take(order[last])
