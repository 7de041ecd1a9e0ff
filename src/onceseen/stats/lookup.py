"""Reading a finished run: its record, and rows of its tables by sample_id.

Nothing here holds a whole table. A sample's shard is found from its id (`<shard name>/<key>`: every shard
whose name is a prefix is a candidate; in folders the id is a path in SRC, so every folder shard is one),
pairs are streamed in record batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onceseen.core.config import PipelineConfig
from onceseen.core.config_io import config_from_mapping
from onceseen.core.files import (
    exists,
    list_files,
    open_table,
    read_json_if_there,
    read_table,
    read_table_if_there,
)
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.listing import shards_from_json
from onceseen.core.records import Shard, ShardKind, Verdict

PAIR_BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What RUN/run.json says.

    Attributes:
        config: The resolved configuration.
        shards: Input shards, by number.
        model: Name, weights hash and preprocessing of the embedding model.
        versions: Versions of Onceseen and of the libraries that the results depend on.
        jobs: Job name to `{"state": ..., "fingerprint": ...}`.
    """

    config: PipelineConfig
    shards: tuple[Shard, ...]
    model: Mapping[str, Any]
    versions: Mapping[str, Any]
    jobs: Mapping[str, Any]

    @property
    def shard_names(self) -> tuple[str, ...]:
        """Names of the shards, in the order of their numbers."""
        return tuple(shard.name for shard in self.shards)


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One row of verdicts/; nulls are empty strings, a missing score is None."""

    sample_id: str
    shard: str
    verdict: Verdict
    representative_id: str
    evidence_a: str
    evidence_b: str
    kind: str
    score: float | None
    copies: int
    component_id: str
    component_size: int
    weight: float | None

    @property
    def group_id(self) -> str:
        """The representative that stands for the sample; itself where none is named."""
        return self.representative_id or self.sample_id

    @property
    def is_representative(self) -> bool:
        """Whether a group stands under this sample's id (a group of one included)."""
        return self.verdict == Verdict.KEEP and self.group_id == self.sample_id

    @property
    def evidence(self) -> tuple[str, str] | None:
        """The pair that was compared, smaller id first, as the pairs table has it; None if there is none."""
        if not self.evidence_a or not self.evidence_b or self.evidence_a == self.evidence_b:
            return None
        return ordered(self.evidence_a, self.evidence_b)


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of pairs/; numbers that are unknown are None."""

    sample_id_a: str
    sample_id_b: str
    kind: str
    cosine: float | None
    pdq_distance: int | None
    score: float | None
    verified: bool
    coverage_a: float | None
    coverage_b: float | None
    transform: str
    foreign_a: float | None
    foreign_b: float | None

    @property
    def ids(self) -> tuple[str, str]:
        """Both ids, smaller first."""
        return (self.sample_id_a, self.sample_id_b)

    def coverage_of(self, sample_id: str) -> float | None:
        """Share of this sample's content that the other holds."""
        return self.coverage_a if sample_id == self.sample_id_a else self.coverage_b

    def foreign_of(self, sample_id: str) -> float | None:
        """Share of this sample that is not in the other."""
        return self.foreign_a if sample_id == self.sample_id_a else self.foreign_b


@dataclass(frozen=True, slots=True)
class Group:
    """A kept picture and the samples that it stands for.

    Attributes:
        representative: The kept sample.
        members: The others of the group (dropped, or kept too under `keep.max_copies`), by sample_id.
    """

    representative: VerdictRow
    members: list[VerdictRow] = field(default_factory=list)


_VERDICT_COLUMNS = list(VerdictRow.__dataclass_fields__)
_PAIR_COLUMNS = list(PairRow.__dataclass_fields__)


def ordered(sample_id_a: str, sample_id_b: str) -> tuple[str, str]:
    """Two ids, smaller in UTF-8 byte order first."""
    return (
        (sample_id_a, sample_id_b)
        if name_order(sample_id_a) <= name_order(sample_id_b)
        else (
            sample_id_b,
            sample_id_a,
        )
    )


