"""Step 5a of match: connected components by union-find, as one task on one worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from onceseen.clusters import connected_components
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter
from onceseen.core.records import Shard, node_id
from onceseen.jobs.decisions import Decisions
from onceseen.jobs.match.edges import shard_edges, star_edges
from onceseen.jobs.match.work import WorkFiles
from onceseen.neighbors.packing import LABEL

STEP = "labels"


@dataclass(eq=False)
class LabelComponents(beam.PTransform):
    """Shards to labels files. Shuffled: shard numbers. Memory: 16 bytes a participant on one worker."""

    layout: RunLayout
    rounds: tuple[str, ...]
    decisions: Decisions
    doubtful: bool = False

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Brings the shards' numbers to one worker and runs the union-find there as a single task."""
        return (
            shards
            | "Number" >> beam.Map(_to_one_task)
            | "Gather" >> beam.GroupByKey()
            | "UnionFind" >> beam.Map(_label_all, self.layout, self.rounds, self.decisions, self.doubtful)
        )


def _to_one_task(shard: Shard) -> tuple[int, int]:
    return 0, shard.number


def _label_all(
    keyed: tuple[int, Iterable[int]],
    layout: RunLayout,
    rounds: Sequence[str],
    decisions: Decisions,
    doubtful: bool,
) -> None:
    label_components(sorted(keyed[1]), layout, rounds, decisions, doubtful)


def label_components(
    numbers: Sequence[int], layout: RunLayout, rounds: Sequence[str], decisions: Decisions, doubtful: bool
) -> None:
    """Writes each shard's participants with their component's root.

    Samples with a decision take part even without an edge, so that their word is heard.

    Args:
        numbers: Shard numbers.
        layout: The run.
        rounds: Steps whose judged pairs count.
        decisions: A person's words.
        doubtful: Whether doubtful pairs join components too, to see which of them matter.
    """

    def stream() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        alone = np.array(sorted(decisions.samples), dtype=np.int64)
        yield alone, alone
        for number in numbers:
            yield from star_edges(layout, number, decisions)
            edges = shard_edges(layout, rounds, number, decisions)
            edges = edges if doubtful else edges[~edges["doubtful"]]
            yield edges["a"], edges["b"]

    nodes, roots = connected_components(stream)
    counter("match/participants").inc(len(nodes))
    labels = np.empty(len(nodes), dtype=LABEL)
    labels["node"], labels["root"] = nodes, roots
    work = WorkFiles(layout)
    for number in numbers:  # nodes are ascending, so a shard's are one slice
        first, last = np.searchsorted(nodes, [node_id(number, 0), node_id(number + 1, 0)])
        work.write(STEP, number, labels[first:last])
