"""Candidate pairs from embeddings: two levels of spherical cells, each fine cell searched exactly.

A vector goes to its `coarse_probes` nearest coarse centroids (trained once by FAISS k-means on a sample, kept as a
file) and, inside each, to its `fine_probes` nearest fine cells, whose seeds are members picked by a fixed hash. Several
probes on both levels let a pair on a border still meet. The cost a vector is about
coarse_probes * fine_probes^2 * cell_size comparisons, whatever the number of vectors, plus sqrt(N) for the coarse
assignment, so N^1.5 only past 10^9 vectors and near N before.

Vectors pass the shuffle as int8 codes of their leading principal components. The part that the code leaves out has
norm `residual`, and by Cauchy-Schwarz cos(x, y) <= code(x).code(y) + residual(x) residual(y): screening by that bound
loses no pair to the reduction; what passes is scored again from the stored vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors.packing import PAIR, VIEW_FLAG, Records, code_dtype, mix64, pair_records, unique_pairs

CODE_DIMENSIONS = 224
ROUNDING = 0.02
"""What int8 rounding can add to or take from a cosine (measured: under 0.008 at 224 dimensions)."""
_ASSIGN_BLOCK = 1024
_SEARCH_BLOCK = 1024
_MAX_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Cells:
    """The coarse level.

    Attributes:
        centroids: (k, d) float32, rows unit L2.
        components: (d, c) float32, orthonormal columns: leading directions of the sample, for codes; c <= 224.
    """

    centroids: NDArray[np.float32]
    components: NDArray[np.float32]

    @property
    def code_dimensions(self) -> int:
        """c, the number of int8 values in a code."""
        return int(self.components.shape[1])


def coarse_count(vectors: int, config: CellsConfig) -> int:
    """Number of coarse cells for so many vectors: the square root of the number of fine cells."""
    return max(1, round(math.sqrt(vectors * config.coarse_probes / (config.cell_size * 4))))


def train_cells(sample: NDArray[np.float32], vectors: int, config: CellsConfig) -> Cells:
    """Trains the coarse level on a sample, on one thread, so that it is the same every time.

    Args:
        sample: (n, d) float32, rows unit L2.
        vectors: Number of vectors in all, which sets the number of cells.
        config: Iterations and seed.

    Raises:
        RuntimeError: If FAISS is not installed.
        ValueError: If the sample is empty.
    """
    if len(sample) == 0:
        raise ValueError("no vectors to train cells on: every picture failed or is blank")
    faiss = require_faiss()
    count = min(coarse_count(vectors, config), len(sample))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        if count == 1:
            mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)[None]
            centroids = mean if np.any(mean) else sample[:1]
        else:
            kmeans = faiss.Kmeans(
                sample.shape[1],
                count,
                niter=config.iterations,
                seed=config.seed % 2**31,
                spherical=True,
                min_points_per_centroid=1,
                max_points_per_centroid=max(256, len(sample) // count + 1),
            )
            kmeans.train(sample)
            centroids = kmeans.centroids
    finally:
        faiss.omp_set_num_threads(threads)
    return Cells(_unit(np.asarray(centroids, dtype=np.float32)), _components(sample))


def require_faiss() -> ModuleType:
    """The faiss module.

    Raises:
        RuntimeError: If it is not installed, naming the two extras.
    """
    try:
        import faiss
    except ImportError as error:
        raise RuntimeError(
            "faiss is not installed: pip install 'onceseen[cpu]' (faiss-cpu) or 'onceseen[gpu]' (faiss-gpu), "
            "never both in one environment; or search by hashes only with --config configs/hash-only.yaml"
        ) from error
    return faiss


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1), dtype=np.float32)


def _components(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leading eigenvectors of the second moment (not centred, so inner products are kept)."""
    dimensions = sample.shape[1]
    if dimensions <= CODE_DIMENSIONS:
        return np.eye(dimensions, dtype=np.float32)
    wide = sample.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)
    return np.ascontiguousarray(vectors[:, ::-1][:, :CODE_DIMENSIONS], dtype=np.float32)


def assign_coarse(vectors: NDArray[np.float32], cells: Cells, probes: int) -> NDArray[np.int64]:
    """Nearest coarse cells of each vector.

    Args:
        vectors: (n, d) float32, rows unit L2.
        cells: The coarse level.
        probes: Cells a vector.

    Returns:
        (n, min(probes, k)) int64, nearest first. Computed in fixed blocks, so rows do not depend on the runner.
    """
    faiss = require_faiss()
    probes = min(probes, len(cells.centroids))
    out = np.empty((len(vectors), probes), dtype=np.int64)
    for start in range(0, len(vectors), _ASSIGN_BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _ASSIGN_BLOCK])
        out[start : start + len(block)] = faiss.knn(
            block, cells.centroids, probes, metric=faiss.METRIC_INNER_PRODUCT
        )[1]
    return out


