"""Last step of a scan: what is said of each query, with what the reference's verdicts say of its best match.

Queries ask the shards of the reference pictures that they match for those pictures' verdicts, 16 bytes a match; the
answers come back and each query shard is written. Nothing else of the reference moves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from onceseen.core.config import PipelineConfig
from onceseen.core.features import read_features
from onceseen.core.files import read_table, write_table
from onceseen.core.ipc import bytes_table, table_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter
from onceseen.core.records import PairKind, Shard, Verdict, node_id, node_row
from onceseen.core.schemas import FINDINGS, OK, VERDICTS
from onceseen.detect import Finding, Match, best_match, exact_match, finding
from onceseen.jobs.decisions import DecisionRows
from onceseen.jobs.match.classes import STEP as STARS
from onceseen.jobs.match.judged import read_judged
from onceseen.jobs.match.work import WorkFiles, by_shard, with_number
from onceseen.jobs.shuffles import Measure, Spread, block_slices
from onceseen.neighbors.packing import PAIR, STAR, Asked, unpack

_DETAILS = pa.schema(
    [
        ("query", pa.int64()),
        ("reference", pa.int64()),
        *((name, VERDICTS.field(name).type) for name in ("sample_id", "representative_id", "verdict")),
        *((name, VERDICTS.field(name).type) for name in ("copies", "component_id", "component_size")),
    ]
)
_DETAIL_COLUMNS = _DETAILS.names[2:]
_MATCHES = 16
"""Matches a query that are looked up: the best; the others only say again that it is one."""

Details = Mapping[tuple[int, int], Mapping[str, Any]]
"""Answers by (query, reference)."""


@dataclass(frozen=True, slots=True)
class FindingsPlan:
    """What findings are made of.

    Attributes:
        layout: The scan.
        reference: The run searched.
        config: Sections verify and scan are used.
        asked: Which nodes are queries.
        judged: The step whose judged pairs count.
        decisions: A person's words, by query and reference id.
    """

    layout: RunLayout
    reference: RunLayout
    config: PipelineConfig
    asked: Asked
    judged: str
    decisions: DecisionRows


@dataclass(eq=False)
class WriteFindings(beam.PTransform):
    """Shards to findings and verdicts of the query shards. Shuffled: 16 bytes and some 150 back for each match."""

    plan: FindingsPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Asks the reference, writes."""
        spread = shards | "Spread" >> Spread("scan/shards")
        numbered = spread | "Number" >> beam.Map(with_number)
        asked = spread | "Ask" >> beam.FlatMap(ask, self.plan) | "Asked" >> Measure("scan/asked")
        answers = (
            {"shard": numbered, "asked": asked}
            | "ByReference" >> beam.CoGroupByKey()
            | "Answer" >> beam.FlatMap(answer, self.plan.reference)
            | "Answered" >> Measure("scan/answers")
        )
        return (
            {"shard": numbered, "answers": answers}
            | "ByQuery" >> beam.CoGroupByKey()
            | "WriteFindings" >> beam.Map(write_findings, self.plan)
        )


def ask(shard: Shard, plan: FindingsPlan) -> Iterator[tuple[int, bytes]]:
    """Which reference pictures a query shard matches, by their shards."""
    matches = shard_matches(shard, plan)
    pairs = np.array([(a, b) for b, found in matches.items() for a, _ in found], dtype=PAIR)
    yield from by_shard(pairs, "a")


def shard_matches(shard: Shard, plan: FindingsPlan) -> dict[int, list[tuple[int, Match]]]:
    """The matches of a query shard that say anything, by query; reference ids are not known yet.

    Args:
        shard: A shard; one of the reference has none.
        plan: As in `WriteFindings`.

    Returns:
        Query node to (reference node, match), the best `_MATCHES`, by reference node.
    """
    if not plan.asked.is_newer(shard):
        return {}
    found: dict[int, list[tuple[int, Match]]] = defaultdict(list)
    for node, head, equal in WorkFiles(plan.layout).read(STARS, shard.number, STAR).tolist():
        found[node].append((head, exact_match("", equal_bytes=equal)))
    for row in read_judged(plan.layout, (plan.judged,), shard.number).to_pylist():
        turned = row["node_a"] < plan.asked.since
        query, reference = (row["node_b"], row["node_a"]) if turned else (row["node_a"], row["node_b"])
        match = _match(row, turned)
        if finding(match, plan.config.verify, plan.config.scan) != Finding.CLEAR:
            found[query].append((reference, match))
    return {query: _best(matches) for query, matches in found.items()}


def _match(row: Mapping[str, Any], turned: bool) -> Match:
    own, other = ("b", "a") if turned else ("a", "b")
    return Match(
        "",
        row["kind"],
        row["cosine"],
        row["pdq_distance"],
        row["score"],
        row["verified"],
        row[f"coverage_{own}"],
        row[f"coverage_{other}"],
        row["transform"],
    )


def _best(matches: Sequence[tuple[int, Match]]) -> list[tuple[int, Match]]:
    ranked = sorted(matches, key=lambda m: (not m[1].verified, -m[1].score, m[0]))
    return sorted(ranked[:_MATCHES], key=lambda m: m[0])


