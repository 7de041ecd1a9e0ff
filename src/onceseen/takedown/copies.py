"""Which samples of a run show one picture, and which only lie in its component.

Everything is read from the run's tables: verdicts of all shards once, the pairs once, features of the shards that hold
the component.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onceseen.core.files import exists, join, read_table
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind, Verdict
from onceseen.core.schemas import OK
from onceseen.detect import Match
from onceseen.jobs.decisions import DecisionRows, stored_decisions
from onceseen.stats.lookup import (
    PairRow,
    RunRecord,
    VerdictRow,
    find_features,
    find_verdicts,
    pair_batches,
    pair_rows,
    read_verdicts,
)

_FEATURES = ("status", "sha256", "pixel_hash", "member", "row")


class Relation(enum.StrEnum):
    """What a sample is to the picture asked for."""

    ASKED = "asked"
    EXACT = "exact"
    VERIFIED = "verified"
    GROUP = "group"
    COMPONENT = "component"


@dataclass(frozen=True, slots=True)
class Copy:
    """One sample.

    Attributes:
        sample_id: Its id.
        relation: asked; exact (equal bytes or pixels); verified (compared with the picture, and found to hold it or to
            be cut out of it); group (the same picture stands for both); component (none of these: another picture).
        taken: Whether it is taken down with the picture.
        verdict: What the run does with it: keep, drop or failed.
        kind: Kind of evidence for the relation, empty if none is needed.
        score: Score of that evidence.
        evidence_a: The pair that was compared, if any: two samples, or a file and what was found by it.
        evidence_b: Its second sample.
        transform: How the two are aligned, if known.
        sha256: SHA-256 of its file, hexadecimal; empty if it could not be read.
        source: The file of SRC that holds it.
        member: Its member there, where that is a tar.
        written: The file of RUN/shards that holds it, empty if it is in none.
    """

    sample_id: str
    relation: Relation
    taken: bool
    verdict: str
    kind: str
    score: float | None
    evidence_a: str
    evidence_b: str
    transform: str
    sha256: str
    source: str
    member: str
    written: str


@dataclass(frozen=True, slots=True)
class Copies:
    """All samples of the components of one or more pictures, taken ones first, then by sample_id."""

    rows: tuple[Copy, ...]

    @property
    def taken(self) -> tuple[Copy, ...]:
        """What is taken down."""
        return tuple(row for row in self.rows if row.taken)

    @property
    def apart(self) -> tuple[Copy, ...]:
        """What is left: other pictures of the same components."""
        return tuple(row for row in self.rows if not row.taken)


@dataclass(frozen=True, slots=True)
class _Evidence:
    relation: Relation
    kind: str = ""
    score: float | None = None
    pair: tuple[str, str] = ("", "")
    transform: str = ""


def find_copies(
    layout: RunLayout,
    run: RunRecord,
    sample_ids: Sequence[str],
    matches: Mapping[str, Sequence[Match]] | None = None,
    *,
    component: bool = False,
) -> Copies:
    """Every sample that shows the pictures, dropped ones too, and what else lies in their components.

    Args:
        layout: A run whose match job is done.
        run: Its record.
        sample_ids: Samples that are known to show the pictures.
        matches: Further ones, found by files of the pictures: by the file, which their evidence then names.
        component: Whether the whole components are taken.

    Raises:
        ValueError: If an id is not in the run.
    """
    asked = dict.fromkeys(sample_ids, _Evidence(Relation.ASKED))
    for path, found in (matches or {}).items():
        for match in found:
            pair = (path, match.reference_id)
            evidence = _Evidence(Relation.ASKED, match.kind, match.score, pair, match.transform)
            asked.setdefault(match.reference_id, evidence)
    seeds = find_verdicts(layout, run.shards, asked)
    missing = [i for i in asked if i not in seeds]
    if missing:
        raise ValueError(f"{layout.root} has no sample {missing[0]!r}; ids are as in verdicts/*.parquet")
    members = component_rows(layout, run, {row.component_id for row in seeds.values()})
    facts = find_features(layout, run.shards, members, _FEATURES)
    said = stored_decisions(layout)
    search = _Search(run, asked, members, facts, said)
    search.exact()
    search.verified(component_pairs(layout, members))
    search.groups()
    rows = [
        search.row(layout, sample_id, component=component) for sample_id in sorted(members, key=name_order)
    ]
    return Copies(tuple(sorted(rows, key=lambda row: not row.taken)))


def component_rows(layout: RunLayout, run: RunRecord, components: Iterable[str]) -> dict[str, VerdictRow]:
    """Verdicts of all samples of some components; reads every shard's verdicts once."""
    wanted = pa.array(sorted(components, key=name_order), pa.string())
    found: dict[str, VerdictRow] = {}
    for shard in run.shard_names:
        ids = read_table(layout.verdicts(shard), columns=["component_id"])["component_id"]
        if pc.any(pc.is_in(ids, value_set=wanted)).as_py():
            chosen = set(wanted.to_pylist())
            found |= {r.sample_id: r for r in read_verdicts(layout, shard) if r.component_id in chosen}
    return found


