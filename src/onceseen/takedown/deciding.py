"""Verdicts of some components again, from the run's own tables: what `--redo match` would decide, without a search.

Members, exact classes and verified pairs are read from features/ and pairs/, and decided by the same code as in the
match job. Where a picture goes for which others were dropped, the best of those comes back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onceseen.clusters import SampleVerdict
from onceseen.core.features import read_feature_rows, read_features
from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict, node_id, node_row
from onceseen.core.schemas import PAIRS, VERDICTS
from onceseen.jobs.decisions import DecisionRows, Decisions, resolve_decisions
from onceseen.jobs.match.clustering import ATTRIBUTES, Block, decide, preferred_value
from onceseen.jobs.match.edges import edges_of
from onceseen.jobs.match.verdict_table import verdict_fields
from onceseen.stats.lookup import RunRecord, find_verdicts, pair_batches
from onceseen.takedown.copies import component_rows

_FEATURES = ("sample_id", "width", "height", "num_bytes", "sharpness", "meta", "pixel_hash", "sha256")


@dataclass(frozen=True, slots=True)
class _Member:
    """A sample of a component."""

    node: int
    component: str
    features: Mapping[str, Any]


def decide_again(
    layout: RunLayout, run: RunRecord, sample_ids: Iterable[str], rows: DecisionRows
) -> dict[str, pa.Table]:
    """New verdicts of all components that hold some samples, under new decisions.

    Reads every shard's verdicts and the pairs once, and features of the components' members. Memory: those components.

    Args:
        layout: A run whose match job is done.
        run: Its record.
        sample_ids: What is decided anew; those that are not in the run are left out.
        rows: A person's words, takedowns among them.

    Returns:
        Whole verdict tables by shard name, of the shards in which something changed.
    """
    asked = find_verdicts(layout, run.shards, sample_ids)
    judged = [row for row in asked.values() if row.verdict != Verdict.FAILED]
    members = _members(layout, run, {row.component_id for row in judged})
    heads = _heads(members)
    decisions = resolve_decisions(rows, layout, run.shards, heads)
    heads = {node: head for node, head in heads.items() if node not in decisions.apart}
    blocks = _blocks(members, heads, _judged(layout, members), decisions, run.config.keep.prefer)
    changed = {}
    for number, verdicts in _by_shard(decide((0, blocks), run.config, decisions)).items():
        shard = run.shards[number]
        before = read_table(layout.verdicts(shard.name))
        after = _replaced(layout, shard, before, verdicts)
        if not after.equals(before):
            changed[shard.name] = after
    return changed


def _members(layout: RunLayout, run: RunRecord, components: Collection[str]) -> dict[str, _Member]:
    """Members of some components by sample id."""
    by_shard: dict[str, dict[str, str]] = defaultdict(dict)
    for row in component_rows(layout, run, components).values():
        by_shard[row.shard][row.sample_id] = row.component_id
    found = {}
    for shard in (s for s in run.shards if s.name in by_shard):
        wanted = by_shard[shard.name]
        ids = read_features(layout, shard, ["sample_id"])["sample_id"].to_pylist()
        places = np.array([row for row, sample in enumerate(ids) if sample in wanted], np.int64)
        table = read_feature_rows(layout, shard, places, _FEATURES)
        for place, features in zip(places.tolist(), table.to_pylist(), strict=True):
            sample = features["sample_id"]
            found[sample] = _Member(node_id(shard.number, place), wanted[sample], features)
    return found


def _heads(members: Mapping[str, _Member]) -> dict[int, int]:
    """Head by member of the exact classes: the smallest node of equal pixels, for those that are not it."""
    classes: dict[bytes, list[int]] = defaultdict(list)
    for member in members.values():
        if member.features["pixel_hash"] is not None:
            classes[member.features["pixel_hash"]].append(member.node)
    return {node: min(nodes) for nodes in classes.values() for node in nodes if node != min(nodes)}


def _judged(layout: RunLayout, members: Mapping[str, _Member]) -> pa.Table:
    """Verified pairs between members that are not equal in pixels, with the columns that edges are made of."""
    ids = pa.array(list(members), pa.string())
    found = [PAIRS.empty_table()]
    for table in pair_batches(layout):
        inside = pc.and_(*(pc.is_in(table[name], value_set=ids) for name in ("sample_id_a", "sample_id_b")))
        found.append(table.filter(pc.and_(inside, table["verified"])).cast(PAIRS))
    table = pa.concat_tables(found)
    equal = [
        members[a].features["pixel_hash"] == members[b].features["pixel_hash"]
        for a, b in zip(table["sample_id_a"].to_pylist(), table["sample_id_b"].to_pylist(), strict=True)
    ]
    table = table.filter(pa.array([not e for e in equal], pa.bool_()))
    return table.append_column("doubtful", pa.array([False] * len(table), pa.bool_()))


def _blocks(
    members: Mapping[str, _Member],
    heads: Mapping[int, int],
    judged: pa.Table,
    decisions: Decisions,
    prefer: str,
) -> list[Block]:
    """Members and edges as `decide` takes them."""
    roots: dict[str, int] = {}
    for member in members.values():
        roots[member.component] = min(member.node, roots.get(member.component, member.node))
    by_node = {member.node: member for member in members.values()}
    attributes = np.zeros(len(members), dtype=ATTRIBUTES)
    for place, member in enumerate(members.values()):
        head = heads.get(member.node, member.node)
        facts = member.features
        attributes[place] = (
            roots[member.component],
            member.node,
            head,
            facts["sha256"] == by_node[head].features["sha256"],
            facts["sharpness"] or 0.0,
            (facts["num_bytes"] or 0) / max(1, (facts["width"] or 0) * (facts["height"] or 0)),
        )
    said = [pair for pair in decisions.same if set(pair) <= by_node.keys()]
    edges = edges_of(judged, decisions, said)
    edges["root"] = [roots[by_node[node].component] for node in edges["b"].tolist()]
    wanted = prefer.removeprefix("-")
    preferred = [preferred_value(m.features["meta"], wanted) for m in members.values()]
    return [
        ("members", attributes.tobytes(), list(members), preferred),
        ("edges", edges.tobytes(), [], []),
    ]


def _by_shard(decided: Iterable[tuple[int, list[tuple[Any, ...]]]]) -> dict[int, list[SampleVerdict]]:
    found: dict[int, list[SampleVerdict]] = defaultdict(list)
    for number, verdicts in decided:
        found[number] += [SampleVerdict(*fields) for fields in verdicts]
    return dict(sorted(found.items()))


def _replaced(
    layout: RunLayout, shard: Shard, before: pa.Table, verdicts: Sequence[SampleVerdict]
) -> pa.Table:
    """A shard's verdicts with some rows new, in the shard's order."""
    rows = np.array(sorted(node_row(v.node) for v in verdicts), np.int64)
    samples = read_feature_rows(layout, shard, rows, ["sample_id", "key", "row", "status"]).to_pylist()
    new = {node_row(v.node): v for v in verdicts}
    fields = {s["sample_id"]: verdict_fields(shard, s, new[s["row"]]) for s in samples}
    merged = [fields.get(row["sample_id"], row) for row in before.to_pylist()]
    return pa.Table.from_pylist(merged, schema=VERDICTS)
