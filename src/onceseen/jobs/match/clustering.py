"""Step 5b of match: components to verdicts.

Participants' attributes (about 100 bytes each) and edges (45 bytes) meet in partitions of components, each component
is decided there, and the verdicts go back to their shards, which need no look at any other shard.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from onceseen.clusters import Candidate, Edge, SampleVerdict, component_verdicts
from onceseen.core.config import PipelineConfig
from onceseen.core.features import read_features
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import distribution
from onceseen.core.records import Crawls, Shard, crawl_of, node_row, node_shard
from onceseen.jobs.decisions import Decisions
from onceseen.jobs.match.components import STEP as LABELS
from onceseen.jobs.match.edges import EDGE, droppable_edges, flaws, shard_edges, star_rows
from onceseen.jobs.match.verdict_table import write_verdicts
from onceseen.jobs.match.work import WorkFiles, with_number
from onceseen.jobs.shuffles import Gather, Measure, Spread, portions
from onceseen.neighbors.packing import LABEL, Records, mix64

ATTRIBUTES = np.dtype(
    [
        ("root", "<i8"),
        ("node", "<i8"),
        ("head", "<i8"),
        ("equal", "?"),
        ("sharpness", "<f8"),
        ("density", "<f8"),
    ]
)
"""What the keep order needs of a participant: 41 bytes; its id and preferred field travel beside it."""

Block = tuple[str, bytes, list[str], list[str]]
"""("members", attributes, sample ids, preferred values) or ("edges", edges, [], [])."""

_VERDICT_BYTES = 1_024
"""Of one verdict with its four sample ids, generously."""

Participant = tuple[Records, str, str]
"""One record of `ATTRIBUTES`, the sample id and the preferred value."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What one clustering works on.

    Attributes:
        layout: The run.
        config: Sections verify and keep are used.
        rounds: Steps whose judged pairs count.
        decisions: A person's words.
        partitions: Partitions of components, decided in parallel.
        doubtful: Whether doubtful pairs joined the components, and are asked for.
        crawls: First nodes of later crawls; the verdicts of older ones stand.
    """

    layout: RunLayout
    config: PipelineConfig
    rounds: tuple[str, ...]
    decisions: Decisions
    partitions: int
    doubtful: bool = False
    crawls: Crawls = ()


@dataclass(eq=False)
class ClusterDuplicates(beam.PTransform):
    """Shards to verdicts files."""

    plan: ClusterPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Gathers components, decides each, writes each shard's verdicts."""
        spread = shards | "Spread" >> Spread("match/shards")
        decided = (
            spread
            | "Participants" >> beam.FlatMap(participants, self.plan)
            | "ByComponents" >> Gather("match/participants")
            | "Decide" >> beam.FlatMap(decide, self.plan.config, self.plan.decisions, self.plan.crawls)
            | "Decided" >> Measure("match/verdicts")
        )
        numbered = spread | "Number" >> beam.Map(with_number)
        return (
            {"shard": numbered, "verdicts": decided}
            | "ByShard" >> beam.CoGroupByKey()
            | "WriteVerdicts" >> beam.Map(write_verdicts, self.plan.layout)
        )


def participants(shard: Shard, plan: ClusterPlan) -> Iterator[tuple[int, Block]]:
    """A shard's participants and edges, by partition of their component."""
    labels = WorkFiles(plan.layout).read(LABELS, shard.number, LABEL)
    if not len(labels):
        return
    attributes, ids, preferred = _attributes(shard, labels, plan)
    longest = max(len(i) + len(p) for i, p in zip(ids, preferred, strict=True))
    for number, chosen in _by_partition(attributes["root"], plan.partitions):
        for part in portions(chosen, ATTRIBUTES.itemsize + 4 * longest):
            block = attributes[part].tobytes()
            yield number, ("members", block, [ids[i] for i in part], [preferred[i] for i in part])
    edges = shard_edges(plan.layout, plan.rounds, shard.number, plan.decisions)
    edges = edges if plan.doubtful else edges[~edges["doubtful"]]
    edges["root"] = labels["root"][np.searchsorted(labels["node"], edges["b"])]
    for number, chosen in _by_partition(edges["root"], plan.partitions):
        for part in portions(chosen, EDGE.itemsize):
            yield number, ("edges", edges[part].tobytes(), [], [])


