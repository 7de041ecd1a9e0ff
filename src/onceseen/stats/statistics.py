"""Counts of a run, shard by shard, and the proof that they add up.

    ShardStatistics.of_shard(layout, shard)     features/, verdicts/ and failures/ of one shard -> counters
    ShardStatistics.merge(parts)                associative and commutative: any split, any order, one result
    merged.finish(extras)                       the mapping that stats/summary.json holds

Definitions:

* *read*: samples with a row in features/, failed ones included. read = kept + dropped + failed.
* *judged*: kept + dropped.
* *groups left*: kept samples that are their own representative (a picture without a copy is a group of one).
* *redundant* = judged - groups left.
* *participants*: judged samples in a connected component of two or more; *components*: the number of those.
* *copies_histogram*: copies -> number of groups with so many copies. Its weighted sum is the number of
  samples that a group stands for, which is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from onceseen.core.failures import SHARD_REASONS
from onceseen.core.files import read_table_if_there, write_json
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict
from onceseen.core.schemas import OK

EXTRAS = ("candidate_recall", "bytes_read", "bytes_written")
_FEATURE_COLUMNS = ("sample_id", "status")
_VERDICT_COLUMNS = ("sample_id", "verdict", "representative_id", "kind", "copies", "component_size")
_SHARD_REASONS = frozenset(str(reason) for reason in SHARD_REASONS)


class ReconciliationError(RuntimeError):
    """The numbers of a run do not add up: samples were lost or counted twice."""


@dataclass(frozen=True, slots=True)
class ShardTally:
    """Samples of one shard: read must be kept + dropped + failed."""

    shard: str
    read: int
    kept: int
    dropped: int
    failed: int

    def check(self) -> None:
        """Raises ReconciliationError unless the numbers add up."""
        if self.read != self.kept + self.dropped + self.failed:
            raise ReconciliationError(
                f"shard {self.shard}: read {self.read} is not kept {self.kept} + dropped {self.dropped} + "
                f"failed {self.failed} = {self.kept + self.dropped + self.failed}; this run must not be used"
            )


@dataclass(frozen=True, slots=True)
class ShardStatistics:
    """Counters of one shard, or of several merged: about 100 bytes a shard, and one number a distinct count.

    Attributes:
        shards: One tally a shard, any order.
        shards_failed: Shards that are themselves damaged.
        groups: Kept samples that are their own representative.
        orphans: Dropped samples that name no representative (a person's decision), which no group counts.
        dropped_by: Kind of evidence to dropped samples.
        failed_by: Reason to failed samples.
        component_sizes: Size of a component (2 or more) to samples in components of that size.
        copies: Copies to groups with so many.
    """

    shards: tuple[ShardTally, ...] = ()
    shards_failed: int = 0
    groups: int = 0
    orphans: int = 0
    dropped_by: Mapping[str, int] = field(default_factory=dict)
    failed_by: Mapping[str, int] = field(default_factory=dict)
    component_sizes: Mapping[int, int] = field(default_factory=dict)
    copies: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of_shard(cls, layout: RunLayout, shard: Shard) -> ShardStatistics:
        """Counts one shard from features/, verdicts/ and failures/.

        Raises:
            ReconciliationError: If a table is missing, or the samples read are not the samples judged and
                failed.
        """
        name, home = shard.name, layout.of(shard)
        damaged = _is_damaged(home, name)
        features = _table_of(home.features(name), _FEATURE_COLUMNS, name, required=not damaged)
        verdicts = _table_of(layout.verdicts(name), _VERDICT_COLUMNS, name, required=not damaged)
        failed_by = _check_samples(name, features, verdicts)
        counts = Counter(verdicts["verdict"].to_pylist())
        tally = ShardTally(
            name,
            features.num_rows,
            counts[Verdict.KEEP],
            counts[Verdict.DROP],
            counts[Verdict.FAILED],
        )
        tally.check()
        return _count_groups(cls(shards=(tally,), shards_failed=int(damaged), failed_by=failed_by), verdicts)

    @staticmethod
    def merge(parts: Iterable[ShardStatistics]) -> ShardStatistics:
        """Adds up any number of parts, at linear cost."""
        shards: list[ShardTally] = []
        numbers: Counter[str] = Counter()
        dropped_by: Counter[str] = Counter()
        failed_by: Counter[str] = Counter()
        component_sizes: Counter[int] = Counter()
        copies: Counter[int] = Counter()
        for part in parts:
            shards.extend(part.shards)
            numbers.update(shards_failed=part.shards_failed, groups=part.groups, orphans=part.orphans)
            dropped_by.update(part.dropped_by)
            failed_by.update(part.failed_by)
            component_sizes.update(part.component_sizes)
            copies.update(part.copies)
        shards.sort(key=lambda tally: name_order(tally.shard))
        return ShardStatistics(
            shards=tuple(shards),
            shards_failed=numbers["shards_failed"],
            groups=numbers["groups"],
            orphans=numbers["orphans"],
            dropped_by=dict(dropped_by),
            failed_by=dict(failed_by),
            component_sizes=dict(component_sizes),
            copies=dict(copies),
        )

    def finish(self, extras: Mapping[str, Any]) -> dict[str, Any]:
        """Checks that everything adds up and gives what stats/summary.json holds.

        Args:
            extras: `candidate_recall` (null where it was not measured), `bytes_read`, `bytes_written` (null
                in a dry run).

        Raises:
            ReconciliationError: Naming the numbers that do not add up.
            ValueError: If `extras` holds another name.
        """
        unknown = sorted(set(extras) - set(EXTRAS))
        if unknown:
            raise ValueError(f"summary extras {unknown} are not known; expected some of {list(EXTRAS)}")
        _check_unique(self.shards)
        total = ShardTally(
            "(all)",
            *(sum(getattr(t, name) for t in self.shards) for name in ("read", "kept", "dropped", "failed")),
        )
        total.check()
        self._check_counters(total)
        return {
            "read": total.read,
            "kept": total.kept,
            "dropped": total.dropped,
            "failed": total.failed,
            "shards_failed": self.shards_failed,
            "dropped_by": dict(sorted(self.dropped_by.items())),
            "failed_by": dict(sorted(self.failed_by.items())),
            "components": sum(samples // size for size, samples in self.component_sizes.items()),
            "participants": sum(self.component_sizes.values()),
            "redundant": total.kept + total.dropped - self.groups,
            "copies_histogram": {str(copies): self.copies[copies] for copies in sorted(self.copies)},
            **{name: extras.get(name) for name in EXTRAS},
            "shards": [
                {"shard": t.shard, "read": t.read, "kept": t.kept, "dropped": t.dropped, "failed": t.failed}
                for t in self.shards
            ],
        }

    def _check_counters(self, total: ShardTally) -> None:
        _equal("dropped, by kind", sum(self.dropped_by.values()), "dropped", total.dropped)
        _equal("failed, by reason", sum(self.failed_by.values()), "failed", total.failed)
        weighted = sum(copies * groups for copies, groups in self.copies.items())
        judged = total.kept + total.dropped
        _equal(
            "copies of all groups", weighted, "kept + dropped with a representative", judged - self.orphans
        )
        for size, samples in self.component_sizes.items():
            if samples % size:
                raise ReconciliationError(
                    f"{samples} samples say that they are in components of {size}, which is no whole number "
                    "of components: component_size in verdicts/ is wrong"
                )


def summarise(layout: RunLayout, shards: Sequence[Shard], extras: Mapping[str, Any]) -> dict[str, Any]:
    """Counts a run and proves that the numbers reconcile, per shard and in all.

    Streams one shard's features (two columns) and verdicts at a time; memory is one shard's ids, a tally a
    shard and the counters.

    Args:
        layout: The run.
        shards: All its shards, those of an older run that it was appended to included.
        extras: See `ShardStatistics.finish`.

    Returns:
        What stats/summary.json holds (see `write_summary`).

    Raises:
        ReconciliationError: Naming the shard and the numbers.
    """
    return ShardStatistics.merge(ShardStatistics.of_shard(layout, shard) for shard in shards).finish(extras)


def write_summary(layout: RunLayout, summary: Mapping[str, Any]) -> str:
    """Writes stats/summary.json and gives its path."""
    path = layout.stats("summary.json")
    write_json(path, dict(summary))
    return path


def _is_damaged(layout: RunLayout, shard: str) -> bool:
    failures = read_table_if_there(layout.shard_failures(shard), ["reason"])
    return failures is not None and not _SHARD_REASONS.isdisjoint(failures["reason"].to_pylist())


def _table_of(path: str, columns: Sequence[str], shard: str, *, required: bool) -> pa.Table:
    table = read_table_if_there(path, columns)
    if table is None and required:
        raise ReconciliationError(f"shard {shard}: {path} is missing; its samples were never judged")
    return pa.table({name: [] for name in columns}) if table is None else table


def _check_samples(shard: str, features: pa.Table, verdicts: pa.Table) -> dict[str, int]:
    """Checks that features/ and verdicts/ hold the same samples and failures; gives failures by reason."""
    status = dict(zip(features["sample_id"].to_pylist(), features["status"].to_pylist(), strict=True))
    if len(status) != features.num_rows:
        raise ReconciliationError(
            f"shard {shard}: features hold {features.num_rows} rows but {len(status)} ids"
        )
    judged = dict(zip(verdicts["sample_id"].to_pylist(), verdicts["verdict"].to_pylist(), strict=True))
    if len(judged) != verdicts.num_rows:
        raise ReconciliationError(
            f"shard {shard}: verdicts hold {verdicts.num_rows} rows but {len(judged)} ids"
        )
    for ids, where in (
        (status.keys() - judged.keys(), "features"),
        (judged.keys() - status.keys(), "verdicts"),
    ):
        if ids:
            counts = Counter(judged.values())
            raise ReconciliationError(
                f"shard {shard}: read {len(status)}, kept {counts[Verdict.KEEP]}, dropped "
                f"{counts[Verdict.DROP]}, failed {counts[Verdict.FAILED]}: {len(ids)} samples are in "
                f"{where}/ alone, the first {min(ids, key=name_order)}"
            )
    failed = {sample_id for sample_id, verdict in judged.items() if verdict == Verdict.FAILED}
    unread = {sample_id for sample_id, reason in status.items() if reason != OK}
    if failed != unread:
        example = min(failed ^ unread, key=name_order)
        raise ReconciliationError(
            f"shard {shard}: {len(unread)} samples could not be read but {len(failed)} are counted as "
            f"failed, for example {example}: status {status[example]}, verdict {judged[example]}"
        )
    return dict(Counter(reason for reason in status.values() if reason != OK))


def _count_groups(part: ShardStatistics, verdicts: pa.Table) -> ShardStatistics:
    groups = orphans = 0
    dropped_by: Counter[str] = Counter()
    sizes: Counter[int] = Counter()
    copies: Counter[int] = Counter()
    for row in verdicts.to_pylist():
        if row["verdict"] == Verdict.FAILED:
            continue
        head = row["representative_id"] or row["sample_id"]
        if row["verdict"] == Verdict.DROP:
            if not row["kind"]:
                raise ReconciliationError(
                    f"{row['sample_id']} is dropped without a kind of evidence in verdicts/"
                )
            dropped_by[row["kind"]] += 1
            orphans += head == row["sample_id"]
        elif head == row["sample_id"]:
            groups += 1
            copies[int(row["copies"] or 0)] += 1
        if (row["component_size"] or 0) >= 2:
            sizes[int(row["component_size"])] += 1
    return ShardStatistics(
        shards=part.shards,
        shards_failed=part.shards_failed,
        groups=groups,
        orphans=orphans,
        dropped_by=dict(dropped_by),
        failed_by=part.failed_by,
        component_sizes=dict(sizes),
        copies=dict(copies),
    )


def _check_unique(tallies: Sequence[ShardTally]) -> None:
    counts = Counter(tally.shard for tally in tallies)
    twice = sorted(shard for shard, times in counts.items() if times > 1)
    if twice:
        raise ReconciliationError(f"shard {twice[0]} was counted {counts[twice[0]]} times")


def _equal(what: str, got: int, of: str, expected: int) -> None:
    if got != expected:
        raise ReconciliationError(f"{what}: {got}, expected {expected} ({of}); verdicts/ are not consistent")