def read_run(layout: RunLayout) -> RunRecord:
    """Reads RUN/run.json.

    Raises:
        ValueError: If there is no run, or its record is not one that this version wrote.
    """
    path = layout.run_json()
    data = read_json_if_there(path)
    if data is None:
        raise ValueError(
            f"{layout.root} is not a run directory: it has no run.json; expected the --output of a run"
        )
    try:
        shards = tuple(shards_from_json(data["shards"]))
        config = config_from_mapping(data["config"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a run: {error!r} is missing or malformed") from error
    return RunRecord(
        config, shards, data.get("model") or {}, data.get("versions") or {}, data.get("jobs") or {}
    )


def require_verdicts(layout: RunLayout, run: RunRecord) -> None:
    """Refuses a run whose match job is not done.

    Raises:
        ValueError: Naming the first shard without verdicts.
    """
    for shard in run.shard_names:
        if not exists(layout.verdicts(shard)):
            raise ValueError(
                f"{layout.root} has no verdicts for shard {shard} yet: finish `onceseen dedup` on it first"
            )


def read_verdicts(layout: RunLayout, shard: str) -> list[VerdictRow]:
    """All verdicts of one shard, in the order of the file."""
    return _verdict_rows(read_table(layout.verdicts(shard), columns=_VERDICT_COLUMNS))


def _verdict_rows(table: pa.Table) -> list[VerdictRow]:
    return [_verdict_row(row) for row in table.to_pylist()]


def _verdict_row(row: Mapping[str, Any]) -> VerdictRow:
    return VerdictRow(
        sample_id=row["sample_id"],
        shard=row["shard"],
        verdict=Verdict(row["verdict"]),
        representative_id=row["representative_id"] or "",
        evidence_a=row["evidence_a"] or "",
        evidence_b=row["evidence_b"] or "",
        kind=row["kind"] or "",
        score=row["score"],
        copies=int(row["copies"] or 0),
        component_id=row["component_id"] or "",
        component_size=int(row["component_size"] or 0),
        weight=row["weight"],
    )


def shards_of(sample_ids: Iterable[str], shards: Sequence[Shard]) -> dict[str, list[str]]:
    """Shards in which each id may lie: see the module's first lines.

    Returns:
        Shard name to ids, both in UTF-8 byte order; an id under no known shard is left out.
    """
    names = {shard.name for shard in shards if shard.kind != ShardKind.FOLDER}
    folders = [shard for shard in shards if shard.kind == ShardKind.FOLDER]
    found: dict[str, set[str]] = defaultdict(set)
    for sample_id in sample_ids:
        cut = sample_id.find("/")
        while cut >= 0:
            if sample_id[:cut] in names:
                found[sample_id[:cut]].add(sample_id)
            cut = sample_id.find("/", cut + 1)
        for folder in folders:
            if sample_id.startswith(folder.id_prefix):
                found[folder.name].add(sample_id)
    return {name: sorted(found[name], key=name_order) for name in sorted(found, key=name_order)}


def find_verdicts(
    layout: RunLayout, shards: Sequence[Shard], sample_ids: Iterable[str]
) -> dict[str, VerdictRow]:
    """Verdicts of some samples; an unknown id is left out. One read a shard concerned."""
    found: dict[str, VerdictRow] = {}
    for shard, ids in shards_of(sample_ids, shards).items():
        table = read_table(layout.verdicts(shard), columns=_VERDICT_COLUMNS)
        chosen = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(ids, pa.string())))
        found.update((row.sample_id, row) for row in _verdict_rows(chosen))
    return found


