"""Step 2 of an audit: what the training set has of the prompts, and which of its pictures are nearest to each probe.

One pass over the run's shards looks up captions, the pictures that the detector named, and a sample of pictures that
are held against all others, for comparison. A second searches the thumbs of all pictures, dropped ones too: a block of
probes against a shard at a time, merged over the shards. That is exact and quadratic: 10,000 generations against a
million pictures take some minutes of one core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.audit.search import NEAR, best_components, nearest_components
from onceseen.core.features import node_ids, status_ok
from onceseen.core.records import Shard, Verdict, node_id, node_row, node_shard
from onceseen.jobs.audit.plan import (
    ASKED,
    CAPTIONS,
    KNOWN,
    NEAREST,
    OCCURRENCES,
    PROBE,
    PROBES,
    REFERENCES,
    SAMPLE,
    AuditPlan,
    component_hashes,
    judged_rows,
    read_verdicts,
)
from onceseen.jobs.audit.prompts import read_probes
from onceseen.jobs.shuffles import Merge, Spread, portions
from onceseen.neighbors.packing import Records, mix64
from onceseen.stats.text import hash64, normalise_caption

PROBE_ROWS = 4_096
"""Probes that are searched, and whose finds are merged, together."""

HASHES = np.dtype([("hash", "<u8")])
COUNTS = np.dtype([("prompt", "<u8"), ("count", "<i8")])
_SEED = 20_230_130

Merged = tuple[int, bytes]
"""Components that an owner keeps, and packed `NEAR` records."""


class BestComponentsFn(beam.CombineFn):
    """Blocks of `NEAR` records to the best components of each owner; see `onceseen.audit.search`."""

    def create_accumulator(self) -> Merged:
        """Nothing yet."""
        return 0, b""

    def add_input(self, found: Merged, block: Merged) -> Merged:
        """The best of both."""
        most = max(found[0], block[0])
        records = np.concatenate([np.frombuffer(part, dtype=NEAR) for part in (found[1], block[1])])
        return most, best_components(records, most).tobytes()

    def merge_accumulators(self, parts: Iterable[Merged]) -> Merged:
        """The best of all."""
        merged = self.create_accumulator()
        for part in parts:
            merged = self.add_input(merged, part)
        return merged

    def extract_output(self, found: Merged) -> bytes:
        """The records."""
        return found[1]


@dataclass(eq=False)
class LookUpTraining(beam.PTransform):
    """The run's shards to what is known of prompts, named pictures and the sample.

    Merged: 32 bytes for each sample with a prompt as caption, for each picture that the detector named, and for
    `train_samples` pictures of a shard.
    """

    plan: AuditPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Looks up, merges, writes."""
        return (
            shards
            | "Spread" >> Spread("audit/shards")
            | "LookUp" >> beam.FlatMap(look_up, self.plan)
            | "Merge" >> Merge("audit/known", BestComponentsFn())
            | "WriteKnown" >> beam.Map(write_known, self.plan)
        )


def look_up(shard: Shard, plan: AuditPlan) -> Iterator[tuple[str, Merged]]:
    """What one of the run's shards holds of what is asked for."""
    pictures = TrainingPictures.read(shard, plan)
    asked = {name: plan.work.read(f"{ASKED}/{name}", 0, HASHES)["hash"] for name in (CAPTIONS, REFERENCES)}
    captioned = pictures.captioned(asked[CAPTIONS])
    _write_occurrences(shard, plan, captioned)
    config = plan.config.audit
    for kind, found, most in (
        (CAPTIONS, captioned, config.candidates),
        (REFERENCES, pictures.named(asked[REFERENCES]), 1),
        (SAMPLE, pictures.drawn(), config.train_samples),
    ):
        for block in portions(best_components(found, most), NEAR.itemsize):
            yield kind, (most, block.tobytes())


