"""Tables as Arrow IPC bytes: how rows travel between workers and lie in an index."""

from __future__ import annotations

import pyarrow as pa


def table_bytes(table: pa.Table) -> bytes:
    """A table as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def bytes_table(data: bytes) -> pa.Table:
    """A table from `table_bytes`."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
