"""What the report shows, gathered from a run's tables in bounded memory.

Verdicts are streamed twice (which groups are biggest; who is in them), pairs twice (which calls were closest;
the evidence of what is shown). Memory: the groups shown with all their members, and `NEAR_POOL` pairs.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import exists, read_json, read_table_if_there
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import PairKind, Shard, Verdict
from onceseen.stats.lookup import (
    Group,
    PairRow,
    RunRecord,
    VerdictRow,
    find_pairs,
    find_verdicts,
    group_members,
    pair_batches,
    pair_rows,
    read_verdicts,
)

MAX_GROUPS = 50
MAX_MEMBERS = 12
MAX_NEAR = 12
NEAR_POOL = 4_096
MAX_EXAMPLES = 5
MAX_CAPTIONS = 25


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """One group as the report shows it.

    Attributes:
        group: The group, all members.
        shown: Members shown as pictures, those with the weakest evidence first.
        rest: Further members of the same sort, by sample_id.
        identical: Members dropped for equal bytes, by sample_id: a picture of them would show nothing new.
    """

    group: Group
    shown: tuple[VerdictRow, ...]
    rest: tuple[VerdictRow, ...]
    identical: tuple[VerdictRow, ...]


@dataclass(frozen=True, slots=True)
class NearPair:
    """A pair that looks alike and was not made one: both are kept."""

    pair: PairRow
    why: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a page needs but the pictures.

    Attributes:
        run: The run's record.
        summary: stats/summary.json.
        groups: Biggest groups, most copies first.
        evidence: Pairs rows named by the members shown.
        contained: Closest calls that were verified, but neither picture is nearly all in the other.
        doubtful: Closest calls that were not verified.
        failures: Examples of each reason.
        captions: Rows of stats/captions.parquet.
        copies: Rows of stats/copies.parquet of the groups shown, by representative.
    """

    run: RunRecord
    summary: Mapping[str, Any]
    groups: Sequence[ShownGroup]
    evidence: Mapping[tuple[str, str], PairRow]
    contained: Sequence[NearPair]
    doubtful: Sequence[NearPair]
    failures: Mapping[str, Sequence[Failure]]
    captions: Sequence[Mapping[str, Any]]
    copies: Mapping[str, Mapping[str, Any]]


def gather(layout: RunLayout, run: RunRecord) -> ReportData:
    """Gathers the data of report.html.

    Raises:
        ValueError: If the run has no stats/summary.json yet.
    """
    path = layout.stats("summary.json")
    if not exists(path):
        raise ValueError(f"{path} is missing: the run is not finished; run `onceseen dedup` on it again")
    names = run.shard_names
    groups = _shown_groups(layout, names)
    compared = {row.evidence for shown in groups for row in shown.shown if row.evidence is not None}
    contained, doubtful = closest_calls(layout, run)
    return ReportData(
        run,
        read_json(path),
        groups,
        find_pairs(layout, compared),
        contained,
        doubtful,
        _failure_examples(layout, run.shards),
        _first_rows(layout.stats("captions.parquet"), MAX_CAPTIONS),
        {row["sample_id"]: row for row in _first_rows(layout.stats("copies.parquet"), MAX_GROUPS)},
    )


def _shown_groups(layout: RunLayout, shards: Sequence[str]) -> list[ShownGroup]:
    order = biggest_groups(layout, shards, MAX_GROUPS)
    groups = group_members(layout, shards, order)
    shown = []
    for head in order:
        members = groups[head].members
        identical = tuple(row for row in members if row.kind == PairKind.BYTES)
        weakest = sorted((row for row in members if row.kind != PairKind.BYTES), key=_weakest_first)
        rest = sorted(weakest[MAX_MEMBERS:], key=lambda row: name_order(row.sample_id))
        shown.append(ShownGroup(groups[head], tuple(weakest[:MAX_MEMBERS]), tuple(rest), identical))
    return shown


def _weakest_first(row: VerdictRow) -> tuple[bool, float, bool, bytes]:
    """Kept ones last; then by score, equal pixels last, since a person should see first what is least certain."""
    score = 0.0 if row.score is None else row.score
    return (row.verdict == Verdict.KEEP, score, row.kind == PairKind.PIXELS, name_order(row.sample_id))