@dataclass(frozen=True, slots=True)
class TrainingPictures:
    """The pictures of one of the run's shards, by row.

    Attributes:
        records: (n,) `NEAR` with node and component.
        features: Captions, ids, status.
        verdicts: Verdicts and copies.
    """

    records: Records
    features: pa.Table
    verdicts: pa.Table

    @classmethod
    def read(cls, shard: Shard, plan: AuditPlan) -> TrainingPictures:
        """Reads a shard's features and verdicts."""
        features, verdicts = judged_rows(plan, shard), read_verdicts(plan, shard)
        records = np.zeros(len(features), dtype=NEAR)
        records["node"], records["component"] = node_ids(shard, len(features)), component_hashes(verdicts)
        return cls(records, features, verdicts)

    def captioned(self, prompts: NDArray[np.uint64]) -> Records:
        """Those that could be judged and have a prompt as caption: owner is the prompt, most copies are best."""
        found = self.records.copy()
        texts = (normalise_caption(caption or "") for caption in self.features["caption"].to_pylist())
        found["owner"] = [hash64(text) if text else 0 for text in texts]
        found["rank"] = [-max(1, copies or 1) for copies in self.verdicts["copies"].to_pylist()]
        return np.asarray(found[status_ok(self.features) & np.isin(found["owner"], prompts)])

    def named(self, ids: NDArray[np.uint64]) -> Records:
        """Those of some ids: owner is the id's hash."""
        found = self.records.copy()
        found["owner"] = [hash64(name) for name in self.features["sample_id"].to_pylist()]
        return np.asarray(found[np.isin(found["owner"], ids)])

    def searched(self) -> NDArray[np.bool_]:
        """Those that can be nearest: all that could be read and are not blank."""
        blank = np.array([bool(value) for value in self.features["blank"].to_pylist()], dtype=bool)
        return np.asarray(status_ok(self.features) & ~blank, dtype=bool)

    def drawn(self) -> Records:
        """Kept ones, ranked by a fixed hash of their component: of each component one is drawn."""
        kept = [verdict == Verdict.KEEP for verdict in self.verdicts["verdict"].to_pylist()]
        found = self.records[self.searched() & np.array(kept, dtype=bool)]
        hashes = mix64(found["component"].view(np.int64), _SEED) >> np.uint64(1)
        found["rank"] = hashes.view(np.int64)
        return np.asarray(found)


def _write_occurrences(shard: Shard, plan: AuditPlan, captioned: Records) -> None:
    prompts, counts = np.unique(captioned["owner"], return_counts=True)
    rows = np.empty(len(prompts), dtype=COUNTS)
    rows["prompt"], rows["count"] = prompts, counts
    if len(rows):
        plan.work.write(OCCURRENCES, shard.number, rows)


def write_known(found: tuple[str, bytes], plan: AuditPlan) -> None:
    """Writes what all shards have of one kind."""
    plan.work.write(f"{KNOWN}/{found[0]}", 0, np.frombuffer(found[1], dtype=NEAR))


@dataclass(eq=False)
class ReadTrainingProbes(beam.PTransform):
    """The run's shards to probes of the sample's pictures, a file a shard."""

    plan: AuditPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards and reads thumbs of each."""
        return (
            shards
            | "Spread" >> Spread("audit/shards")
            | "ReadProbes" >> beam.Map(read_training_probes, self.plan)
        )


def read_training_probes(shard: Shard, plan: AuditPlan) -> None:
    """Writes the probes of the sample's pictures that lie in one shard, if any."""
    nodes = np.sort(plan.known(SAMPLE)["node"])
    rows = node_row(nodes[node_shard(nodes) == shard.number])
    if len(rows):
        plan.work.write(PROBES, shard.number, read_probes(shard, plan, rows))


@dataclass(eq=False)
class SearchTraining(beam.PTransform):
    """The run's shards to the nearest components of each probe, a file a block of probes.

    Merged: 32 bytes for each probe and component that it keeps, from each shard, in blocks of `PROBE_ROWS` probes.
    """

    plan: AuditPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Searches each shard for all probes, merges, writes."""
        return (
            shards
            | "Spread" >> Spread("audit/shards")
            | "Search" >> beam.FlatMap(search_shard, self.plan)
            | "Merge" >> Merge("audit/nearest", BestComponentsFn())
            | "WriteNearest" >> beam.Map(write_nearest, self.plan)
        )


def search_shard(shard: Shard, plan: AuditPlan) -> Iterator[tuple[int, Merged]]:
    """The nearest components of every probe in one shard, by block of probes.

    Memory: 270 bytes and a thumb a picture of the shard, one file of probes.
    """
    every = TrainingPictures.read(shard, plan)
    pictures = every.records[every.searched()]
    if not len(pictures):
        return
    thumbs = read_probes(shard, plan, node_row(pictures["node"]))["probe"]
    most = plan.config.audit.candidates + 1  # of a training picture, its own component leaves
    for number in plan.work.numbers(PROBES):
        probes = plan.work.read(PROBES, number, PROBE)
        for start in range(0, len(probes), PROBE_ROWS):
            block = probes[start : start + PROBE_ROWS]
            found = nearest_components(
                block["probe"],
                block["node"].astype(np.uint64),
                thumbs,
                pictures["component"],
                pictures["node"],
                most,
            )
            yield node_id(number, start // PROBE_ROWS), (most, found.tobytes())


def write_nearest(found: tuple[int, bytes], plan: AuditPlan) -> None:
    """Writes what all shards have for one block of probes."""
    number, block = node_shard(found[0]), node_row(found[0])
    plan.work.write(_nearest(number), block, np.frombuffer(found[1], dtype=NEAR))


def read_nearest(plan: AuditPlan, number: int) -> Records:
    """The nearest components of a shard's probes: `NEAR` records, owner being the probe's node."""
    step = _nearest(number)
    blocks = [plan.work.read(step, block, NEAR) for block in plan.work.numbers(step)]
    return np.concatenate([np.empty(0, dtype=NEAR), *blocks])


def _nearest(number: int) -> str:
    return f"{NEAREST}/{number:08d}"
