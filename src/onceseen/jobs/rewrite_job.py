"""Job 3: rewrite. Each input shard is read again and its kept members copied; nothing is shuffled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam

from onceseen.core.config import PipelineConfig
from onceseen.core.files import read_json_if_there, read_table, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter
from onceseen.core.records import Shard
from onceseen.jobs.shuffles import Spread
from onceseen.shards import RewriteSummary, VerdictRow, rewrite_shard

_COLUMNS = (
    "sample_id",
    "verdict",
    "representative_id",
    "copies",
    "component_id",
    "component_size",
    "weight",
    "kind",
    "score",
)


def rewrite_done(layout: RunLayout, shard: Shard, fingerprint: str) -> bool:
    """Whether a shard is written for this very fingerprint."""
    mark = read_json_if_there(layout.rewrite_mark(shard.name))
    return mark is not None and mark.get("fingerprint") == fingerprint


def read_verdict_rows(layout: RunLayout, shard: Shard) -> dict[str, VerdictRow]:
    """A shard's verdicts by key."""
    rows = read_table(layout.verdicts(shard.name), ["key", *_COLUMNS]).to_pylist()
    return {row["key"]: _verdict_row(row) for row in rows}


def _verdict_row(row: dict[str, Any]) -> VerdictRow:
    filled: dict[str, Any] = {name: "" if row[name] is None else row[name] for name in _COLUMNS}
    return VerdictRow(**{**filled, "score": row["score"] or 0.0})


def rewrite_one(shard: Shard, config: PipelineConfig, layout: RunLayout, fingerprint: str) -> None:
    """Writes one shard of the deduplicated set unless that is done, and its done mark."""
    if rewrite_done(layout, shard, fingerprint):
        counter("rewrite/reused").inc()
        return
    verdicts = read_verdict_rows(layout, shard)
    summary: RewriteSummary = rewrite_shard(shard, verdicts, layout.shards_dir(), config.read, config.write)
    counter("rewrite/in").inc(summary.read)
    counter("rewrite/out").inc(summary.written)
    counter("rewrite/bytes_out").inc(summary.bytes_written)
    write_json(layout.rewrite_mark(shard.name), {**asdict(summary), "fingerprint": fingerprint})


@dataclass(eq=False)
class WriteDedupedShards(beam.PTransform):
    """Shards to deduplicated shards of the same names. Elements are shard descriptions; nothing else moves."""

    config: PipelineConfig
    layout: RunLayout
    fingerprint: str

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards over the workers and rewrites each."""
        return (
            shards
            | "Spread" >> Spread("rewrite/shards")
            | "Rewrite" >> beam.Map(rewrite_one, self.config, self.layout, self.fingerprint)
        )
