"""Samples of a parquet file with image bytes: a binary column, or Hugging Face's struct `{bytes, path}`.

Every row is a sample, and its row index is its place in the shard. Keys: `read.key_column` (a null becomes
the row's index, a repeated key gets `#2`); else `key`, where it is text or a whole number, never null and
never repeated; else the row's index in nine digits.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onceseen.core.config import ReadConfig
from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import open_native
from onceseen.core.ids import decode_name, sample_id
from onceseen.core.records import ImageSample, Shard
from onceseen.shards.extensions import clean_text, meta_of
from onceseen.shards.grouping import UniqueKeys
from onceseen.shards.records import WantedImage

BATCH_ROWS = 32
_BATCH_BYTES = 8 << 20  # Arrow takes some nine times a batch for building it

_STAGE = "read"
_BUFFER_BYTES = 1 << 20


class ParquetDamage(Exception):
    """A parquet file cannot be read, or not beyond some row."""


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a parquet file for streaming: pages are read as they are needed, not whole row groups.

    Raises:
        ParquetDamage: If its footer is not one.
        OSError: If the file cannot be opened.
    """
    with open_native(path) as stream:
        yield parquet_file(stream)


def parquet_file(stream: BinaryIO | pa.NativeFile) -> pq.ParquetFile:
    """A parquet file that is open already; see `open_parquet`.

    Raises:
        ParquetDamage: If its footer is not one.
    """
    try:
        return pq.ParquetFile(
            stream, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetDamage(f"is no parquet file, or its footer is damaged: {error}") from error


def image_column(schema: pa.Schema, config: ReadConfig) -> str:
    """Name of the column with the image bytes, empty if there is none.

    It is `read.image_column` if that is set; else the first column of variable-length bytes, alone or as the
    field `bytes` of a struct.
    """
    names = [config.image_column] if config.image_column else schema.names
    return next(
        (n for n in names if schema.get_field_index(n) >= 0 and _holds_bytes(schema.field(n).type)), ""
    )


def read_parquet(shard: Shard, config: ReadConfig) -> Iterator[ImageSample | Failure]:
    """Yields the samples of a parquet file in row order, then a `Failure` if the file is damaged.

    Memory: a batch of 32 rows or some 8 MiB, a page of each column, and the key column.
    """
    try:
        with open_parquet(shard.path) as file:
            keys = row_keys(file, config)
            image = image_column(file.schema_arrow, config)
            if not image:
                raise ParquetDamage(f"has no image column; its columns are {file.schema_arrow.names[:32]}")
            for group in range(file.num_row_groups):
                for first, batch in row_batches(file, group):
                    yield from _batch_samples(shard, config, batch, image, first, keys)
    except ParquetDamage as damage:
        yield Failure(shard.name, _STAGE, FailureReason.BAD_PARQUET, str(damage))
    except OSError as error:
        yield Failure(shard.name, _STAGE, FailureReason.UNREADABLE_SHARD, str(error))


def read_parquet_images(
    shard: Shard, config: ReadConfig, wanted: Sequence[WantedImage]
) -> Iterator[tuple[int, bytes]]:
    """Yields (row, bytes) of the wanted pictures in row order; reads only their row groups' image column.

    Raises:
        ValueError: If a row is not there or has no image, so the file is not the one that was read before.
        ParquetDamage: If the file is damaged before a wanted row.
    """
    rows = sorted({w.row for w in wanted})
    with open_parquet(shard.path) as file:
        image = image_column(file.schema_arrow, config)
        counts = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
        starts = [0, *itertools.accumulate(counts)]
        if rows and (rows[0] < 0 or rows[-1] >= starts[-1] or not image):
            raise ValueError(
                f"{shard.path}: no image in row {rows[-1]}; it has {starts[-1]} rows: the shard has changed "
                "since it was read, run again with --overwrite"
            )
        groups = sorted({bisect.bisect_right(starts, row) - 1 for row in rows})
        for group in groups:
            inside = [r for r in rows if starts[group] <= r < starts[group + 1]]
            yield from _group_images(file, image, group, starts[group], inside)


def row_batches(file: pq.ParquetFile, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields (index of its first row, batch) of a row group, with all columns.

    Reading and rewriting both go by this, and by row group, so they meet damage at the same row.

    Raises:
        ParquetDamage: Where a page is damaged; earlier batches were yielded.
    """
    first = sum(file.metadata.row_group(g).num_rows for g in range(group))
    for batch in _batches(file, None, [group], _rows_at_once(file, group)):
        yield first, batch
        first += batch.num_rows


def row_keys(file: pq.ParquetFile, config: ReadConfig) -> list[str]:
    """The unique key of every row. Memory: one string a row.

    Raises:
        ParquetDamage: If the key column is not there, or cannot be read.
    """
    total = file.metadata.num_rows
    names = file.schema_arrow.names
    if config.key_column:
        if config.key_column not in names:
            raise ParquetDamage(
                f"has no column {config.key_column!r} (read.key_column); its columns are {names[:32]}"
            )
        unique = UniqueKeys()
        stored = _column_text(file, config.key_column)
        return [unique.claim(_row_key(row) if key is None else key) for row, key in enumerate(stored)]
    if "key" in names and _is_key_type(file.schema_arrow.field("key").type):
        keys = [key for key in _column_text(file, "key") if key]
        if len(set(keys)) == total:
            return keys
    return [_row_key(row) for row in range(total)]


def image_values(batch: pa.RecordBatch, image: str) -> pa.Array:
    """The image bytes of a batch as a binary array."""
    column = batch.column(batch.schema.get_field_index(image))
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _row_key(row: int) -> str:
    return f"{row:09d}"


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return _is_bytes(kind)


def _is_key_type(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _batches(
    file: pq.ParquetFile, columns: list[str] | None, groups: Sequence[int] | None, rows: int
) -> Iterator[pa.RecordBatch]:
    """Batches of some columns; every error of the decoder becomes `ParquetDamage`."""
    try:
        yield from file.iter_batches(batch_size=rows, columns=columns, row_groups=groups, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ParquetDamage(f"is damaged: {error}") from error


def _rows_at_once(file: pq.ParquetFile, group: int) -> int:
    """Rows of a batch: `BATCH_ROWS`, fewer where the group's rows are large on average."""
    stored = file.metadata.row_group(group)
    each: int = stored.total_byte_size // max(1, stored.num_rows)
    return max(1, min(BATCH_ROWS, _BATCH_BYTES // max(1, each)))


def _column_text(file: pq.ParquetFile, name: str) -> list[str | None]:
    """A column of keys as text. Bytes are decoded as names are."""
    values: list[str | None] = []
    for batch in _batches(file, [name], None, rows=1 << 16):
        for value in batch.column(0).to_pylist():
            values.append(None if value is None else _key_text(value))
    return values


def _key_text(value: object) -> str:
    return decode_name(value) if isinstance(value, bytes) else str(value)


def _caption_column(schema: pa.Schema, config: ReadConfig) -> str:
    names = [config.caption_column] if config.caption_column else ["caption", "text"]
    return next((n for n in names if schema.get_field_index(n) >= 0), "")


def _batch_samples(
    shard: Shard, config: ReadConfig, batch: pa.RecordBatch, image: str, first: int, keys: Sequence[str]
) -> Iterator[ImageSample]:
    values = image_values(batch, image)
    lengths = pc.binary_length(values).to_pylist()
    caption = _caption_column(batch.schema, config)
    captions = batch.column(caption).to_pylist() if caption else None
    meta = {
        n: batch.column(n).to_pylist() for n in config.meta_columns if batch.schema.get_field_index(n) >= 0
    }
    for i, length in enumerate(lengths):
        row = first + i
        error, detail = _image_error(length, config)
        yield ImageSample(
            row=row,
            key=keys[row],
            sample_id=sample_id(shard.name, keys[row]),
            image=values[i].as_py() if error is None else None,
            member=image,
            member_size=length or 0,
            caption=clean_text(captions[i]) if captions else "",
            meta=meta_of({name: column[i] for name, column in meta.items()}, config.meta_columns),
            error=error,
            error_detail=detail,
        )


def _image_error(length: int | None, config: ReadConfig) -> tuple[FailureReason | None, str]:
    if length is None:
        return FailureReason.NO_IMAGE, "the image column is null"
    if length == 0:
        return FailureReason.EMPTY_IMAGE, "the image column holds zero bytes"
    if length > config.max_bytes:
        return FailureReason.TOO_MANY_BYTES, f"{length} bytes; read.max_bytes is {config.max_bytes}"
    return None, ""


def _group_images(
    file: pq.ParquetFile, image: str, group: int, start: int, rows: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Pictures of one row group, batch by batch, as far as the last wanted row."""
    left = list(reversed(rows))
    kind = file.schema_arrow.field(image).type
    leaf = f"{image}.bytes" if pa.types.is_struct(kind) else image
    first = start
    for batch in _batches(file, [leaf], [group], _rows_at_once(file, group)):
        values = image_values(batch, image)
        while left and left[-1] < first + batch.num_rows:
            row = left.pop()
            data = values[row - first].as_py()
            if data is None:
                raise ValueError(f"row {row} has no image: the shard has changed, run again with --overwrite")
            yield row, data
        first += batch.num_rows
        if not left:
            return
