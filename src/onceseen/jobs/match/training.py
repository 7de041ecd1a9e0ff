"""Step 2 of match: the coarse cells, trained in the launching process on a deterministic sample, kept as a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.match.classes import class_members
from onceseen.neighbors.cells import Cells, train_cells
from onceseen.neighbors.cells_file import read_cells, write_cells
from onceseen.neighbors.packing import mix64
from onceseen.neighbors.regions import VectorRegions, vector_regions

_log = logging.getLogger(__name__)


def make_cells(layout: RunLayout, shards: Sequence[Shard], pictures: int, config: CellsConfig) -> Cells:
    """Trains the cells, or reads those of `cells.centroids`, and keeps them beside the run.

    Args:
        layout: The run.
        shards: All shards.
        pictures: Judged pictures in all, which set the number of cells.
        config: Sample size, seed and device.

    Raises:
        ValueError: If `cells.centroids` is not a file of cells of the embeddings' dimension, or `cells.device` is not
            there.
    """
    if config.centroids:
        cells = read_cells(config.centroids)
        width = _vectors(layout, shards[0]).vectors.shape[1] if shards else cells.centroids.shape[1]
        if width != cells.centroids.shape[1]:
            raise ValueError(
                f"cells.centroids {config.centroids} has {cells.centroids.shape[1]} dimensions, the embeddings "
                f"have {width}: it was trained with another model"
            )
    else:
        sample, _ = sample_vectors(layout, shards, config.train_samples, config.seed)
        cells = train_cells(sample, pictures, config)
    write_cells(layout.centroids(), cells)
    _log.info(
        "cells: %d coarse, trained on %s, codes of %d bytes",
        len(cells.centroids),
        cells.trained_on or "an unknown device",
        cells.code_dimensions,
    )
    return cells


def sample_vectors(
    layout: RunLayout, shards: Sequence[Shard], size: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """A deterministic sample of whole-picture embeddings: the smallest hashes of node ids.

    Shards are read in a hashed order until four times the size has been seen, so the cost does not grow with the set.

    Returns:
        ((n, d) float32, (n,) int64 nodes), by node.
    """
    numbers = np.array([s.number for s in shards], dtype=np.int64)
    kept: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    seen = 0
    for index in np.argsort(mix64(numbers, seed), kind="stable"):
        regions = _vectors(layout, shards[int(index)])
        whole = regions.flags == 0
        kept.append((regions.vectors[whole], regions.nodes[whole]))
        seen += int(whole.sum())
        if seen >= 4 * size:
            break
    vectors = np.concatenate([v for v, _ in kept]) if kept else np.empty((0, 1), dtype=np.float32)
    nodes = np.concatenate([n for _, n in kept]) if kept else np.empty(0, dtype=np.int64)
    chosen = np.argsort(mix64(nodes, seed), kind="stable")[:size]
    chosen = chosen[np.argsort(nodes[chosen], kind="stable")]
    return np.ascontiguousarray(vectors[chosen]), nodes[chosen]


def _vectors(layout: RunLayout, shard: Shard) -> VectorRegions:
    return vector_regions(layout, shard, class_members(layout, shard))