def find_features(
    layout: RunLayout, shards: Sequence[Shard], sample_ids: Iterable[str], columns: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Some columns of some samples' features; an unknown id is left out."""
    wanted = list(dict.fromkeys(["sample_id", *columns]))
    return _find_rows(lambda s: layout.of(s).features(s.name), shards, sample_ids, wanted)


def find_thumbs(layout: RunLayout, shards: Sequence[Shard], sample_ids: Iterable[str]) -> dict[str, bytes]:
    """Stored 64 x 64 grey thumbs (row-major bytes) of some samples; those without one are left out."""
    rows = _find_rows(lambda s: layout.of(s).thumbs(s.name), shards, sample_ids, ["sample_id", "thumb"])
    return {sample_id: row["thumb"] for sample_id, row in rows.items() if row["thumb"]}


def _find_rows(
    path_of: Callable[[Shard], str],
    shards: Sequence[Shard],
    sample_ids: Iterable[str],
    columns: list[str],
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    by_name = {shard.name: shard for shard in shards}
    for shard, ids in shards_of(sample_ids, shards).items():
        table = read_table_if_there(path_of(by_name[shard]), columns)
        if table is None:
            continue
        chosen = table.filter(pc.is_in(table["sample_id"], value_set=pa.array(ids, pa.string())))
        found.update((row["sample_id"], row) for row in chosen.to_pylist())
    return found


def group_members(
    layout: RunLayout, shards: Sequence[str], representatives: Collection[str]
) -> dict[str, Group]:
    """Groups of some representatives, their members in full; reads every shard's verdicts once."""
    heads = pa.array(sorted(representatives, key=name_order), pa.string())
    kept: dict[str, VerdictRow] = {}
    members: dict[str, list[VerdictRow]] = defaultdict(list)
    for shard in shards:
        table = read_table(layout.verdicts(shard), columns=_VERDICT_COLUMNS)
        own = pc.is_in(table["sample_id"], value_set=heads)
        under = pc.is_in(table["representative_id"], value_set=heads)
        for row in _verdict_rows(table.filter(pc.or_(own, under))):
            if row.is_representative:
                kept[row.sample_id] = row
            elif row.representative_id:
                members[row.representative_id].append(row)
    groups = {}
    for head in kept:
        rows = sorted(members[head], key=lambda row: name_order(row.sample_id))
        groups[head] = Group(kept[head], rows)
    return groups


def pair_batches(layout: RunLayout, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Streams pairs/ in pieces of at most `PAIR_BATCH_ROWS` rows, files in UTF-8 byte order."""
    for path in list_files(layout.pairs_dir(), ".parquet"):
        with open_table(path) as stream:
            reader = pq.ParquetFile(stream)
            chosen = list(columns) if columns is not None else None
            for batch in reader.iter_batches(PAIR_BATCH_ROWS, columns=chosen):
                yield pa.Table.from_batches([batch])


def find_pairs(layout: RunLayout, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], PairRow]:
    """Rows of some pairs (smaller id first); a pair without a row is left out. Streams the pairs once."""
    if not wanted:
        return {}
    pairs = set(wanted)
    firsts = pa.array(sorted({a for a, _ in pairs}, key=name_order), pa.string())
    found: dict[tuple[str, str], PairRow] = {}
    for table in pair_batches(layout, _PAIR_COLUMNS):
        for row in pair_rows(table.filter(pc.is_in(table["sample_id_a"], value_set=firsts))):
            if row.ids in pairs:
                found[row.ids] = row
    return found


def pairs_of_sample(layout: RunLayout, sample_id: str) -> list[PairRow]:
    """All rows that a sample takes part in, best score first. Streams the pairs once."""
    found: list[PairRow] = []
    for table in pair_batches(layout, _PAIR_COLUMNS):
        either = pc.or_(pc.equal(table["sample_id_a"], sample_id), pc.equal(table["sample_id_b"], sample_id))
        found.extend(pair_rows(table.filter(either)))
    return sorted(found, key=lambda row: (-(row.score or 0.0), row.ids))


def pair_rows(table: pa.Table) -> Iterator[PairRow]:
    """Rows of a piece of pairs/ that has all of `PairRow`'s columns."""
    for row in table.select(_PAIR_COLUMNS).to_pylist():
        row["kind"] = row["kind"] or ""
        row["transform"] = row["transform"] or ""
        row["verified"] = bool(row["verified"])
        yield PairRow(**cast("dict[str, Any]", row))
