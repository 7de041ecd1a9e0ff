"""Candidate pairs from embeddings: two levels of spherical cells, each fine cell searched exactly.

A vector goes to its `coarse_probes` nearest coarse centroids (trained once by FAISS k-means on a sample, kept as a
file) and, inside each, to its `fine_probes` nearest fine cells, whose seeds are members picked by a fixed hash. Several
probes on both levels let a pair on a border still meet. The cost a vector is about
coarse_probes * fine_probes^2 * cell_size comparisons, whatever the number of vectors, plus sqrt(N) for the coarse
assignment, so N^1.5 only past 10^9 vectors and near N before.

Vectors pass the shuffle as int8 codes of their leading principal components. The part that the code leaves out has
norm `residual`, and by Cauchy-Schwarz cos(x, y) <= code(x).code(y) + residual(x) residual(y): screening by that bound
loses no pair to the reduction; what passes is scored again from the stored vectors.

`cells.device` moves the work, not the result. FAISS on a GPU trains the centroids, which then differ from the CPU's in
their last bits: they are kept as a file, which says where it was trained, and all else follows from the file. With the
same file the pairs are the same, bit for bit: coarse cells are settled in float64 where float32 leaves them in doubt,
and the products of codes are exact (`neighbors/blocks.py`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors.blocks import CodeBlocks, code_blocks
from onceseen.neighbors.device import faiss_gpu, require_faiss, search_device
from onceseen.neighbors.packing import ALL_PAIRS, PAIR, VIEW_FLAG, Asked, Records, code_dtype, mix64

CODE_DIMENSIONS = 224
_ASSIGN_BLOCK = 1024
_ASSIGN_DOUBT = 1e-3
"""Cosines nearer to each other than this are compared again in float64: float32 errs by 1e-6, TF32 by under 2e-4."""
_MAX_DEPTH = 6
_GPU_LOCK = threading.Lock()
"""Threads of one process take turns on its GPU, so that one coarse cell is in its memory."""


@dataclass(frozen=True, slots=True)
class Cells:
    """The coarse level.

    Attributes:
        centroids: (k, d) float32, rows unit L2.
        components: (d, c) float32, orthonormal columns: leading directions of the sample, for codes; c <= 224.
        trained_on: `cpu` or `cuda`; empty: not known.
    """

    centroids: NDArray[np.float32]
    components: NDArray[np.float32]
    trained_on: str = ""

    @property
    def code_dimensions(self) -> int:
        """c, the number of int8 values in a code."""
        return int(self.components.shape[1])


def coarse_count(vectors: int, config: CellsConfig) -> int:
    """Number of coarse cells for so many vectors: the square root of the number of fine cells."""
    return max(1, round(math.sqrt(vectors * config.coarse_probes / (config.cell_size * 4))))


def train_cells(sample: NDArray[np.float32], vectors: int, config: CellsConfig) -> Cells:
    """Trains the coarse level on a sample, on one thread or on a GPU.

    On the CPU the centroids are the same bits every time; on a GPU their last bits depend on its model and on FAISS's
    kernels. The cost is 2 n k d flops an iteration: a second for a million vectors, minutes from 10^9 on, and only
    there does a GPU pay.

    Args:
        sample: (n, d) float32, rows unit L2.
        vectors: Number of vectors in all, which sets the number of cells.
        config: Iterations, seed and device.

    Raises:
        RuntimeError: If FAISS is not installed.
        ValueError: If the sample is empty, or `cells.device` is not there.
    """
    if len(sample) == 0:
        raise ValueError("no vectors to train cells on: every picture failed or is blank")
    faiss = require_faiss()
    device = search_device(config)
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
                gpu=1 if device == "cuda" else False,  # how many GPUs
            )
            kmeans.train(sample)
            centroids = kmeans.centroids
    finally:
        faiss.omp_set_num_threads(threads)
    return Cells(_unit(np.asarray(centroids, dtype=np.float32)), _components(sample), device)


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


def assign_coarse(
    vectors: NDArray[np.float32], cells: Cells, probes: int, device: str = "cpu"
) -> NDArray[np.int64]:
    """Nearest coarse cells of each vector, the same on every device.

    FAISS finds the nearest in float32. Where the last one taken and the first one left are within `_ASSIGN_DOUBT`,
    rounding may have swapped them: such vectors, a few in a hundred, are compared with all centroids in float64.

    Args:
        vectors: (n, d) float32, rows unit L2.
        cells: The coarse level.
        probes: Cells a vector.
        device: `cpu` or `cuda`, as `search_device` says.

    Returns:
        (n, min(probes, k)) int64, ascending. Computed in fixed blocks, so rows do not depend on the runner.
    """
    probes = min(probes, len(cells.centroids))
    wide = cells.centroids.astype(np.float64)
    out = np.empty((len(vectors), probes), dtype=np.int64)
    for start in range(0, len(vectors), _ASSIGN_BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _ASSIGN_BLOCK])
        cosine, found = _nearest(block, cells.centroids, min(probes + 1, len(wide)), device)
        chosen = found[:, :probes]
        if probes < len(wide):
            doubtful = np.flatnonzero(cosine[:, probes - 1] - cosine[:, probes] < _ASSIGN_DOUBT)
            exact = np.round(block[doubtful].astype(np.float64) @ wide.T, 9)
            chosen[doubtful] = np.argsort(-exact, axis=1, kind="stable")[:, :probes]
        out[start : start + len(block)] = np.sort(chosen, axis=1)
    return out


def _nearest(
    queries: NDArray[np.float32], base: NDArray[np.float32], count: int, device: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(cosines, indices) of the nearest, by FAISS; nearest first."""
    faiss = require_faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if device == "cpu":
        found = faiss.knn(queries, base, count, metric=metric)
    else:
        with _GPU_LOCK:
            found = faiss.knn_gpu(faiss_gpu(), queries, base, count, metric=metric)
    return found[0], found[1]


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


