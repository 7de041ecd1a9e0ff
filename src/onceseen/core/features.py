"""The features tables as arrays: written shard by shard, read back in whole columns.

features/<shard>.parquet and thumbs/<shard>.parquet have one row a sample, in the shard's order, failed ones included
(their picture columns are null), so that row i of the table is row i of the shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from onceseen.core.files import atomic_write, open_parts, open_table, read_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import ROW_BITS, Shard
from onceseen.core.schemas import OK, SCHEMA_VERSION, THUMB_SIDE, THUMBS, features_schema

_METADATA_KEY = b"onceseen"


class FeaturesError(RuntimeError):
    """A features table is missing or was made by another model or version."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Embeddings of a block of rows.

    Attributes:
        whole: (n, d) float16; rows of failed samples are ignored.
        views: One (v, d) float16 array a row, v its number of views.
    """

    whole: NDArray[np.float16]
    views: Sequence[NDArray[np.float16]]


class FeatureWriter:
    """Appends blocks of rows to a shard's two tables; see `feature_writer`."""

    def __init__(self, features: pq.ParquetWriter, thumbs: pq.ParquetWriter, schema: pa.Schema) -> None:
        """Wraps two open parquet writers."""
        self._features = features
        self._thumbs = thumbs
        self._schema = schema

    def write(
        self,
        rows: Sequence[Mapping[str, Any]],
        embeddings: Embeddings | None,
        thumbs: Sequence[Mapping[str, Any]],
    ) -> None:
        """Appends one row group to both tables.

        Args:
            rows: Scalar columns by name; missing ones are null.
            embeddings: In the rows' order, or None without a model.
            thumbs: `thumb` and `trimmed` bytes for the same rows; None where the sample failed.
        """
        columns = [
            pa.array([row.get(f.name) for row in rows], type=f.type)
            for f in self._schema
            if f.name not in ("embedding", "view_embeddings")
        ]
        ok = np.array([row["status"] == OK for row in rows], dtype=bool)
        columns += _embedding_columns(embeddings, ok, self._schema)
        self._features.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._thumbs.write_table(
            pa.Table.from_pylist(
                [{"sample_id": row["sample_id"], **thumb} for row, thumb in zip(rows, thumbs, strict=True)],
                schema=THUMBS,
            )
        )


def _embedding_columns(
    embeddings: Embeddings | None, ok: NDArray[np.bool_], schema: pa.Schema
) -> list[pa.Array]:
    vector_type, view_type = schema.field("embedding").type, schema.field("view_embeddings").type
    if embeddings is None:
        return [pa.nulls(len(ok), vector_type), pa.nulls(len(ok), view_type)]
    # Zeros, not nulls, for failed rows: parquet readers refuse null fixed-size lists.
    flat = pa.array(np.where(ok[:, None], embeddings.whole, np.float16(0)).ravel())
    whole = pa.FixedSizeListArray.from_arrays(flat, type=vector_type)
    offsets = np.cumsum([0, *(v.size for v in embeddings.views)])
    values = np.concatenate([np.empty(0, np.float16), *(v.ravel() for v in embeddings.views)])
    views = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values), type=view_type)
    return [whole, views]


@contextmanager
def feature_writer(
    layout: RunLayout, shard: Shard, dimensions: int, model: Mapping[str, Any] | None
) -> Iterator[FeatureWriter]:
    """Opens a shard's two tables; both appear under their names when the block ends without an error.

    Args:
        layout: The run.
        shard: The shard.
        dimensions: d of the embeddings, 0 without a model.
        model: The embedder's specification, kept in the file so that two models are never mixed.
    """
    meta = {_METADATA_KEY: json.dumps({"schema": SCHEMA_VERSION, "model": model}, sort_keys=True).encode()}
    schema = features_schema(dimensions).with_metadata(meta)
    with ExitStack() as stack:
        thumbs_file = stack.enter_context(atomic_write(layout.thumbs(shard.name)))
        features_file = stack.enter_context(atomic_write(layout.features(shard.name)))
        thumbs = stack.enter_context(pq.ParquetWriter(thumbs_file, THUMBS, compression="zstd"))
        features = stack.enter_context(
            pq.ParquetWriter(
                features_file,
                schema,
                compression="zstd",
                use_dictionary=["shard", "status", "format"],
                write_statistics=False,
            )
        )
        yield FeatureWriter(features, thumbs, schema)


