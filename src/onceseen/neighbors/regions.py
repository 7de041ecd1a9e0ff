"""What is compared of one shard: the heads of exact classes that are not blank, whole and trimmed.

A region is a whole picture or its trimmed view; both carry the picture's node, so a letterboxed copy meets its
original through its trimmed view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import PipelineConfig
from onceseen.core.features import fixed_bytes, node_ids, read_features, status_ok, vectors, view_vectors
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, node_row
from onceseen.neighbors.packing import MIRRORED_FLAG, SIGNATURE, VIEW_FLAG, Records

_PDQ_COLUMNS = ["pdq", "pdq_mirrored", "pdq_quality", "views"]
_VECTOR_COLUMNS = ["embedding", "view_embeddings"]


@dataclass(frozen=True, slots=True)
class VectorRegions:
    """Embedded regions of one shard.

    Attributes:
        nodes: (n,) int64.
        flags: (n,) uint8: 0 for whole pictures, `VIEW_FLAG` for views.
        vectors: (n, d) float32, rows unit L2.
    """

    nodes: NDArray[np.int64]
    flags: NDArray[np.uint8]
    vectors: NDArray[np.float32]


def compared_rows(layout: RunLayout, shard: Shard, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of a shard that go to candidate search: judged, not blank, heads of their class.

    Args:
        layout: The run.
        shard: The shard.
        members: Nodes that belong to another's exact class.
    """
    table = read_features(layout, shard, ["status", "blank"])
    blank = table.column("blank").fill_null(True).to_numpy(zero_copy_only=False)
    compared = status_ok(table) & ~blank.astype(bool)
    compared[node_row(members)] = False
    return np.flatnonzero(compared)


def vector_regions(layout: RunLayout, shard: Shard, members: NDArray[np.int64]) -> VectorRegions:
    """Embeddings of a shard's compared rows (see `compared_rows`), whole pictures first, then views."""
    rows = compared_rows(layout, shard, members)
    table = read_features(layout, shard, _VECTOR_COLUMNS)
    nodes = node_ids(shard, len(table))[rows]
    table = table.take(rows)
    whole = vectors(table)
    views = view_vectors(table, whole.shape[1])
    counts = np.array([len(v) for v in views], dtype=np.int64)
    stacked = np.concatenate([whole, *views]) if len(views) else whole
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    flags = np.zeros(len(stacked), dtype=np.uint8)
    flags[len(whole) :] = VIEW_FLAG
    return VectorRegions(
        np.concatenate([nodes, np.repeat(nodes, counts)]),
        flags,
        np.asarray(stacked / np.where(norms > 0, norms, 1), dtype=np.float32),
    )


def signatures(
    layout: RunLayout, shard: Shard, members: NDArray[np.int64], config: PipelineConfig
) -> Records:
    """PDQ signatures of a shard's compared rows: whole and trimmed, straight and (if asked) mirrored.

    Those under the least quality are left out: their bits are noise.

    Returns:
        Array of `SIGNATURE`.
    """
    rows = compared_rows(layout, shard, members)
    table = read_features(layout, shard, _PDQ_COLUMNS)
    nodes = node_ids(shard, len(table))[rows]
    table = table.take(rows)
    found = [
        (nodes, fixed_bytes(table, "pdq", 32), fixed_bytes(table, "pdq_mirrored", 32), 0),
    ]
    quality = [np.asarray(table.column("pdq_quality").to_numpy(zero_copy_only=False), dtype=np.int64)]
    views = [
        (node, view)
        for node, views in zip(nodes, table.column("views").to_pylist(), strict=True)
        for view in views or []
    ]
    if views:
        straight, turned = (
            np.stack([np.frombuffer(view[name], dtype=np.uint8) for _, view in views])
            for name in ("pdq", "pdq_mirrored")
        )
        found.append((np.array([node for node, _ in views], dtype=np.int64), straight, turned, VIEW_FLAG))
        quality.append(np.array([view["pdq_quality"] for _, view in views], dtype=np.int64))
    parts = []
    for (node, straight, turned, flag), good in zip(found, quality, strict=True):
        enough = good >= config.fingerprint.min_pdq_quality
        parts.append(_signature(node[enough], straight[enough], flag))
        if config.bands.mirrored:
            parts.append(_signature(node[enough], turned[enough], flag | MIRRORED_FLAG))
    return np.concatenate(parts)


def _signature(nodes: NDArray[np.int64], pdq: NDArray[np.uint8], flags: int) -> Records:
    out = np.empty(len(nodes), dtype=SIGNATURE)
    out["node"], out["flags"], out["pdq"] = nodes, flags, pdq
    return out
