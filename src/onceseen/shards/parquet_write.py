"""Writes a parquet dataset file again without the rows that are dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.failures import FailureReason
from onceseen.core.files import atomic_write, remove_files
from onceseen.core.records import Shard
from onceseen.shards.ledger import Ledger
from onceseen.shards.parquet_read import ParquetDamage, image_column, open_parquet, row_batches, row_keys
from onceseen.shards.records import VerdictRow
from onceseen.shards.table_write import widen, widened_schema, writer_options

_GROUP_BYTES = 128 << 20


def rewrite_parquet(
    shard: Shard,
    verdicts: Mapping[str, VerdictRow],
    target: str,
    read: ReadConfig,
    write: WriteConfig,
    ledger: Ledger,
) -> None:
    """Writes the parquet file at `target`: rows of written samples, in order, with the added columns.

    Values, schema, schema metadata (Hugging Face features), compression and row groups are the input's; a row
    group is parted at 128 MiB. A shard of which nothing is kept becomes a file without rows. A damaged file
    gives the rows before the damage, and `ledger.damaged` says so; one whose footer cannot be read has no
    schema to write, so gives no file.

    Memory: a row group's written rows, at most 128 MiB and a batch, and as much again while they are encoded.

    Raises:
        ValueError: If rows and verdicts do not match one to one; the output is then not there.
        OSError: If the file cannot be read though it could be before.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_parquet(shard.path))
            keys = row_keys(file, read)
            if not image_column(file.schema_arrow, read):
                raise ParquetDamage(f"has no image column; its columns are {file.schema_arrow.names[:32]}")
        except ParquetDamage as damage:
            ledger.damaged = f"{FailureReason.BAD_PARQUET}: {damage}"
        except OSError as error:
            if verdicts:
                raise
            ledger.damaged = f"{FailureReason.UNREADABLE_SHARD}: {error}"
        if ledger.damaged:
            remove_files([target])
            return
        output = stack.enter_context(atomic_write(target, fsync=write.fsync))
        _copy_rows(file, keys, verdicts, pa.PythonFile(output, mode="w"), ledger)
        ledger.check()
        ledger.bytes_read += shard.size
        ledger.bytes_written += output.tell()


def _copy_rows(
    file: pq.ParquetFile,
    keys: list[str],
    verdicts: Mapping[str, VerdictRow],
    output: pa.NativeFile,
    ledger: Ledger,
) -> None:
    schema = widened_schema(file.schema_arrow)
    with pq.ParquetWriter(output, schema, **writer_options(file)) as writer:
        for table in _written_groups(file, keys, verdicts, ledger):
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def _written_groups(
    file: pq.ParquetFile, keys: list[str], verdicts: Mapping[str, VerdictRow], ledger: Ledger
) -> Iterator[pa.Table]:
    """The written rows of each row group, in parts of a bounded size; ends where the file is damaged."""
    for group in range(file.num_row_groups):
        parts: list[pa.Table] = []
        try:
            for first, batch in row_batches(file, group):
                rows = [ledger.judge(key) for key in keys[first : first + batch.num_rows]]
                written = [row for row in rows if row is not None]
                mask = pa.array([row is not None for row in rows], pa.bool_())
                parts.append(widen(pa.Table.from_batches([batch.filter(mask)]), written))
                if sum(part.nbytes for part in parts) > _GROUP_BYTES:
                    yield pa.concat_tables(parts)
                    parts = []
        except ParquetDamage as damage:
            ledger.damaged = f"{FailureReason.BAD_PARQUET}: {damage}"
        if any(part.num_rows for part in parts):
            yield pa.concat_tables(parts)
        if ledger.damaged:
            return
