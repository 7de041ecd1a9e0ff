"""Which bands and cells a scan's queries meet: of the reference, nothing else passes the shuffle.

A few queries against a large reference then move little of it: its features are read, and of some 3 KB of codes a
picture only those are sent whose key a query has.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import PipelineConfig
from onceseen.core.files import join, read_bytes_if_there, write_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.match.classes import class_members
from onceseen.neighbors.bands import band_positions, band_values
from onceseen.neighbors.cells import Cells, assign_coarse
from onceseen.neighbors.device import search_device
from onceseen.neighbors.packing import MIRRORED_FLAG, Records
from onceseen.neighbors.regions import signatures, vector_regions

MOST_QUERIES = 500_000
"""Above so many regions nearly every key is met, and the keys would not be small."""


@dataclass(frozen=True, slots=True)
class AskedKeys:
    """The keys of all queries.

    Attributes:
        values: For each band the values that queries have, (n,) uint32 ascending.
        cells: Coarse cells that queries are sent to, (m,) int64 ascending.
    """

    values: tuple[NDArray[np.uint32], ...]
    cells: NDArray[np.int64]

    def meets(self, records: Records, band: int, values: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which signatures share a band's value with a query; mirrored ones are left to the queries' own."""
        straight = records["flags"] & MIRRORED_FLAG == 0
        return np.asarray(straight & np.isin(values, self.values[band]), dtype=bool)

    def share_of_values(self, bits: int) -> float:
        """About which share of a reference's signatures meets a query in one band, twice over: values are uneven."""
        most = max((len(values) for values in self.values), default=0)
        return float(min(1.0, 4 * most / 2**bits))


def write_asked_keys(
    layout: RunLayout, queries: Sequence[Shard], config: PipelineConfig, cells: Cells | None
) -> AskedKeys:
    """Gathers the keys of the queries in this process: at most `MOST_QUERIES` regions, 128 bytes each in bands.

    Args:
        layout: The scan.
        queries: Its query shards.
        config: Sections bands and cells are used.
        cells: The coarse cells; None where embeddings are not searched.
    """
    found: list[list[NDArray[np.uint32]]] = [[] for _ in range(config.bands.bands)]
    met: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    positions = band_positions(config.bands)
    for shard in queries:
        members = class_members(layout, shard)
        if config.bands.enabled:
            values = band_values(signatures(layout, shard, members, config)["pdq"], positions)
            for band in range(config.bands.bands):
                found[band].append(np.unique(values[:, band]))
        if cells is not None:
            regions = vector_regions(layout, shard, members)
            device = search_device(config.cells)
            met.append(np.unique(assign_coarse(regions.vectors, cells, config.cells.coarse_probes, device)))
    empty = np.empty(0, dtype=np.uint32)
    bands = [np.unique(np.concatenate([empty, *parts])) for parts in found]
    keys = AskedKeys(tuple(bands), np.unique(np.concatenate(met)))
    buffer = io.BytesIO()
    ends = np.cumsum([len(b) for b in bands])
    np.savez(buffer, values=np.concatenate([empty, *bands]), ends=ends, cells=keys.cells)
    write_bytes(_path(layout), buffer.getvalue())
    return keys


def read_asked_keys(layout: RunLayout) -> AskedKeys | None:
    """The keys, or None where all are asked for."""
    data = read_bytes_if_there(_path(layout))
    if data is None:
        return None
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        values = np.split(stored["values"], stored["ends"][:-1])
        return AskedKeys(tuple(values), stored["cells"])


def _path(layout: RunLayout) -> str:
    return join(layout.work_dir(), "asked_keys.npz")
