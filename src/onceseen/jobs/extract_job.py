"""Job 1: extract. One step over shards; nothing large leaves it."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from onceseen.core.config import PipelineConfig
from onceseen.core.cores import one_thread_a_call
from onceseen.core.files import read_json_if_there
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter, distribution
from onceseen.core.records import Shard
from onceseen.embed import SharedEmbedder
from onceseen.jobs.extract import extract_shard
from onceseen.jobs.shuffles import Spread


def extract_done(layout: RunLayout, shard: Shard, fingerprint: str) -> bool:
    """Whether a shard's features are there for this very fingerprint."""
    mark = read_json_if_there(layout.extract_summary(shard.name))
    return mark is not None and mark.get("fingerprint") == fingerprint


class _ExtractShardFn(beam.DoFn):
    """Extracts shards with one model a process; a shard with a done mark is skipped."""

    def __init__(self, config: PipelineConfig, layout: RunLayout, fingerprint: str) -> None:
        self._config = config
        self._layout = layout
        self._fingerprint = fingerprint
        self._shared = SharedEmbedder(config.embed)

    def setup(self) -> None:
        """One thread a call: shards are decoded in a pool of threads."""
        one_thread_a_call()

    def process(self, shard: Shard) -> None:
        """Extracts one shard unless that is done."""
        if extract_done(self._layout, shard, self._fingerprint):
            counter("extract/reused").inc()
            return
        summary = extract_shard(shard, self._config, self._layout, self._shared.get(), self._fingerprint)
        counter("extract/in").inc(summary.read)
        counter("extract/bytes_in").inc(summary.bytes_read)
        for reason, count in summary.failed_by.items():
            counter(f"extract/failed/{reason}").inc(count)
        distribution("extract/msec").update(round(summary.seconds * 1000))


@dataclass(eq=False)
class ExtractShards(beam.PTransform[beam.PCollection[Shard], beam.PCollection[None]]):
    """Shards to features, thumbs and failures files. Elements are shard descriptions of a few hundred bytes."""

    config: PipelineConfig
    layout: RunLayout
    fingerprint: str

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards over the workers and extracts each."""
        return (
            shards
            | "Spread" >> Spread("extract/shards")
            | "Extract" >> beam.ParDo(_ExtractShardFn(self.config, self.layout, self.fingerprint))
        )