@contextmanager
def _opened(layout: RunLayout, shard: Shard) -> Iterator[Any]:
    path = layout.of(shard).features(shard.name)
    try:
        with open_table(path) as stream:
            yield stream
    except FileNotFoundError as error:
        raise FeaturesError(
            f"{path} is missing: extract is not done for shard {shard.name}, or the run was moved; run dedup again"
        ) from error


def _take_rows(file: pq.ParquetFile, rows: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    found = [file.schema_arrow.empty_table().select(list(columns))]
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        inside = rows[(rows >= start) & (rows < end)]
        if len(inside):
            found.append(file.read_row_group(group, columns=list(columns)).take(pa.array(inside - start)))
        start = end
    return pa.concat_tables(found)


def read_features(layout: RunLayout, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard's features, or some columns of them.

    Raises:
        FeaturesError: If the file is not there.
    """
    with _opened(layout, shard) as stream:
        return pq.read_table(stream, columns=list(columns) if columns is not None else None)


def read_feature_rows(
    layout: RunLayout, shard: Shard, rows: NDArray[np.int64], columns: Sequence[str]
) -> pa.Table:
    """Some rows of a shard's features.

    Args:
        layout: The run.
        shard: The shard, of this run or of one that it was appended to.
        rows: (n,) int64, ascending, each once.
        columns: Columns wanted.

    Returns:
        Table of n rows. Memory and reading: the row groups that hold them, one at a time.

    Raises:
        FeaturesError: If the file is not there.
    """
    with _opened(layout, shard) as stream:
        return _take_rows(pq.ParquetFile(stream), rows, columns)


def read_model(layout: RunLayout, shard: Shard) -> Mapping[str, Any] | None:
    """The model recorded in a shard's features."""
    with open_parts(layout.of(shard).features(shard.name)) as stream:
        metadata = pq.ParquetFile(stream).schema_arrow.metadata or {}
    return json.loads(metadata[_METADATA_KEY])["model"] if _METADATA_KEY in metadata else None


def node_ids(shard: Shard, rows: int) -> NDArray[np.int64]:
    """(rows,) int64 node ids of a shard's rows."""
    return (np.int64(shard.number) << np.int64(ROW_BITS)) | np.arange(rows, dtype=np.int64)


def status_ok(table: pa.Table) -> NDArray[np.bool_]:
    """(n,) bool: rows that were judged."""
    return np.asarray(table.column("status").to_numpy(zero_copy_only=False) == OK, dtype=bool)


def fixed_bytes(table: pa.Table, column: str, width: int) -> NDArray[np.uint8]:
    """A binary column of one width as (n, width) uint8; null rows are zeros."""
    out = np.zeros((len(table), width), dtype=np.uint8)
    for i, value in enumerate(table.column(column).to_pylist()):
        if value is not None:
            out[i] = np.frombuffer(value, dtype=np.uint8)
    return out


def vectors(table: pa.Table) -> NDArray[np.float32]:
    """The `embedding` column as (n, d) float32; rows of failed samples are zeros.

    Raises:
        FeaturesError: If the features hold no embeddings.
    """
    column = table.column("embedding").combine_chunks()
    if not pa.types.is_fixed_size_list(column.type):
        raise FeaturesError("the features hold no embeddings (embed.model: none)")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat.reshape(-1, column.type.list_size), dtype=np.float32)


def view_vectors(table: pa.Table, dimensions: int) -> list[NDArray[np.float32]]:
    """The `view_embeddings` column: one (v, d) float32 array a row."""
    empty = np.empty((0, dimensions), dtype=np.float32)
    return [
        np.asarray(v, dtype=np.float32).reshape(-1, dimensions) if v else empty
        for v in table.column("view_embeddings").to_pylist()
    ]


def read_thumbs(layout: RunLayout, shard: Shard) -> pa.Table:
    """A shard's thumbs."""
    return read_table(layout.of(shard).thumbs(shard.name))


def read_thumb_rows(layout: RunLayout, shard: Shard, rows: NDArray[np.int64]) -> pa.Table:
    """Some rows (ascending, each once) of a shard's thumbs, reading the row groups that hold them."""
    with open_table(layout.of(shard).thumbs(shard.name)) as stream:
        return _take_rows(pq.ParquetFile(stream), rows, THUMBS.names)


def thumb_array(value: bytes | None) -> NDArray[np.uint8] | None:
    """A stored thumb as (64, 64) uint8, or None where there is none."""
    return np.frombuffer(value, dtype=np.uint8).reshape(THUMB_SIDE, THUMB_SIDE) if value else None