def biggest_groups(layout: RunLayout, shards: Sequence[str], limit: int) -> list[str]:
    """Representatives of the groups with the most copies (two at least), ties by sample_id."""
    best: list[tuple[int, bytes, str]] = []
    for shard in shards:
        rows = (row for row in read_verdicts(layout, shard) if row.is_representative and row.copies >= 2)
        ranked = ((-row.copies, name_order(row.sample_id), row.sample_id) for row in rows)
        best = heapq.nsmallest(limit, [*best, *ranked])
    return [sample_id for _, _, sample_id in best]


def closest_calls(layout: RunLayout, run: RunRecord) -> tuple[list[NearPair], list[NearPair]]:
    """Pairs that nearly were one picture: (verified but not contained, not verified).

    Both samples are kept, in different groups. Each list has the best scores first, `MAX_NEAR` at most, out
    of the `NEAR_POOL` best-scored pairs of its sort.
    """
    verify = run.config.verify
    pools: dict[bool, list[PairRow]] = {True: [], False: []}
    for table in pair_batches(layout):
        widest = pc.fill_null(pc.max_element_wise(table["coverage_a"], table["coverage_b"]), 0.0)
        narrow = pc.and_(table["verified"], pc.less(widest, verify.min_coverage))
        for verified, mask in ((True, narrow), (False, pc.invert(pc.fill_null(table["verified"], False)))):
            pool = pools[verified] + list(pair_rows(_best_scored(table.filter(mask), NEAR_POOL)))
            pools[verified] = sorted(pool, key=_best_first)[:NEAR_POOL]
    ids = {sample_id for pool in pools.values() for row in pool for sample_id in row.ids}
    verdicts = find_verdicts(layout, run.shards, ids)
    contained = [NearPair(row, _why_apart(row)) for row in pools[True] if _apart(row, verdicts)]
    doubtful = [
        NearPair(row, _why_unverified(row, verify.min_score)) for row in pools[False] if _apart(row, verdicts)
    ]
    return contained[:MAX_NEAR], doubtful[:MAX_NEAR]


def _best_first(row: PairRow) -> tuple[float, float, tuple[str, str]]:
    return (-(row.score or 0.0), -(row.cosine or -1.0), row.ids)


def _best_scored(table: pa.Table, limit: int) -> pa.Table:
    scores = pc.fill_null(table["score"], 0.0).to_numpy(zero_copy_only=False)
    return table.take(np.argsort(-scores, kind="stable")[:limit])


def _apart(row: PairRow, verdicts: Mapping[str, VerdictRow]) -> bool:
    pair = [verdicts.get(sample_id) for sample_id in row.ids]
    kept = [v for v in pair if v is not None and v.verdict == Verdict.KEEP]
    return len(kept) == 2 and kept[0].group_id != kept[1].group_id


def _why_apart(row: PairRow) -> str:
    widest = max(row.coverage_a or 0.0, row.coverage_b or 0.0)
    return f"they share a part, but at most {100 * widest:.0f}% of either is in the other"


def _why_unverified(row: PairRow, min_score: float) -> str:
    if (row.score or 0.0) < min_score:
        return f"its score is under verify.min_score ({min_score:g})"
    if "collage" in row.transform:
        return "what they share ends at a seam, as in a collage"
    return "no second, independent signal confirmed it"


def _failure_examples(layout: RunLayout, shards: Sequence[Shard]) -> dict[str, list[Failure]]:
    """The first examples of each reason, in the order of the shards; damaged shards among them."""
    examples: dict[str, list[Failure]] = {}
    for shard in shards:
        table = read_table_if_there(layout.of(shard).shard_failures(shard.name))
        for row in table.to_pylist() if table is not None else ():
            few = examples.setdefault(row["reason"], [])
            if len(few) < MAX_EXAMPLES:
                few.append(
                    Failure(row["subject"], row["stage"], FailureReason(row["reason"]), row["detail"] or "")
                )
    return dict(sorted(examples.items()))


def _first_rows(path: str, limit: int) -> list[dict[str, Any]]:
    """The first rows of a table that is written most important first; none where the table is not there."""
    table = read_table_if_there(path)
    return table.slice(0, limit).to_pylist() if table is not None else []