def search_cell(records: Records, config: CellsConfig, asked: Asked = ALL_PAIRS) -> Records:
    """Candidate pairs within one coarse cell.

    Args:
        records: Array of `code_dtype(c)`, any order.
        config: Cell sizes, probes, the least cosine and the device.
        asked: Which pairs.

    Returns:
        `PAIR` array of distinct nodes whose cosine may reach `min_cosine`: each vector with at most `neighbors`
        others of each fine cell. Time O(n * fine_probes^2 * cell_size * c). The same on every device.

    Raises:
        ValueError: If `cells.device` is not there.
    """
    device = search_device(config)
    ordered = records[np.lexsort((records["flags"] & VIEW_FLAG, records["node"]))]
    if not len(ordered) or ordered["node"][-1] < asked.since:
        return np.empty(0, dtype=PAIR)
    if device == "cpu":
        return _search(ordered, code_blocks(ordered, device), config, asked)
    with _GPU_LOCK:
        return _search(ordered, code_blocks(ordered, device), config, asked)


def _search(ordered: Records, blocks: CodeBlocks, config: CellsConfig, asked: Asked) -> Records:
    cells = _fine_cells(ordered, blocks, np.arange(len(ordered)), config, 0)
    return blocks.near_pairs(cells, config, asked)


def _fine_cells(
    records: Records, blocks: CodeBlocks, members: NDArray[np.int64], config: CellsConfig, depth: int
) -> Iterator[NDArray[np.int64]]:
    """Ascending index arrays of fine cells, each at most `max_cell` long."""
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
    nearest = blocks.nearest_seeds(members, seeds, min(config.fine_probes if depth == 0 else 2, count))
    cell = nearest.T.ravel()
    order = np.argsort(cell, kind="stable")
    cuts = np.flatnonzero(np.diff(cell[order])) + 1
    for part in np.split(order % len(members), cuts):
        if len(part) > 1:
            yield from _fine_cells(records, blocks, members[np.sort(part)], config, depth + 1)
