"""Step 3 of match: candidate pairs from PDQ bands and embedding cells, in one or several passes.

Only packed blocks of codes pass the shuffle: at the defaults 41 bytes for each of 32 bands, straight and mirrored, and
241 bytes for each of 3 coarse cells. A pass takes the keys whose number leaves its remainder, so a machine with little
memory does the same work in more passes, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from onceseen.core.config import PipelineConfig
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter, distribution
from onceseen.core.records import Shard
from onceseen.jobs.match.asked_keys import AskedKeys, read_asked_keys
from onceseen.jobs.match.classes import class_members
from onceseen.jobs.match.work import WorkFiles, by_shard
from onceseen.jobs.shuffles import Gather, Spread, portions
from onceseen.neighbors.bands import band_positions, band_values, search_band
from onceseen.neighbors.cells import assign_coarse, encode, search_cell
from onceseen.neighbors.cells_file import read_cells
from onceseen.neighbors.device import search_device
from onceseen.neighbors.packing import ALL_PAIRS, PAIR, SIGNATURE, Asked, code_dtype, unique_pairs, unpack
from onceseen.neighbors.regions import signatures, vector_regions

Key = tuple[str, int, int]
"""("band", band, range of values) or ("cell", coarse cell, code dimensions)."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Which keys are searched now: those whose number leaves remainder `index` modulo `count`."""

    index: int = 0
    count: int = 1
    ranges: int = 1

    def takes(self, number: int) -> bool:
        """Whether this pass takes a key."""
        return number % self.count == self.index

    @property
    def step(self) -> str:
        """Name of the pass's files."""
        return f"candidates-{self.index:03d}"


@dataclass(eq=False)
class FindCandidatePairs(beam.PTransform):
    """Shards to candidate pairs, written by the shard of the smaller node."""

    layout: RunLayout
    config: PipelineConfig
    part: Pass
    asked: Asked = ALL_PAIRS

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Sends codes to their bands and cells, searches each, writes pairs once each."""
        return (
            shards
            | "Spread" >> Spread("match/shards")
            | "Codes" >> beam.FlatMap(code_blocks, self.layout, self.config, self.part, self.asked)
            | "ByKey" >> Gather("match/codes")
            | "Search" >> beam.FlatMap(search, self.config, self.asked)
            | "ByShard" >> Gather("match/candidates")
            | "WriteCandidates" >> beam.Map(write_candidates, self.layout, self.part.step)
        )


def code_blocks(
    shard: Shard, layout: RunLayout, config: PipelineConfig, part: Pass, asked: Asked
) -> Iterator[tuple[Key, bytes]]:
    """A shard's codes, one block for each band range and coarse cell that it meets in this pass.

    Of a reference only those that meet a query's key, where the queries' keys are known.
    """
    keys = read_asked_keys(layout) if asked.across and not asked.is_newer(shard) else None
    if config.bands.enabled:
        yield from _band_blocks(shard, layout, config, part, keys)
    if config.cells.enabled:
        yield from _cell_blocks(shard, layout, config, part, keys)


def _band_blocks(
    shard: Shard, layout: RunLayout, config: PipelineConfig, part: Pass, keys: AskedKeys | None
) -> Iterator[tuple[Key, bytes]]:
    records = signatures(layout, shard, class_members(layout, shard), config)
    positions = band_positions(config.bands)
    for band in range(config.bands.bands):
        wanted = [r for r in range(part.ranges) if part.takes(band * part.ranges + r)]
        if not wanted or not len(records):
            continue
        values = band_values(records["pdq"], positions[band])
        met = np.ones(len(records), dtype=bool) if keys is None else keys.meets(records, band, values)
        for number in wanted:
            chosen = met & (values % part.ranges == number)
            for block in portions(records[chosen], SIGNATURE.itemsize):
                yield ("band", band, number), block.tobytes()


def _cell_blocks(
    shard: Shard, layout: RunLayout, config: PipelineConfig, part: Pass, keys: AskedKeys | None
) -> Iterator[tuple[Key, bytes]]:
    cells = read_cells(layout.centroids())
    regions = vector_regions(layout, shard, class_members(layout, shard))
    device = search_device(config.cells)
    coarse = assign_coarse(regions.vectors, cells, config.cells.coarse_probes, device)
    codes = encode(regions.vectors, regions.nodes, regions.flags, cells)
    for cell in np.unique(coarse):
        if part.takes(int(cell)) and (keys is None or cell in keys.cells):
            mine = codes[(coarse == cell).any(axis=1)]
            for block in portions(mine, codes.dtype.itemsize):
                yield ("cell", int(cell), cells.code_dimensions), block.tobytes()


def search(
    keyed: tuple[Key, Iterable[bytes]], config: PipelineConfig, asked: Asked
) -> Iterator[tuple[int, bytes]]:
    """Pairs of one key, by the shard of the smaller node."""
    (kind, number, dimensions), blocks = keyed
    if kind == "band":
        records = unpack(blocks, SIGNATURE)
        pairs = search_band(records, number, config.bands, asked)
    else:
        records = unpack(blocks, code_dtype(dimensions))
        pairs = search_cell(records, config.cells, asked)
    distribution(f"match/{kind}_size").update(len(records))
    counter(f"match/{kind}_pairs").inc(len(pairs))
    yield from by_shard(pairs, "a")


def write_candidates(keyed: tuple[int, Iterable[bytes]], layout: RunLayout, step: str) -> None:
    """Writes one shard's candidate pairs of this pass."""
    WorkFiles(layout).write(step, keyed[0], unique_pairs(unpack(keyed[1], PAIR)))
