"""Step 3 of an audit: pixels. Each picture's candidates are read again and compared tile by tile.

Candidates of a generation: the nearest components by thumbs, training pictures whose caption is its prompt (those with
most copies), and what the detector named. Those of a held-out picture: by thumbs and by the detector; of a training
picture by thumbs, its own component left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from onceseen.audit import largest_tile, tile_distances, whole_l2
from onceseen.core.cores import one_thread_a_call
from onceseen.core.files import read_table
from onceseen.core.metrics import counter
from onceseen.core.records import Shard, node_id
from onceseen.jobs.audit.plan import (
    CAPTIONS,
    EXACT,
    MEASURED,
    PROBE,
    PROBES,
    PROMPTED,
    REFERENCES,
    SAMPLE,
    AuditPlan,
    Pictures,
)
from onceseen.jobs.audit.training import read_nearest
from onceseen.jobs.shuffles import Spread
from onceseen.neighbors.packing import Records
from onceseen.stats.text import hash64

_PORTION = 64
"""Pictures at a time, each with its candidates: 120 MB at side 256."""

Candidates = dict[int, dict[int, int]]
"""Candidate nodes with their components, by node of the picture."""


@dataclass(eq=False)
class MeasureNearest(beam.PTransform):
    """Shards to the exact distances of their probes' pictures, a file a shard. Pictures are read by the worker."""

    plan: AuditPlan
    side: int

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards and reads the pictures of each."""
        return (
            shards
            | "Spread" >> Spread("audit/shards")
            | "Measure" >> beam.ParDo(_MeasureShardFn(self.plan, self.side))
        )


class _MeasureShardFn(beam.DoFn):
    """Measures all of a shard's probes."""

    def __init__(self, plan: AuditPlan, side: int) -> None:
        self._plan = plan
        self._side = side

    def setup(self) -> None:
        """Many pictures are read side by side."""
        one_thread_a_call()

    def process(self, shard: Shard) -> None:
        """Writes one shard's distances."""
        nodes = self._plan.work.read(PROBES, shard.number, PROBE)["node"]
        if not len(nodes):
            return
        candidates = find_candidates(shard, self._plan, nodes)
        records = measure(candidates, Pictures(self._plan, self._side))
        counter("audit/compared").inc(sum(map(len, candidates.values())))
        self._plan.work.write(MEASURED, shard.number, records)


def find_candidates(shard: Shard, plan: AuditPlan, nodes: NDArray[np.int64]) -> Candidates:
    """Training pictures to compare with each picture of a shard; one without any is not among the keys.

    Args:
        shard: A shard of any of the three sets.
        plan: The audit.
        nodes: All its pictures that are searched for.
    """
    found: Candidates = {node: {} for node in nodes.tolist()}
    own: dict[int, int] = {}
    if shard.number < plan.first:
        sample = plan.known(SAMPLE)
        own = dict(zip(sample["node"].tolist(), sample["component"].tolist(), strict=True))
    for probe, component, node, _ in read_nearest(plan, shard.number).tolist():
        if own.get(probe) != component and len(found[probe]) < plan.config.audit.candidates:
            found[probe][node] = component
    if shard.number >= plan.first:
        _add(found, _named(shard, plan), plan.known(REFERENCES))
    if plan.is_generated(shard):
        table = read_table(plan.work.path(PROMPTED, shard.number, "parquet"), ["node", "prompt"])
        prompts = dict(zip(*(table[name].to_pylist() for name in ("node", "prompt")), strict=True))
        _add(found, prompts, plan.known(CAPTIONS))
    return {probe: some for probe, some in found.items() if some}


def _named(shard: Shard, plan: AuditPlan) -> dict[int, int]:
    """By node the hash of the picture that the detector named."""
    names = plan.findings(shard, ["reference_id"])["reference_id"].to_pylist()
    return {node_id(shard.number, row): hash64(name) for row, name in enumerate(names) if name is not None}


def _add(found: Candidates, asked: Mapping[int, int], known: Records) -> None:
    """Adds what is known of what each picture asks for."""
    by_owner: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for owner, component, node, _ in known.tolist():
        by_owner[owner].append((node, component))
    for probe, owner in asked.items():
        if probe in found:
            found[probe] |= dict(by_owner.get(owner, ()))


def measure(candidates: Candidates, pictures: Pictures) -> Records:
    """Compares pictures with their candidates.

    Args:
        candidates: By node of the picture.
        pictures: Reads them.

    Returns:
        `EXACT` records: of each component the nearest picture; by probe, nearest first, then by node.
    """
    probes = sorted(candidates)
    wanted = pictures.wanted([*probes, *(node for some in candidates.values() for node in some)])
    rows: list[tuple[int, int, int, float, float]] = []
    for start in range(0, len(probes), _PORTION):
        portion = probes[start : start + _PORTION]
        nodes = {*portion, *(node for probe in portion for node in candidates[probe])}
        pixels = pictures.load({node: wanted[node] for node in sorted(nodes)})
        for probe in portion:
            rows += _compare(probe, candidates[probe], pixels)
    return np.array(rows, dtype=EXACT)


def _compare(
    probe: int, some: Mapping[int, int], pixels: Mapping[int, NDArray[np.uint8]]
) -> Iterator[tuple[int, int, int, float, float]]:
    """One picture's rows."""
    nodes = sorted(some)
    picture = pixels[probe][None]
    tiles = tile_distances(picture, np.stack([pixels[node] for node in nodes]))
    distances, whole = largest_tile(tiles)[0], whole_l2(tiles, picture.shape[1])[0]
    seen: set[int] = set()
    for place in np.lexsort((np.array(nodes), distances)).tolist():
        component = some[nodes[place]]
        if component not in seen:
            seen.add(component)
            yield probe, nodes[place], component, float(distances[place]), float(whole[place])


def nearest_and_second(measured: Records) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each picture the distance to its nearest training picture and to the nearest of another component.

    Args:
        measured: `EXACT` records of `measure`.

    Returns:
        Two (n,) float32, by node; the second is inf where there was one candidate alone.
    """
    firsts = np.flatnonzero(np.r_[True, measured["probe"][1:] != measured["probe"][:-1]][: len(measured)])
    sizes = np.diff(np.r_[firsts, len(measured)])
    second = np.full(len(firsts), np.inf, dtype=np.float32)
    more = sizes > 1
    second[more] = measured["distance"][firsts[more] + 1]
    return np.asarray(measured["distance"][firsts], dtype=np.float32), second
