"""Which pairs to judge next: within components, those whose answer decides who is kept.

`ProposeLooks`: doubtful pairs of a representative with a class that is still free. In a group of forty copies that is
forty pictures read again, not eight hundred pairs.

`ProposeCompletions`: representatives of one component that were never compared. Two copies may both be near a third
and yet have met in no band or cell; their component has brought them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from onceseen.clusters import (
    choose_groups,
    classes_best_first,
    connected_components,
    worth_a_look,
)
from onceseen.core.records import Shard
from onceseen.jobs.match.candidates import write_candidates
from onceseen.jobs.match.clustering import (
    Block,
    ClusterPlan,
    Participant,
    components_of,
    keep_candidates,
    participants,
)
from onceseen.jobs.match.edges import droppable_edges
from onceseen.jobs.match.work import by_shard
from onceseen.jobs.shuffles import Gather, Spread
from onceseen.neighbors.packing import PAIR, Records, pair_records, unique_pairs

HUBS = 4
"""Largest groups of a component whose representatives are compared with all its others."""

Proposer = Callable[[Sequence[Participant], Records, ClusterPlan], Records]


@dataclass(eq=False)
class ProposeLooks(beam.PTransform):
    """Shards to doubtful pairs that matter, written by the shard of the smaller node."""

    plan: ClusterPlan
    step: str
    patient: bool
    every: bool = False

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Decides components provisionally and asks."""
        proposer = patient_looks if self.patient else all_looks
        return _propose(shards, self.plan, self.step, every_doubtful if self.every else proposer)


@dataclass(eq=False)
class ProposeCompletions(beam.PTransform):
    """Shards to pairs of representatives, written by the shard of the smaller node; of two below `since` none."""

    plan: ClusterPlan
    step: str
    since: int = 0

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Decides components provisionally and pairs their representatives."""
        return _propose(shards, self.plan, self.step, completions, self.since)


def _propose(
    shards: beam.PCollection[Shard], plan: ClusterPlan, step: str, proposer: Proposer, since: int = 0
) -> beam.PCollection[None]:
    return (
        shards
        | "Spread" >> Spread("match/shards")
        | "Participants" >> beam.FlatMap(participants, plan)
        | "ByComponents" >> Gather("match/participants")
        | "Propose" >> beam.FlatMap(propose, plan, proposer, since)
        | "ByShard" >> Gather("match/proposals")
        | "WriteCandidates" >> beam.Map(write_candidates, plan.layout, step)
    )


def propose(
    keyed: tuple[int, Iterable[Block]], plan: ClusterPlan, proposer: Proposer, since: int
) -> Iterator[tuple[int, bytes]]:
    """Pairs of one partition of components, by the shard of the smaller node."""
    found = [proposer(members, edges, plan) for members, edges in components_of(keyed[1])]
    pairs = unique_pairs(np.concatenate([np.empty(0, dtype=PAIR), *found]))
    yield from by_shard(pairs[pairs["b"] >= since], "a")


def patient_looks(members: Sequence[Participant], edges: Records, plan: ClusterPlan) -> Records:
    """Doubtful pairs of one component, classes waiting for an answer."""
    return _looks(members, edges, plan, patient=True)


def all_looks(members: Sequence[Participant], edges: Records, plan: ClusterPlan) -> Records:
    """All doubtful pairs of one component that can still matter."""
    return _looks(members, edges, plan, patient=False)


def every_doubtful(members: Sequence[Participant], edges: Records, plan: ClusterPlan) -> Records:
    """All doubtful pairs of one component, whether they decide anything or not."""
    doubtful = edges[edges["doubtful"]]
    return pair_records(doubtful["a"], doubtful["b"])


def _looks(members: Sequence[Participant], edges: Records, plan: ClusterPlan, *, patient: bool) -> Records:
    verified, doubtful = edges[~edges["doubtful"]], edges[edges["doubtful"]]
    if not len(doubtful):
        return np.empty(0, dtype=PAIR)
    known = droppable_edges(verified, plan.config.verify)
    order = list(classes_best_first(keep_candidates(members, verified, known, plan.crawls), plan.config.keep))
    pairs = list(zip(doubtful["a"].tolist(), doubtful["b"].tolist(), strict=True))
    asked = worth_a_look(order, known, pairs, patient=patient)
    return np.array(asked, dtype=PAIR)


def completions(members: Sequence[Participant], edges: Records, plan: ClusterPlan) -> Records:
    """Pairs of the largest groups' representatives with all other representatives of one component.

    Two pictures of older crawls are compared only where they are of one component without the newer ones: what is new
    does not change what is old.
    """
    found = [np.empty(0, dtype=PAIR)]
    for first, end in zip((0, *plan.crawls), (*plan.crawls, None), strict=True):
        parts = [(list(members), edges)] if end is None else _parts_before(members, edges, end)
        pairs = np.concatenate([np.empty(0, dtype=PAIR), *(_hub_pairs(*part, plan) for part in parts)])
        found.append(pairs[pairs["b"] >= first])
    return np.concatenate(found)


def _parts_before(
    members: Sequence[Participant], edges: Records, end: int
) -> Iterator[tuple[list[Participant], Records]]:
    """The components that one component was made of before a crawl was appended."""
    within = edges[edges["b"] < end]
    own = [m for m in members if m[0]["node"] < end]
    nodes = np.array([int(m[0]["node"]) for m in own], dtype=np.int64)
    heads = np.array([int(m[0]["head"]) for m in own], dtype=np.int64)
    _, roots = connected_components(lambda: [(nodes, heads), (within["a"], within["b"])])
    for root in np.unique(roots):
        part = nodes[roots == root]
        yield [m for m, r in zip(own, roots, strict=True) if r == root], within[np.isin(within["a"], part)]


def _hub_pairs(members: Sequence[Participant], edges: Records, plan: ClusterPlan) -> Records:
    known = droppable_edges(edges, plan.config.verify)
    classes = classes_best_first(keep_candidates(members, edges, known, plan.crawls), plan.config.keep)
    groups = choose_groups(list(classes), known, crawls=plan.crawls)
    sizes = {
        g.representative: sum(len(classes[h]) for h in (g.representative, *dict(g.taken))) for g in groups
    }
    nodes = np.array(sorted(sizes, key=lambda head: (-sizes[head], head)), dtype=np.int64)
    found = [np.empty(0, dtype=PAIR)]
    for first in range(min(HUBS, len(nodes) - 1)):
        rest = nodes[first + 1 :]
        found.append(pair_records(np.full(len(rest), nodes[first]), rest))
    return np.concatenate(found)