def answer(
    keyed: tuple[int, Mapping[str, Iterable[Any]]], reference: RunLayout
) -> Iterator[tuple[int, bytes]]:
    """What the reference's verdicts say of the pictures asked about, by query shard."""
    pairs = unpack(keyed[1]["asked"], PAIR)
    if not len(pairs):
        return
    pairs = pairs[np.lexsort((pairs["a"], pairs["b"]))]
    for shard in keyed[1]["shard"]:
        table = read_table(reference.verdicts(shard.name), columns=_DETAIL_COLUMNS)
        for number, block in by_shard(pairs, "b", beside=512):
            mine = np.frombuffer(block, dtype=PAIR)
            rows = table.take(node_row(mine["a"]))
            columns = [pa.array(mine["b"]), pa.array(mine["a"]), *rows.select(_DETAIL_COLUMNS).columns]
            details = pa.Table.from_arrays(columns, schema=_DETAILS)
            for part in block_slices(len(details), 512):
                yield number, table_bytes(details[part])


def write_findings(keyed: tuple[int, Mapping[str, Iterable[Any]]], plan: FindingsPlan) -> None:
    """Writes one query shard's findings, and the verdicts by which it is written again."""
    answers = list(keyed[1]["answers"])
    for shard in keyed[1]["shard"]:
        if not plan.asked.is_newer(shard):
            continue
        rows = [r for block in answers for r in bytes_table(block).to_pylist()]
        details = {(r["query"], r["reference"]): r for r in rows}
        findings = shard_findings(shard, plan, details)
        write_table(plan.layout.findings(shard.number), pa.Table.from_pylist(findings, schema=FINDINGS))
        if plan.config.scan.policy == "flag":
            verdicts = [_verdict(row) for row in findings]
            write_table(plan.layout.verdicts(shard.name), pa.Table.from_pylist(verdicts, schema=VERDICTS))


def shard_findings(shard: Shard, plan: FindingsPlan, details: Details) -> list[dict[str, Any]]:
    """One row of `FINDINGS` for each sample of a query shard, in its order."""
    matches = shard_matches(shard, plan)
    samples = read_features(plan.layout, shard, ["sample_id", "key", "row", "status"]).to_pylist()
    words = _Words(plan.decisions)
    rows = []
    for sample in samples:
        node = node_id(shard.number, sample["row"])
        known = [(m, details[node, reference]) for reference, m in matches.get(node, [])]
        row = _finding_row(sample, known, plan, words)
        counter(f"scan/{row['verdict']}").inc()
        rows.append({**row, "shard": shard.name, "key": sample["key"], "row": sample["row"]})
    return rows


class _Words:
    """A person's decisions, by query."""

    def __init__(self, rows: DecisionRows) -> None:
        self.samples = dict(rows.samples)
        self._pairs: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for a, b, word in rows.pairs:
            self._pairs[a].append((b, word))
            self._pairs[b].append((a, word))

    def refused(self, query: str) -> set[str]:
        """References told apart from a query."""
        return {other for other, word in self._pairs.get(query, ()) if word == "different"}

    def same(self, query: str) -> set[str]:
        """References that are called the same picture."""
        return {other for other, word in self._pairs.get(query, ()) if word == "same"}


def _finding_row(
    sample: Mapping[str, Any],
    known: Sequence[tuple[Match, Mapping[str, Any]]],
    plan: FindingsPlan,
    words: _Words,
) -> dict[str, Any]:
    """A sample's finding. Where a person told it apart from a picture, that holds for its whole group."""
    query = sample["sample_id"]
    if sample["status"] != OK:
        return {"query_id": query, "verdict": str(Finding.FAILED)}
    refused = words.refused(query)
    groups = {d["representative_id"] for _, d in known if d["sample_id"] in refused} | refused
    left = [(m, d) for m, d in known if not {d["sample_id"], d["representative_id"]} & groups]
    by_id = {d["sample_id"]: d for _, d in left}
    found = [replace(m, reference_id=d["sample_id"]) for m, d in left]
    same = words.same(query)
    found = [_said(m) if m.reference_id in same else m for m in found]
    said, match = best_match(found, plan.config.verify, plan.config.scan)
    word = words.samples.get(query)
    if word is not None:
        said = Finding.DUPLICATE if word == "drop" else Finding.CLEAR
        match = match if word == "drop" else None
    row: dict[str, Any] = {"query_id": query, "verdict": str(said)}
    if word == "drop":
        row["kind"] = str(PairKind.DECISION)
    elif word is None and same and not (match and match.reference_id in same):
        # a person knows better than the search: nothing is known of the pair
        return {
            **row,
            "verdict": str(Finding.DUPLICATE),
            "kind": str(PairKind.DECISION),
            "reference_id": min(same),
        }
    if match is None:
        return row
    detail = by_id[match.reference_id]
    return {
        **{name: getattr(match, name) for name in FINDINGS.names if hasattr(match, name)},
        **{name: detail[name] for name in ("representative_id", "copies", "component_id", "component_size")},
        "reference_verdict": detail["verdict"],
        **row,
    }


def _said(match: Match) -> Match:
    """A match that a person calls the same picture."""
    return replace(
        match,
        kind=str(PairKind.DECISION),
        score=1.0,
        verified=True,
        coverage_query=1.0,
        coverage_reference=1.0,
    )


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    """A finding as the row by which a query shard is written again: duplicates go, the rest stays."""
    verdict = {Finding.FAILED: Verdict.FAILED, Finding.DUPLICATE: Verdict.DROP}.get(
        Finding(row["verdict"]), Verdict.KEEP
    )
    dropped = verdict == Verdict.DROP
    return {
        "sample_id": row["query_id"],
        "shard": row["shard"],
        "key": row["key"],
        "row": row["row"],
        "verdict": str(verdict),
        "representative_id": row.get("reference_id") if dropped else row["query_id"],
        "kind": row.get("kind") if dropped else None,
        "score": row.get("score") if dropped else None,
        "copies": (row.get("copies") or 0) if dropped else 1,
        "component_id": row["query_id"],
        "component_size": 1,
        "weight": 0.0 if dropped else 1.0,
    }