def encode(
    vectors: NDArray[np.float32], nodes: NDArray[np.int64], flags: NDArray[np.uint8], cells: Cells
) -> Records:
    """Int8 codes of vectors.

    Args:
        vectors: (n, d) float32, rows unit L2.
        nodes: (n,) int64.
        flags: (n,) uint8: `VIEW_FLAG` for a trimmed view.
        cells: Holds the components.

    Returns:
        (n,) array of `code_dtype(c)`.
    """
    reduced = vectors @ cells.components
    records = np.zeros(len(vectors), dtype=code_dtype(cells.code_dimensions))
    scale = np.maximum(np.abs(reduced).max(axis=1, initial=0.0), 1e-12) / 127
    records["node"], records["flags"], records["scale"] = nodes, flags, scale
    records["code"] = np.rint(reduced / scale[:, None]).astype(np.int8)
    left_out = 1.0 - np.einsum("ij,ij->i", reduced, reduced, dtype=np.float64)
    # round-off of a full basis is no residual
    records["residual"] = np.where(left_out > 1e-4, np.sqrt(np.maximum(left_out, 0)), 0.0)
    return records


def search_cell(records: Records, config: CellsConfig) -> Records:
    """Candidate pairs within one coarse cell.

    Args:
        records: Array of `code_dtype(c)`, any order.
        config: Cell sizes, probes and the least cosine.

    Returns:
        `PAIR` array of distinct nodes whose cosine may reach `min_cosine`: each vector with at most `neighbors`
        others of each fine cell. Time O(n * fine_probes^2 * cell_size * c).
    """
    ordered = records[np.lexsort((records["flags"] & VIEW_FLAG, records["node"]))]
    vectors = ordered["code"].astype(np.float32) * ordered["scale"][:, None]
    found = [
        _search_exactly(ordered, vectors, members, config)
        for members in _fine_cells(ordered, vectors, np.arange(len(ordered)), config, 0)
    ]
    return unique_pairs(np.concatenate(found)) if found else np.empty(0, dtype=PAIR)


def _fine_cells(
    records: Records,
    vectors: NDArray[np.float32],
    members: NDArray[np.int64],
    config: CellsConfig,
    depth: int,
) -> Iterator[NDArray[np.int64]]:
    """Index arrays of fine cells, each at most `max_cell` long."""
    if len(members) <= config.cell_size or (depth > 0 and len(members) <= config.max_cell):
        yield members
        return
    if depth >= _MAX_DEPTH:  # vectors that no seeds can part: cut in node order, neighbours overlapping
        half = config.max_cell // 2
        for start in range(0, max(1, len(members) - half), half):
            yield members[start : start + config.max_cell]
        return
    count = max(2, len(members) // config.cell_size)
    salted = mix64(records["node"][members] * 4 + records["flags"][members], depth)
    seeds = members[np.argsort(salted, kind="stable")[:count]]
    faiss = require_faiss()
    nearest = faiss.knn(
        np.ascontiguousarray(vectors[members]),
        np.ascontiguousarray(vectors[seeds]),
        min(config.fine_probes if depth == 0 else 2, count),
        metric=faiss.METRIC_INNER_PRODUCT,
    )[1]
    cell = nearest.T.ravel()
    order = np.argsort(cell, kind="stable")
    cuts = np.flatnonzero(np.diff(cell[order])) + 1
    for part in np.split(order % len(members), cuts):
        if len(part) > 1:
            yield from _fine_cells(records, vectors, members[np.sort(part)], config, depth + 1)


def _search_exactly(
    records: Records, vectors: NDArray[np.float32], members: NDArray[np.int64], config: CellsConfig
) -> Records:
    """Pairs of one fine cell whose cosine may reach the least one."""
    part, residual, nodes = vectors[members], records["residual"][members], records["node"][members]
    left: list[NDArray[np.int64]] = []
    right: list[NDArray[np.int64]] = []
    for start in range(0, len(members), _SEARCH_BLOCK):
        block = slice(start, start + _SEARCH_BLOCK)
        bound = part[block] @ part.T
        bound += np.outer(residual[block], residual)
        bound[nodes[block, None] == nodes[None, :]] = -2
        near = bound >= config.min_cosine - ROUNDING
        if len(members) > config.neighbors:
            cut = np.partition(bound, len(members) - config.neighbors, axis=1)[
                :, len(members) - config.neighbors
            ]
            near &= bound >= cut[:, None]
        i, j = np.nonzero(near)
        left.append(nodes[block][i])
        right.append(nodes[j])
    return pair_records(np.concatenate(left), np.concatenate(right))