def _by_partition(roots: NDArray[np.int64], partitions: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    part = mix64(roots, 1) % np.uint64(partitions)
    for number in np.unique(part):
        yield int(number), np.flatnonzero(part == number)


def _attributes(shard: Shard, labels: Records, plan: ClusterPlan) -> tuple[Records, list[str], list[str]]:
    """Attributes, ids and preferred values of one shard's participants, in the labels' order."""
    columns = ["sample_id", "width", "height", "num_bytes", "sharpness", "meta"]
    table = read_features(plan.layout, shard, columns).take(node_row(labels["node"])).to_pylist()
    out = np.zeros(len(labels), dtype=ATTRIBUTES)
    out["root"], out["node"], out["head"], out["equal"] = labels["root"], labels["node"], labels["node"], True
    stars = star_rows(plan.layout, shard.number, plan.decisions)
    places = np.searchsorted(labels["node"], stars["node"])  # star rows are edges, so all of them take part
    out["head"][places], out["equal"][places] = stars["head"], stars["bytes"]
    out["sharpness"] = [row["sharpness"] or 0.0 for row in table]
    out["density"] = [
        (row["num_bytes"] or 0) / max(1, (row["width"] or 0) * (row["height"] or 0)) for row in table
    ]
    wanted = plan.config.keep.prefer.removeprefix("-")
    return out, [row["sample_id"] for row in table], [preferred_value(row["meta"], wanted) for row in table]


def preferred_value(meta: str | None, wanted: str) -> str:
    """The preferred field of a sample's stored json fields; empty where there is none."""
    value = json.loads(meta).get(wanted) if wanted and meta else None
    return "" if value is None else str(value)


def decide(
    keyed: tuple[int, Iterable[Block]], config: PipelineConfig, decisions: Decisions, crawls: Crawls = ()
) -> Iterator[tuple[int, list[tuple[object, ...]]]]:
    """Verdicts of one partition of components, by shard."""
    out: dict[int, list[tuple[object, ...]]] = defaultdict(list)
    for members, edges in components_of(keyed[1]):
        distribution("match/component_size").update(len(members))
        for verdict in _decide_component(members, edges, config, decisions, crawls):
            fields = dataclasses.astuple(verdict)
            # members of enumerations would travel pickled
            out[node_shard(verdict.node)].append(tuple(str(f) if isinstance(f, str) else f for f in fields))
    for number, verdicts in sorted(out.items()):
        for part in portions(verdicts, _VERDICT_BYTES):
            yield number, list(part)


def components_of(blocks: Iterable[Block]) -> Iterator[tuple[list[Participant], Records]]:
    """The components of one partition, by root: participants by node, and edges by (a, b)."""
    members: dict[int, list[Participant]] = defaultdict(list)
    edges: list[Records] = [np.empty(0, dtype=EDGE)]
    for kind, block, ids, preferred in blocks:
        if kind == "edges":
            edges.append(np.frombuffer(block, dtype=EDGE))
            continue
        for record, sample, value in zip(np.frombuffer(block, dtype=ATTRIBUTES), ids, preferred, strict=True):
            members[int(record["root"])].append((record, sample, value))
    every = np.concatenate(edges)
    every = every[np.lexsort((every["b"], every["a"], every["root"]))]
    for root in sorted(members):
        first, last = np.searchsorted(every["root"], [root, root + 1])
        yield sorted(members[root], key=lambda m: int(m[0]["node"])), every[first:last]


def _decide_component(
    members: Sequence[Participant],
    edges: Records,
    config: PipelineConfig,
    decisions: Decisions,
    crawls: Crawls,
) -> list[SampleVerdict]:
    """Verdicts of one component."""
    equal = {int(r["node"]): bool(r["equal"]) for r, _, _ in members}
    droppable = droppable_edges(edges, config.verify)
    candidates = keep_candidates(members, edges, droppable, crawls)
    return component_verdicts(candidates, droppable, equal, config.keep, decisions.samples, crawls)


def keep_candidates(
    members: Sequence[Participant], records: Records, edges: Sequence[Edge], crawls: Crawls
) -> list[Candidate]:
    """Participants as the keep order knows them; a class's flaw is its head's."""
    flaw = flaws(records, edges, crawls)
    return [
        Candidate(
            int(r["node"]),
            int(r["head"]),
            sample,
            flaw.get(int(r["head"]), 0.0),
            float(r["sharpness"]),
            float(r["density"]),
            value,
            crawl_of(int(r["node"]), crawls),
        )
        for r, sample, value in members
    ]
