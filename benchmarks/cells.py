"""Cell search: time, recall against exact search and comparisons, at several sizes, on one thread.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/cells.py [--sizes 30000,100000] [--probes 2x2,3x3]

Vectors lie around 2,000 topics; a fifth of them are near-duplicates (cosine about 0.98) of others. Recall is that of
the planted pairs at cosine 0.85. `exponent` is the slope of log time over log n: near 1 is what the design asks for.
`exact` searches the smallest size by FAISS's brute force in the same run, for the ratio. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors.cells import assign_coarse, encode, search_cell, train_cells
from onceseen.neighbors.device import require_faiss

COSINE = 0.85


def planted(count: int, dimensions: int) -> NDArray[np.float32]:
    """(count, d) float32, unit rows; row i < count // 5 is a near-duplicate of row i + count // 5."""
    rng = np.random.default_rng(0)
    pairs = count // 5
    topics = rng.standard_normal((2000, dimensions)).astype(np.float32)
    x = topics[rng.integers(2000, size=count)] * 0.7 + rng.standard_normal((count, dimensions)).astype(
        np.float32
    )
    noise = rng.standard_normal((pairs, dimensions)).astype(np.float32)
    x[:pairs] = x[pairs : 2 * pairs] + 0.25 * noise
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), dtype=np.float32)


def search(x: NDArray[np.float32], config: CellsConfig) -> dict[str, object]:
    """One search of all vectors."""
    count, pairs = len(x), len(x) // 5
    started = time.perf_counter()
    sample = x[np.random.default_rng(1).permutation(count)[: config.train_samples]]
    cells = train_cells(sample, count, config)
    coarse = assign_coarse(x, cells, config.coarse_probes)
    codes = encode(x, np.arange(count, dtype=np.int64), np.zeros(count, dtype=np.uint8), cells)
    found = np.zeros(pairs, dtype=bool)
    candidates = 0
    for cell in range(len(cells.centroids)):
        hits = search_cell(codes[(coarse == cell).any(axis=1)], config)
        candidates += len(hits)
        ok = (hits["b"] - hits["a"] == pairs) & (hits["a"] < pairs)
        found[hits["a"][ok]] = True
    return {
        "n": count,
        "probes": f"{config.coarse_probes}x{config.fine_probes}",
        "coarse_cells": len(cells.centroids),
        "code_bytes": codes.dtype.itemsize,
        "seconds": round(time.perf_counter() - started, 2),
        "recall": round(float(found.mean()), 4),
        "candidates_per_vector": round(candidates / count, 2),
    }


def exact_seconds(x: NDArray[np.float32]) -> float:
    """FAISS's exact search of every vector, 64 neighbours each."""
    faiss = require_faiss()
    started = time.perf_counter()
    faiss.knn(x, x, 64, metric=faiss.METRIC_INNER_PRODUCT)
    return time.perf_counter() - started


def main() -> None:
    """Runs all sizes and prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="30000,100000")
    parser.add_argument("--probes", default="2x2,3x2,3x3")
    parser.add_argument("--dimensions", type=int, default=512)
    args = parser.parse_args()
    require_faiss().omp_set_num_threads(1)
    sizes = [int(float(s)) for s in args.sizes.split(",")]
    rows = []
    for size in sizes:
        x = planted(size, args.dimensions)
        for probes in args.probes.split(","):
            coarse, fine = (int(p) for p in probes.split("x"))
            rows.append(search(x, CellsConfig(coarse_probes=coarse, fine_probes=fine, min_cosine=COSINE)))
    exponents = {}
    for probes in args.probes.split(","):
        mine = [r for r in rows if r["probes"] == probes]
        if len(mine) > 1:
            slope = np.polyfit(np.log([r["n"] for r in mine]), np.log([r["seconds"] for r in mine]), 1)[0]  # type: ignore[arg-type]
            exponents[probes] = round(float(slope), 2)
    exact = exact_seconds(planted(min(sizes), args.dimensions))
    result = {
        "benchmark": "cells",
        "cosine": COSINE,
        "rows": rows,
        "exponent": exponents,
        "exact_seconds_at_smallest": round(exact, 2),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
