"""Embedding codes by fine cell: each region in one cell, a query in the `scan.probes` nearest.

The run's own coarse cells part the work of building, so that one of them is in memory at a time. Inside each, fine
cells are made by a few rounds of spherical k-means on the codes. A query is compared with all fine centres (3,900 for a
million regions, a megabyte each 1,200), then with the codes of the nearest cells by the upper bound of
`onceseen.neighbors.cells`, then with the stored vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.core.files import join
from onceseen.neighbors.blocks import ROUNDING
from onceseen.neighbors.cells import Cells
from onceseen.neighbors.packing import Records, mix64
from onceseen.reference.store import appending, mapped, save

_ROUNDS = 6
_MAX_DEPTH = 6
_ASSIGN_ROWS = 4096
_SPARE = 4
"""Codes rescored for each neighbour that is wanted: a code's bound is near its cosine, not in its order."""


def write_fine_cells(
    directory: str,
    codes: Records,
    coarse: NDArray[np.int32],
    config: CellsConfig,
    step: Callable[[int], object],
) -> None:
    """Writes codes.npy, cells_start.npy and cells_centre.npy.

    Memory: 8 bytes a region, and 5 bytes a code dimension for the regions of the largest coarse cell. Time: about
    n / coarse cells / `cell_size` products a region and round; a minute for a million regions on one core.

    Args:
        directory: The index.
        codes: (n,) codes, mapped; `node` is the region.
        coarse: (n,) nearest coarse cell of each.
        config: Sizes of cells.
        step: Called with the number of regions done.
    """
    order = np.argsort(coarse, kind="stable")
    cuts = np.flatnonzero(np.diff(coarse[order])) + 1
    starts, centres = [0], []
    with appending(join(directory, "codes.npy"), codes.dtype) as file:
        for members in np.split(order, cuts):
            mine = codes[members]  # ascending, so the file is read once forwards
            vectors = _unit(mine["code"].astype(np.float32) * mine["scale"][:, None])
            for cell, centre in _split(vectors, np.arange(len(mine)), mine["node"], config, 0):
                file.append(mine[cell])
                starts.append(file.rows)
                centres.append(centre)
            step(len(members))
    width = codes["code"].shape[1]
    save(directory, "cells_start.npy", np.array(starts, dtype=np.int64))
    save(
        directory,
        "cells_centre.npy",
        np.stack(centres) if centres else np.empty((0, width), dtype=np.float32),
    )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), dtype=np.float32)


def _split(
    vectors: NDArray[np.float32],
    members: NDArray[np.int64],
    regions: NDArray[np.int64],
    config: CellsConfig,
    depth: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Ascending members of fine cells and their centres, each cell at most `max_cell` long."""
    if len(members) <= config.cell_size or (depth > 0 and len(members) <= config.max_cell):
        yield members, _centre(vectors[members])
        return
    count = math.ceil(len(members) / config.cell_size)
    nearest = _cluster(vectors[members], regions[members], count, depth)
    sizes = np.bincount(nearest, minlength=count)
    if depth >= _MAX_DEPTH or sizes.max() == len(members):  # vectors that no centres part
        for start in range(0, len(members), config.max_cell):
            part = members[start : start + config.max_cell]
            yield part, _centre(vectors[part])
        return
    for cell in np.flatnonzero(sizes):
        yield from _split(vectors, members[nearest == cell], regions, config, depth + 1)


def _centre(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(_unit(mean[None])[0], dtype=np.float32)


def _cluster(
    rows: NDArray[np.float32], regions: NDArray[np.int64], count: int, depth: int
) -> NDArray[np.int64]:
    """The nearest of `count` centres for each row, by spherical k-means from seeds picked by a fixed hash."""
    centres = rows[np.argsort(mix64(regions, depth), kind="stable")[:count]]
    nearest = _nearest(rows, centres)
    for _ in range(_ROUNDS):
        order = np.argsort(nearest, kind="stable")
        found, starts = np.unique(nearest[order], return_index=True)
        centres = centres.copy()
        centres[found] = _unit(np.add.reduceat(rows[order], starts, axis=0))
        nearest = _nearest(rows, centres)
    return nearest


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    turned = np.ascontiguousarray(centres.T)
    blocks = range(0, len(rows), _ASSIGN_ROWS)
    return np.concatenate([(rows[s : s + _ASSIGN_ROWS] @ turned).argmax(axis=1) for s in blocks])


@dataclass(frozen=True, slots=True)
class FineCells:
    """The cells of an index, mapped.

    Attributes:
        components: (d, c) float32 directions of the codes.
        codes: (n,) codes by cell.
        starts: (cells + 1,) int64.
        centres: (cells, c) float32, rows unit L2.
        least: Least cosine that is of interest.
    """

    components: NDArray[np.float32]
    codes: Records
    starts: NDArray[np.int64]
    centres: NDArray[np.float32]
    least: float

    @classmethod
    def open(cls, directory: str, cells: Cells, config: CellsConfig) -> FineCells:
        """Maps the three files."""
        codes, starts, centres = (
            mapped(join(directory, f"{name}.npy")) for name in ("codes", "cells_start", "cells_centre")
        )
        return cls(cells.components, codes, starts, centres, config.min_cosine)

    def nearest(self, vector: NDArray[np.float32], probes: int, count: int) -> NDArray[np.int64]:
        """Regions that may be among the `count` nearest of a vector.

        Args:
            vector: (d,) float32, unit L2.
            probes: Cells to search.
            count: Neighbours wanted.

        Returns:
            At most `_SPARE` * count regions, by their bound: nothing below the least cosine is lost to the codes.
            Time: cells * c + probes * `cell_size` * c multiplications; pages: those of the cells searched.
        """
        if not len(self.centres):
            return np.empty(0, dtype=np.int64)
        reduced = vector @ self.components
        residual = math.sqrt(max(0.0, 1.0 - float(reduced @ reduced)))
        near = self.centres @ reduced
        probes = min(probes, len(near))
        cells = np.sort(np.argpartition(-near, probes - 1)[:probes])
        codes = np.concatenate([self.codes[self.starts[c] : self.starts[c + 1]] for c in cells])
        bound = (codes["code"].astype(np.float32) @ reduced) * codes["scale"] + residual * codes["residual"]
        wanted = min(_SPARE * count, len(codes))
        best = np.argpartition(-bound, wanted - 1)[:wanted]
        best = best[bound[best] >= self.least - ROUNDING]
        return np.asarray(codes["node"][best[np.lexsort((codes["node"][best], -bound[best]))]])