def component_pairs(layout: RunLayout, members: Iterable[str]) -> list[PairRow]:
    """Verified pairs within some samples; streams the pairs once."""
    ids = pa.array(sorted(members, key=name_order), pa.string())
    found: list[PairRow] = []
    for table in pair_batches(layout):
        inside = pc.and_(
            pc.is_in(table["sample_id_a"], value_set=ids), pc.is_in(table["sample_id_b"], value_set=ids)
        )
        found.extend(pair_rows(table.filter(pc.and_(inside, table["verified"]))))
    return found


class _Search:
    """What is known of each member, best relation first."""

    def __init__(
        self,
        run: RunRecord,
        asked: dict[str, _Evidence],
        members: dict[str, VerdictRow],
        facts: dict[str, dict[str, Any]],
        said: DecisionRows,
    ) -> None:
        self._run = run
        self._shards = {shard.name: shard for shard in run.shards}
        self._members = members
        self._facts = facts
        self._said = said
        self._groups = {members[sample_id].group_id for sample_id in asked}
        self.found = dict(asked)
        self._classes: dict[bytes, list[str]] = defaultdict(list)
        for sample_id, fact in facts.items():
            if fact["status"] == OK:
                self._classes[fact["pixel_hash"]].append(sample_id)

    def exact(self) -> None:
        """Adds what has the pixels of something found already."""
        for sample_id in list(self.found):
            fact = self._facts[sample_id]
            for other in self._classes[fact["pixel_hash"]] if fact["status"] == OK else ():
                if other not in self.found and self._said.pair(sample_id, other) != "different":
                    kind = "bytes" if self._facts[other]["sha256"] == fact["sha256"] else "pixels"
                    first, second = sorted((sample_id, other), key=name_order)
                    relation = Relation.EXACT
                    self.found[other] = _Evidence(relation, kind, 1.0, (first, second), "identity")

    def verified(self, pairs: Sequence[PairRow]) -> None:
        """Adds what was compared with the picture and holds it, or is cut out of it; then equals of those."""
        core = set(self.found)
        for pair in sorted(pairs, key=lambda p: (-(p.score or 0.0), p.ids)):
            for mine, other in (pair.ids, pair.ids[::-1]):
                if mine in core and other not in self.found and self._is_copy(pair, mine, other):
                    evidence = _Evidence(Relation.VERIFIED, pair.kind, pair.score, pair.ids, pair.transform)
                    self.found[other] = evidence
                    self._equals_of(other, evidence)

    def _is_copy(self, pair: PairRow, mine: str, other: str) -> bool:
        """Whether `other` shows the picture whole, or is a part of it that makes up enough of it."""
        verify = self._run.config.verify
        held, cut = pair.coverage_of(mine) or 0.0, pair.coverage_of(other) or 0.0
        if self._said.pair(mine, other) == "different":
            return False
        return held >= verify.min_coverage or (
            cut >= verify.min_coverage and held >= verify.min_kept_coverage
        )

    def _equals_of(self, sample_id: str, evidence: _Evidence) -> None:
        for equal in self._classes[self._facts[sample_id]["pixel_hash"]]:
            if equal not in self.found and self._said.pair(sample_id, equal) != "different":
                self.found[equal] = evidence

    def groups(self) -> None:
        """Adds those that the same kept picture stands for."""
        for sample_id, row in self._members.items():
            if sample_id not in self.found and row.group_id in self._groups:
                pair = (row.evidence_a, row.evidence_b)
                self.found[sample_id] = _Evidence(Relation.GROUP, row.kind, row.score, pair)

    def row(self, layout: RunLayout, sample_id: str, *, component: bool) -> Copy:
        """What is said of one member."""
        verdict, fact = self._members[sample_id], self._facts[sample_id]
        evidence = self.found.get(sample_id, _Evidence(Relation.COMPONENT, verdict.kind, verdict.score))
        shard = self._shards[verdict.shard]
        return Copy(
            sample_id=sample_id,
            relation=evidence.relation,
            taken=component or evidence.relation is not Relation.COMPONENT,
            verdict=str(verdict.verdict),
            kind=evidence.kind,
            score=evidence.score,
            evidence_a=evidence.pair[0],
            evidence_b=evidence.pair[1],
            transform=evidence.transform,
            sha256=fact["sha256"].hex() if fact["sha256"] else "",
            source=_source(shard, fact["member"]),
            member=fact["member"] if shard.kind is ShardKind.TAR else "",
            written=self._written(layout, shard, verdict, fact["member"]),
        )

    def _written(self, layout: RunLayout, shard: Shard, row: VerdictRow, member: str) -> str:
        kept = row.verdict == Verdict.KEEP
        kept |= row.verdict == Verdict.FAILED and self._run.config.read.on_failure == "keep"
        path = written_path(layout, shard, member)
        return path if kept and exists(path) else ""


def _source(shard: Shard, member: str) -> str:
    return join(shard.path, member) if shard.kind is ShardKind.FOLDER else shard.path


def written_path(layout: RunLayout, shard: Shard, member: str) -> str:
    """The file of RUN/shards that holds a sample, where it is written."""
    if shard.kind is ShardKind.FOLDER:
        return join(layout.shards_dir(), f"{shard.id_prefix}{member}")
    return join(layout.shards_dir(), f"{shard.name}.{shard.kind}")
