"""Step 7 of match: the pairs table, RUN/pairs/part-<shard number>.parquet, by the shard of a pair's larger node.

Verified pairs, the star rows of exact classes, and unverified candidates: of these each sample keeps the best
`verify.max_unverified`. A pair is listed only where both its samples vote for it, so the bound holds for either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onceseen.core.features import read_features
from onceseen.core.files import write_table
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import PairKind, Shard, node_row
from onceseen.core.schemas import PAIRS
from onceseen.jobs.match.classes import STEP as STARS
from onceseen.jobs.match.judged import read_judged
from onceseen.jobs.match.work import WorkFiles, by_shard, with_number
from onceseen.jobs.shuffles import Measure, Spread
from onceseen.neighbors.packing import PAIR_SCORE, STAR, Records, unpack

Ballot = tuple[str, bytes, list[str]]
"""("near", pairs with scores, []) or ("star", star rows, ids of their heads)."""


@dataclass(eq=False)
class WritePairs(beam.PTransform):
    """Shards to the pairs table. Shuffled: 20 bytes for each side of an unverified pair, 17 and an id a star row."""

    layout: RunLayout
    rounds: tuple[str, ...]
    limit: int

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Lets both samples of every unverified pair vote, names the heads of star rows, writes."""
        spread = shards | "Spread" >> Spread("match/shards")
        numbered = spread | "Number" >> beam.Map(with_number)
        ballots = (
            spread
            | "Ballots" >> beam.FlatMap(ballots_of, self.layout, self.rounds)
            | "Sent" >> Measure("match/ballots")
        )
        votes = (
            {"shard": numbered, "ballots": ballots}
            | "BySample" >> beam.CoGroupByKey()
            | "Vote" >> beam.FlatMap(vote, self.layout, self.limit)
            | "Cast" >> Measure("match/votes")
        )
        return (
            {"shard": numbered, "votes": votes}
            | "ByShard" >> beam.CoGroupByKey()
            | "WritePairs" >> beam.Map(write_pairs, self.layout, self.rounds)
        )


def ballots_of(shard: Shard, layout: RunLayout, rounds: tuple[str, ...]) -> Iterator[tuple[int, Ballot]]:
    """Unverified pairs to the shards of both samples, star rows to the shards of their heads."""
    table = _judged(layout, rounds, shard.number)
    near = table.filter(pc.invert(table["verified"]))
    records = np.empty(len(near), dtype=PAIR_SCORE)
    first, second = (near.column(n).to_numpy(zero_copy_only=False) for n in ("node_a", "node_b"))
    records["a"], records["b"] = np.minimum(first, second), np.maximum(first, second)
    records["score"] = near.column("score").to_numpy(zero_copy_only=False)
    for field in ("a", "b"):
        for number, block in by_shard(records, field):
            yield number, (field, block, [])
    for number, block in by_shard(WorkFiles(layout).read(STARS, shard.number, STAR), "head"):
        yield number, ("star", block, [])


def vote(
    keyed: tuple[int, Mapping[str, Iterable[Any]]], layout: RunLayout, limit: int
) -> Iterator[tuple[int, Ballot]]:
    """One shard's votes: each sample's best unverified pairs, and the ids of its heads."""
    blocks = list(keyed[1]["ballots"])
    for shard in keyed[1]["shard"]:
        stars = unpack((block for kind, block, _ in blocks if kind == "star"), STAR)
        if len(stars):
            ids = read_features(layout, shard, ["sample_id"])["sample_id"].to_pylist()
            for number, block in by_shard(stars, "node", beside=max(map(len, ids))):
                heads = np.frombuffer(block, dtype=STAR)["head"].tolist()
                yield number, ("star", block, [ids[node_row(head)] for head in heads])
        pairs = [unpack((b for kind, b, _ in blocks if kind == field), PAIR_SCORE) for field in ("a", "b")]
        voters = np.concatenate([pairs[0]["a"], pairs[1]["b"]])
        for number, block in by_shard(_best(np.concatenate(pairs), voters, limit), "b"):
            yield number, ("near", block, [])


def _best(pairs: Records, voters: NDArray[np.int64], limit: int) -> Records:
    """Each voter's best pairs: by score, then by nodes."""
    order = np.lexsort((pairs["b"], pairs["a"], -pairs["score"], voters))
    voters = voters[order]
    starts = np.flatnonzero(np.concatenate([[True], voters[1:] != voters[:-1]])) if len(voters) else order
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return pairs[order[rank < limit]]


def write_pairs(
    keyed: tuple[int, Mapping[str, Iterable[Any]]], layout: RunLayout, rounds: tuple[str, ...]
) -> None:
    """Writes the pairs of one shard, by sample ids."""
    blocks = list(keyed[1]["votes"])
    for shard in keyed[1]["shard"]:
        table = _judged(layout, rounds, shard.number)
        votes = unpack((block for kind, block, _ in blocks if kind == "near"), PAIR_SCORE)
        listed = _twice(votes)
        first, second = (table.column(n).to_pylist() for n in ("node_a", "node_b"))
        verified = table.column("verified").to_pylist()
        chosen = [
            v or (min(a, b), max(a, b)) in listed for a, b, v in zip(first, second, verified, strict=True)
        ]
        stars = pa.Table.from_pylist(_star_rows(shard, layout, blocks), schema=PAIRS)
        whole = pa.concat_tables([table.filter(pa.array(chosen, pa.bool_())), stars])
        ordered = whole.sort_by([("sample_id_a", "ascending"), ("sample_id_b", "ascending")])
        write_table(layout.pairs(shard.number), ordered)


def _twice(votes: Records) -> set[tuple[int, int]]:
    """Pairs that got both votes."""
    seen: set[tuple[int, int]] = set()
    both: set[tuple[int, int]] = set()
    for a, b, _ in votes.tolist():
        (both if (a, b) in seen else seen).add((a, b))
    return both


def _star_rows(shard: Shard, layout: RunLayout, blocks: Iterable[Ballot]) -> list[dict[str, Any]]:
    """Star rows of the shard's members of exact classes."""
    found = [
        (int(star["node"]), int(star["head"]), bool(star["bytes"]), head_id)
        for kind, block, heads in blocks
        if kind == "star"
        for star, head_id in zip(np.frombuffer(block, dtype=STAR), heads, strict=True)
    ]
    if not found:
        return []
    ids = read_features(layout, shard, ["sample_id"])["sample_id"].to_pylist()
    rows = []
    for node, head, equal, head_id in found:
        pair = sorted(
            [(ids[node_row(node)], node), (head_id, head)],
            key=lambda p: name_order(p[0]),
        )
        rows.append(
            {
                "sample_id_a": pair[0][0],
                "sample_id_b": pair[1][0],
                "kind": str(PairKind.BYTES if equal else PairKind.PIXELS),
                "cosine": None,
                "pdq_distance": 0,
                "score": 1.0,
                "verified": True,
                "coverage_a": 1.0,
                "coverage_b": 1.0,
                "transform": "identity",
                "node_a": pair[0][1],
                "node_b": pair[1][1],
                "foreign_a": 0.0,
                "foreign_b": 0.0,
            }
        )
    return rows


def _judged(layout: RunLayout, rounds: tuple[str, ...], number: int) -> pa.Table:
    """All pairs judged in one shard."""
    return read_judged(layout, rounds, number, PAIRS.names)
