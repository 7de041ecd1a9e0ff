"""Recall of the candidate search, measured in every run: a sample of pictures searched exactly.

Every vector is compared with a few hundred sampled ones, which costs one small matrix product a shard; of the pairs at
or above each cosine, the share that became candidate pairs is the recall of bands and cells together.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from onceseen.core.config import CellsConfig
from onceseen.core.files import join, open_read, write_bytes, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.match.classes import class_members
from onceseen.jobs.match.training import sample_vectors
from onceseen.jobs.match.work import WorkFiles, by_shard
from onceseen.jobs.shuffles import Gather, Spread
from onceseen.neighbors.packing import PAIR
from onceseen.neighbors.regions import vector_regions

COSINES = (0.95, 0.9, 0.8, 0.7)
HEADLINE = 0.8
FOUND = np.dtype([("a", "<i8"), ("b", "<i8"), ("cosine", "<f4")])


def queries_path(layout: RunLayout) -> str:
    """File of the sampled vectors."""
    return join(layout.work_dir(), "queries.npz")


def recall_path(layout: RunLayout) -> str:
    """File of the result."""
    return join(layout.work_dir(), "recall.json")


def write_queries(layout: RunLayout, shards: Sequence[Shard], config: CellsConfig) -> None:
    """Samples the pictures to be searched exactly."""
    vectors, nodes = sample_vectors(layout, shards, config.recall_samples, config.seed + 1)
    buffer = io.BytesIO()
    np.savez(buffer, vectors=vectors, nodes=nodes)
    write_bytes(queries_path(layout), buffer.getvalue())


@dataclass(eq=False)
class MeasureRecall(beam.PTransform):
    """Shards to one recall file."""

    layout: RunLayout
    steps: tuple[str, ...]

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Searches exactly, looks each true pair up among the candidates, adds up."""
        return (
            shards
            | "Spread" >> Spread("match/shards")
            | "SearchExactly" >> beam.FlatMap(true_pairs, self.layout)
            | "ByShard" >> Gather("match/true_pairs")
            | "LookUp" >> beam.Map(count_found, self.layout, self.steps)
            | "AddUp" >> beam.CombineGlobally(_add_up)
            | "WriteRecall" >> beam.Map(write_recall, self.layout)
        )


def true_pairs(shard: Shard, layout: RunLayout) -> Iterator[tuple[int, bytes]]:
    """Pairs of a shard's pictures with the queries at or above the least cosine of `COSINES`."""
    with open_read(queries_path(layout)) as stream, np.load(io.BytesIO(stream.read())) as stored:
        queries, nodes = stored["vectors"], stored["nodes"]
    regions = vector_regions(layout, shard, class_members(layout, shard))
    whole = regions.flags == 0
    cosine = queries @ regions.vectors[whole].T
    other = regions.nodes[whole]
    i, j = np.nonzero((cosine >= min(COSINES)) & (nodes[:, None] != other[None, :]))
    pairs = np.empty(len(i), dtype=FOUND)
    pairs["a"], pairs["b"] = np.minimum(nodes[i], other[j]), np.maximum(nodes[i], other[j])
    pairs["cosine"] = cosine[i, j]
    yield from by_shard(pairs, "a")


def count_found(keyed: tuple[int, Iterable[bytes]], layout: RunLayout, steps: Sequence[str]) -> list[int]:
    """(found, true) at each of `COSINES`, flat, for pairs whose smaller node is in one shard."""
    pairs = np.concatenate([np.frombuffer(b, dtype=FOUND) for b in keyed[1]])
    candidates = WorkFiles(layout).read_all(steps, keyed[0], PAIR)
    known = set(zip(candidates["a"].tolist(), candidates["b"].tolist(), strict=True))
    hit = np.array([(a, b) in known for a, b, _ in pairs.tolist()], dtype=bool)
    out: list[int] = []
    for least in COSINES:
        true = pairs["cosine"] >= least
        out += [int((hit & true).sum()), int(true.sum())]
    return out


def _add_up(parts: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*parts, strict=True)]


def write_recall(counts: Sequence[int], layout: RunLayout) -> None:
    """Writes recall by cosine; nothing to find gives null."""
    counts = counts or [0] * (2 * len(COSINES))
    rows = []
    for i, least in enumerate(COSINES):
        found, true = counts[2 * i], counts[2 * i + 1]
        rows.append(
            {"cosine": least, "pairs": true, "found": found, "recall": found / true if true else None}
        )
    headline = next(row["recall"] for row in rows if row["cosine"] == HEADLINE)
    write_json(recall_path(layout), {"candidate_recall": headline, "at_cosine": HEADLINE, "by_cosine": rows})
