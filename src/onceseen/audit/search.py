"""Nearest training pictures by thumbs: which are worth reading, for a generation among all of a training set.

A probe is the stored 64 x 64 grey thumb at 16 x 16. Copies of one picture must not be each other's second-nearest, so
the search gives the nearest picture of each *component* (pictures that the deduplication connected), best first.

What is found travels as packed `NEAR` records. `best_components` keeps the best of any blocks of them: taken block by
block, in any order and grouping, the result is the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onceseen.core.schemas import THUMB_SIDE

PROBE_SIDE = 16
PROBE_VALUES = PROBE_SIDE * PROBE_SIDE

NEAR = np.dtype([("owner", "<u8"), ("component", "<u8"), ("node", "<i8"), ("rank", "<i8")])
"""A component's picture for an owner (a probe): the smallest rank is best, then the smallest node. 32 bytes."""

_ROWS = 256
"""Probes at a time: their distances to a shard's pictures are held at 12 bytes each."""

_ROW_BITS = 32


def probes_of(thumbs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thumbs averaged to probes.

    Args:
        thumbs: (n, 64, 64) uint8.

    Returns:
        (n, 256) uint8, rounded half up.
    """
    each = THUMB_SIDE // PROBE_SIDE
    cells = thumbs.reshape(len(thumbs), PROBE_SIDE, each, PROBE_SIDE, each)
    sums = cells.sum(axis=(2, 4), dtype=np.uint32)
    means = (sums + each * each // 2) // (each * each)
    return np.asarray(means.reshape(len(thumbs), PROBE_VALUES), dtype=np.uint8)


def nearest_components(
    probes: NDArray[np.uint8],
    owners: NDArray[np.uint64],
    pictures: NDArray[np.uint8],
    components: NDArray[np.uint64],
    nodes: NDArray[np.int64],
    most: int,
) -> NDArray[np.void]:
    """The nearest picture of each of a probe's nearest components, among the pictures of one shard.

    Squared distances are integers under 2^24 and computed exactly, so the answer is one on every BLAS.

    Args:
        probes: (n, 256) uint8.
        owners: (n,) uint64, each once.
        pictures: (m, 256) uint8 probes of the pictures to search.
        components: (m,) uint64.
        nodes: (m,) int64, of one shard, each once.
        most: Components a probe.

    Returns:
        `NEAR` records, at most n x `most`: rank is the squared distance; by owner, then best first. Cost: 512 n m
        float operations and some 5 ns a distance.
    """
    if not len(probes) or not len(pictures):
        return np.empty(0, dtype=NEAR)
    order = np.lexsort((nodes, components))
    pictures, components, nodes = pictures[order], components[order], nodes[order]
    starts = np.flatnonzero(np.r_[True, components[1:] != components[:-1]])
    columns = _centred(pictures)
    lengths = np.einsum("ij,ij->i", columns, columns, dtype=np.float64)
    places = np.arange(len(nodes), dtype=np.int64)
    by_node = np.empty(len(nodes), dtype=np.int64)
    by_node[np.argsort(nodes)] = places
    back = np.argsort(by_node)
    found = [np.empty(0, dtype=NEAR)]
    for first in range(0, len(probes), _ROWS):
        rows = _centred(probes[first : first + _ROWS])
        squares = lengths - 2.0 * (rows @ columns.T)
        squares += np.einsum("ij,ij->i", rows, rows, dtype=np.float64)[:, None]
        keys = (squares.astype(np.int64) << _ROW_BITS) | by_node  # nearest first, then the smaller node
        best = np.minimum.reduceat(keys, starts, axis=1)
        if best.shape[1] > most:
            best = np.partition(best, most - 1, axis=1)[:, :most]
        best.sort(axis=1)
        chosen = back[best & ((1 << _ROW_BITS) - 1)].ravel()
        records = np.empty(len(chosen), dtype=NEAR)
        records["owner"] = np.repeat(owners[first : first + _ROWS], best.shape[1])
        records["component"], records["node"] = components[chosen], nodes[chosen]
        records["rank"] = best.ravel() >> _ROW_BITS
        found.append(records)
    return best_components(np.concatenate(found), most)


def best_components(records: NDArray[np.void], most: int) -> NDArray[np.void]:
    """The best record of each of an owner's best components.

    Args:
        records: (n,) `NEAR`, in any order.
        most: Components an owner.

    Returns:
        `NEAR` records by owner, then rank, then node. Cost: two sorts.
    """
    ordered = records[np.lexsort((records["node"], records["rank"], records["component"], records["owner"]))]
    same = (ordered["owner"][1:] == ordered["owner"][:-1]) & (
        ordered["component"][1:] == ordered["component"][:-1]
    )
    ordered = ordered[np.r_[True, ~same][: len(ordered)]]
    ordered = ordered[np.lexsort((ordered["node"], ordered["rank"], ordered["owner"]))]
    firsts = np.flatnonzero(np.r_[True, ordered["owner"][1:] != ordered["owner"][:-1]][: len(ordered)])
    sizes = np.diff(np.r_[firsts, len(ordered)])
    places = np.arange(len(ordered)) - np.repeat(firsts, sizes)
    return np.asarray(ordered[places < most])


def _centred(probes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Integers in [-128, 127]: differences stay, and float32 holds every sum of 256 products exactly."""
    return probes.astype(np.float32) - np.float32(128)
