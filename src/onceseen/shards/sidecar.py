"""The files that img2dataset puts beside a tar: `<shard>.parquet` and `<shard>_stats.json`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.config import WriteConfig
from onceseen.core.files import atomic_write, read_bytes_if_there, remove_files
from onceseen.core.records import Shard
from onceseen.shards.ledger import Ledger
from onceseen.shards.parquet_read import ParquetDamage, parquet_file
from onceseen.shards.records import VerdictRow
from onceseen.shards.table_write import widen, writer_options

KEY = "key"

_TAR = ".tar"


def rewrite_sidecars(
    shard: Shard, met: Sequence[tuple[str, VerdictRow]], target: str, write: WriteConfig, ledger: Ledger
) -> None:
    """Writes the sidecars of a rewritten tar beside it.

    The parquet file keeps the rows of written samples, with the added columns, and rows of no sample (failed
    downloads) with nulls there. `_stats.json` keeps its own fields (they tell of the download) and gains the
    object `onceseen` with the shard's counts. What cannot be filtered is carried as it is, with a warning in
    the summary. Where `write.sidecar` is off, sidecars of an earlier rewrite are removed.

    Args:
        shard: A tar.
        met: (key as stored, verdict) of its samples, in order.
        target: Path of the rewritten tar.
        write: Whether sidecars are written, and forced to disk.
        ledger: Takes the counts.
    """
    pairs = [(_beside(shard.path, suffix), _beside(target, suffix)) for suffix in (".parquet", "_stats.json")]
    rewriters = (_rewrite_table, _rewrite_stats)
    for (source, copy), rewriter in zip(pairs, rewriters, strict=True):
        original = read_bytes_if_there(source) if write.sidecar else None
        if original is None:
            remove_files([copy])
            continue
        ledger.bytes_read += len(original)
        data = rewriter(source, original, met, ledger)
        with atomic_write(copy, fsync=write.fsync) as stream:
            stream.write(data)
        ledger.bytes_written += len(data)


def _beside(tar: str, suffix: str) -> str:
    return tar[: -len(_TAR)] + suffix


def _rewrite_table(
    source: str, original: bytes, met: Sequence[tuple[str, VerdictRow]], ledger: Ledger
) -> bytes:
    """The sidecar parquet's new bytes. Memory: the table, which holds no pictures."""
    try:
        file = parquet_file(pa.BufferReader(original))
        options = writer_options(file)
        table = file.read()
    except (ParquetDamage, pa.ArrowException, OSError) as error:
        ledger.warnings.append(f"{source} is carried along as it is: {error}")
        return original
    if KEY not in table.column_names:
        ledger.warnings.append(f"{source} is carried along as it is, unfiltered: it has no column {KEY!r}")
        ledger.sidecar_rows += table.num_rows
        return original
    keys = [None if key is None else str(key).removeprefix("./") for key in table.column(KEY).to_pylist()]
    rows = _match_rows(keys, met, ledger)
    written = [i for i, row in enumerate(rows) if row is None or ledger.writes(row)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        widen(table.take(pa.array(written, pa.int64())), [rows[i] for i in written]), sink, **options
    )
    ledger.sidecar_rows += len(written)
    return bytes(memoryview(sink.getvalue()))


def _match_rows(
    keys: Sequence[str | None], met: Sequence[tuple[str, VerdictRow]], ledger: Ledger
) -> list[VerdictRow | None]:
    """The verdict of each sidecar row; None for rows of no sample.

    Where a key is repeated as often in the sidecar as in the tar, rows and samples are matched in order; else
    every row of the key goes with its first written sample, so that no written sample loses its row.
    """
    samples: dict[str, list[VerdictRow]] = defaultdict(list)
    for stored, row in met:
        samples[stored.removeprefix("./")].append(row)
    counts: dict[str | None, int] = defaultdict(int)
    for any_key in keys:
        counts[any_key] += 1
    taken: dict[str, int] = defaultdict(int)
    matched: list[VerdictRow | None] = []
    for key in keys:
        found = samples.get(key, []) if key is not None else []
        if not found or key is None:
            matched.append(None)
        elif counts[key] == len(found):
            matched.append(found[taken[key]])
            taken[key] += 1
        else:
            matched.append(next((r for r in found if ledger.writes(r)), found[0]))
    return matched


def _rewrite_stats(
    source: str, original: bytes, met: Sequence[tuple[str, VerdictRow]], ledger: Ledger
) -> bytes:
    """The new bytes of `_stats.json`."""
    try:
        fields = json.loads(original)
    except ValueError as error:
        ledger.warnings.append(f"{source} is carried along as it is: {error}")
        return original
    if not isinstance(fields, dict):
        ledger.warnings.append(f"{source} is carried along as it is: it holds no JSON object")
        return original
    verdicts = [row.verdict for _, row in met]
    counts = {name: verdicts.count(name) for name in ("keep", "drop", "failed")}
    fields["onceseen"] = {
        "read": len(verdicts),
        "kept": counts["keep"],
        "dropped": counts["drop"],
        "failed": counts["failed"],
        "damaged": ledger.damaged,
    }
    return (json.dumps(fields, indent=4) + "\n").encode()
