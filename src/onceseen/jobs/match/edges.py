"""Edges of the duplicate graph: verified pairs of class heads, streamed from judged files; a person's word on top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onceseen.clusters import Edge
from onceseen.core.config import VerifyConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import Crawls, PairKind, crawl_of, node_shard
from onceseen.jobs.decisions import Decisions
from onceseen.jobs.match.classes import STEP as STARS
from onceseen.jobs.match.judged import read_judged
from onceseen.jobs.match.work import WorkFiles
from onceseen.neighbors.packing import STAR, Records

EDGE = np.dtype(
    [
        ("root", "<i8"),
        ("a", "<i8"),
        ("b", "<i8"),
        ("kind", "u1"),
        ("score", "<f4"),
        ("coverage_a", "<f4"),
        ("coverage_b", "<f4"),
        ("foreign_a", "<f4"),
        ("foreign_b", "<f4"),
        ("doubtful", "?"),
    ]
)
"""A verified or doubtful pair, a < b: 46 bytes."""

KINDS = tuple(PairKind)
_COLUMNS = [
    "node_a",
    "node_b",
    "kind",
    "score",
    "verified",
    "coverage_a",
    "coverage_b",
    "foreign_a",
    "foreign_b",
    "doubtful",
]


def star_edges(
    layout: RunLayout, number: int, decisions: Decisions
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Members and heads of the exact classes, by the member's shard."""
    stars = star_rows(layout, number, decisions)
    yield stars["node"], stars["head"]


def star_rows(layout: RunLayout, number: int, decisions: Decisions) -> Records:
    """Star rows of one shard, without the samples that a person set apart."""
    stars = WorkFiles(layout).read(STARS, number, STAR)
    return stars[~np.isin(stars["node"], sorted(decisions.apart))] if decisions.apart else stars


def shard_edges(layout: RunLayout, rounds: Sequence[str], number: int, decisions: Decisions) -> Records:
    """Verified and doubtful pairs judged in one shard (that of the larger node), `root` not set.

    Returns:
        Array of `EDGE`, by (a, b).
    """
    said = [pair for pair in decisions.same if node_shard(pair[1]) == number]
    return edges_of(read_judged(layout, rounds, number, _COLUMNS), decisions, said)


def edges_of(judged: pa.Table, decisions: Decisions, said: Sequence[tuple[int, int]]) -> Records:
    """Verified and doubtful pairs of a table as edges, with a person's word on top; `root` is not set.

    Args:
        judged: Columns of judged pairs between heads of exact classes.
        decisions: A person's words.
        said: Which of the pairs said to be the same belong here.

    Returns:
        Array of `EDGE`, by (a, b).
    """
    edges = _edge_records(judged)
    if decisions.different or said:
        refused = decisions.different | set(said)
        keep = [(a, b) not in refused for a, b in zip(edges["a"].tolist(), edges["b"].tolist(), strict=True)]
        edges = np.concatenate([edges[np.array(keep, dtype=bool)], _said_same(said)])
    return edges[np.lexsort((edges["b"], edges["a"]))]


def _edge_records(table: pa.Table) -> Records:
    table = table.filter(pc.or_(table["verified"], table["doubtful"]))
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in _COLUMNS}
    edges = np.zeros(len(table), dtype=EDGE)
    turned = columns["node_a"] > columns["node_b"]
    for name in ("node", "coverage", "foreign"):
        target = ("a", "b") if name == "node" else (f"{name}_a", f"{name}_b")
        first, second = columns[f"{name}_a"], columns[f"{name}_b"]
        edges[target[0]] = np.where(turned, second, first)
        edges[target[1]] = np.where(turned, first, second)
    edges["score"], edges["doubtful"] = columns["score"], columns["doubtful"]
    edges["kind"] = [KINDS.index(PairKind(kind)) for kind in columns["kind"]]
    return edges


def _said_same(pairs: Sequence[tuple[int, int]]) -> Records:
    """A person's `same` as an edge by which either may be dropped for the other."""
    edges = np.zeros(len(pairs), dtype=EDGE)
    edges["a"], edges["b"] = [a for a, _ in pairs], [b for _, b in pairs]
    edges["kind"], edges["score"] = KINDS.index(PairKind.DECISION), 1.0
    edges["coverage_a"] = edges["coverage_b"] = 1.0
    return edges


def droppable_edges(edges: Records, verify: VerifyConfig) -> list[Edge]:
    """Edges with what they allow: x may go for y where nearly all of x is in y and y is not mostly something else."""
    out = []
    for e in edges:
        a, b = float(e["coverage_a"]), float(e["coverage_b"])
        out.append(
            Edge(
                int(e["a"]),
                int(e["b"]),
                str(KINDS[e["kind"]]),
                round(float(e["score"]), 6),
                a >= verify.min_coverage and b >= verify.min_kept_coverage,
                b >= verify.min_coverage and a >= verify.min_kept_coverage,
            )
        )
    return out


def flaws(records: Records, edges: Sequence[Edge], crawls: Crawls = ()) -> dict[int, float]:
    """Mean flaw of each node over the edges by which one of the two may be dropped.

    A collage's edges allow no drop and do not count. The mean keeps one bad pair from deciding. Pictures of an older
    crawl are measured against each other alone, so that nothing new changes their order.

    Args:
        records: Array of `EDGE`.
        edges: The same, by `droppable_edges`.
        crawls: What is newer than a picture does not count for it.
    """
    total: dict[int, float] = {}
    count: dict[int, int] = {}
    for record, edge in zip(records, edges, strict=True):
        if not (edge.a_droppable or edge.b_droppable):
            continue
        covered, foreign = (
            (float(record[f"{name}_a"]), float(record[f"{name}_b"])) for name in ("coverage", "foreign")
        )
        for node, mine, other in ((edge.a, 0, 1), (edge.b, 1, 0)):
            if crawls and crawl_of(node, crawls) < crawl_of(max(edge.a, edge.b), crawls):
                continue
            flaw = pair_flaw(covered[mine], covered[other], foreign[mine])
            total[node] = total.get(node, 0.0) + flaw
            count[node] = count.get(node, 0) + 1
    return {node: total[node] / count[node] for node in total}


def pair_flaw(coverage: float, other_coverage: float, foreign: float) -> float:
    """What one picture of a pair has too much or too little, as a share of its area or of the other's content.

    Too little: content of the other that it does not show while the other shows all of its own (it is a crop). Too
    much: what is foreign in it (borders, overlays) beyond content that the other has cropped away, which is no flaw.

    Args:
        coverage: Share of its content that is in the other.
        other_coverage: Share of the other's content that is in it.
        foreign: Share of its area that is not in the other.

    >>> [round(pair_flaw(*x), 2) for x in [(1, 0.9, 0), (0.9, 1, 0.1), (1, 1, 0.3), (0.9, 0.9, 0.1), (0.9, 0.9, 0)]]
    [0.1, 0.0, 0.3, 0.1, 0.0]
    """
    return max(0.0, coverage - other_coverage) + max(0.0, foreign - max(0.0, other_coverage - coverage))
