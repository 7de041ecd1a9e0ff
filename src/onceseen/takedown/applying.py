"""Takes samples down: ledger, verdicts, shards, statistics and the run's record, in this order.

The ledger comes first, so that a command that was killed can be given again: what it names is taken down whatever else
is asked. A shard's done mark is removed before its verdicts change and comes back when it is written again, so a mark
is true at any time. SRC is read and never written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from onceseen.core.files import (
    exists,
    file_size,
    join,
    read_json,
    read_json_if_there,
    read_table,
    remove,
    write_json,
    write_table,
)
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind, Verdict
from onceseen.jobs.decisions import DecisionRows, stored_decisions, with_takedowns, write_decisions
from onceseen.jobs.finish import write_statistics
from onceseen.jobs.lock import run_lock
from onceseen.jobs.rewrite_job import rewrite_one
from onceseen.jobs.state import DONE, Fingerprints, RunState, fingerprints
from onceseen.jobs.takedowns import Takedown, add_takedowns, read_takedowns
from onceseen.stats import ReconciliationError
from onceseen.stats.lookup import RunRecord, find_verdicts, read_run, require_verdicts
from onceseen.takedown.copies import Copy
from onceseen.takedown.deciding import decide_again

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TakedownResult:
    """What was done.

    Attributes:
        ledger: Samples that RUN/takedowns.csv names now.
        added: Those of them that are new.
        returned: Samples that had been dropped for one that is gone and are kept now, by sample_id.
        rewritten: Shards of RUN/shards that were written again.
        summary: Content of stats/summary.json.
    """

    ledger: int
    added: int
    returned: tuple[str, ...]
    rewritten: tuple[str, ...]
    summary: Mapping[str, Any]


def apply_takedown(layout: RunLayout, taken: Sequence[Copy], *, date: str, why: str) -> TakedownResult:
    """Takes samples down in a run; may be given again after a kill, with the same result.

    Cost: the verdicts of all shards and the pairs are read once, the affected shards of SRC once.

    Args:
        layout: A run whose match job is done; where its rewrite is done too, the affected shards are written again.
        taken: What goes.
        date: YYYY-MM-DD, for the ledger.
        why: For the ledger.

    Raises:
        ValueError: If the run is not finished, another version made it, a sample could not be read in the first place,
            or the ledger is damaged.
        LockHeldError: If another command works on the run.
        OSError: If SRC cannot be read, or the run cannot be written.
        ReconciliationError: If the numbers do not add up.
    """
    with run_lock(layout):
        state = _finished(layout)
        run = read_run(layout)
        _check(layout, run, taken)
        stored = stored_decisions(layout)
        prints = fingerprints(run.shards, run.config, state.content["model"], stored.digest)
        if prints.extract != state.job("extract")[1]:
            raise ValueError(
                f"{layout.run_json()} is of a run that this version would extract in another way; run `onceseen dedup` "
                "on it with the version that made it, or again"
            )
        known = read_takedowns(layout)
        before = {row.sample_id for row in known}
        _check_reproduced(
            layout, run, [c.sample_id for c in taken if c.sample_id not in before], before, stored
        )
        names = before | {copy.sample_id for copy in taken}
        rows = with_takedowns(stored, names)
        changed = decide_again(layout, run, rows.takedowns, rows)
        if state.job("rewrite")[0] == DONE:
            _check_sources(
                s for s in run.shards if s.name in changed or not exists(layout.rewrite_mark(s.name))
            )
        ledger = add_takedowns(layout, [_ledger_row(copy, date, why) for copy in taken])
        prints = fingerprints(run.shards, run.config, state.content["model"], rows.digest)
        returned = _returned(layout, changed)
        rewritten = _write(layout, run, state, changed, prints)
        _check_gone(layout, run, taken)
        write_decisions(rows, layout)
        summary = write_statistics(layout, run.shards, read_json(layout.match_facts()))
        state.mark("match", DONE, prints.match)
        if state.job("rewrite")[0] == DONE:
            state.mark("rewrite", DONE, prints.rewrite)
        return TakedownResult(len(ledger), len(ledger) - len(known), returned, rewritten, summary)


def _finished(layout: RunLayout) -> RunState:
    state = RunState.load(layout)
    if state is None:
        raise ValueError(f"{layout.root} is not a run directory: it has no run.json")
    for job in ("extract", "match"):
        if state.job(job)[0] != DONE:
            raise ValueError(f"{layout.root}: its job {job} is not done; finish `onceseen dedup` on it first")
    return state


def _check(layout: RunLayout, run: RunRecord, taken: Sequence[Copy]) -> None:
    require_verdicts(layout, run)
    for shard in run.shards:
        if shard.run:
            raise ValueError(
                f"{layout.root} was appended to {shard.run}, which holds shards of its own: take the picture down in a "
                "run over both, or in each by itself"
            )
    for copy in taken:
        if copy.verdict == Verdict.FAILED:
            raise ValueError(
                f"{copy.sample_id} could not be read, so nothing is known of it and it cannot be taken down by itself; "
                "read.on_failure: drop leaves all such samples out"
            )


def _check_reproduced(
    layout: RunLayout, run: RunRecord, new: Sequence[str], known: Iterable[str], stored: DecisionRows
) -> None:
    """Makes sure that verdicts can be decided again at all: with no new word, the run's own must come out."""
    different = decide_again(layout, run, new, with_takedowns(stored, known)) if new else {}
    if different:
        raise ValueError(
            f"{layout.root}: the verdicts of shard {min(different)} are not what its pairs come to, so they cannot be "
            "decided again. It is of another version or of keep.prefer: old, or a takedown was killed: give that one "
            "again first; else run `onceseen dedup --decisions ... --redo match` with a drop for each sample"
        )


def _check_sources(shards: Iterable[Shard]) -> None:
    """Makes sure, before anything is written, that the shards to be written again are what they were."""
    for shard in shards:
        if shard.kind is ShardKind.FOLDER:
            gone = next((f for f in shard.files if not exists(join(shard.path, f))), None)
        else:
            gone = None if file_size(shard.path) == shard.size else ""
        if gone is not None:
            raise ValueError(
                f"{join(shard.path, gone) if gone else shard.path} is gone from SRC or is not what it was, so shard "
                f"{shard.name} cannot be written again from it; put it back, or make a new run of what SRC holds now"
            )


def _check_gone(layout: RunLayout, run: RunRecord, taken: Sequence[Copy]) -> None:
    verdicts = find_verdicts(layout, run.shards, [copy.sample_id for copy in taken])
    left = [i for i, row in verdicts.items() if row.verdict != Verdict.DROP]
    if left:
        raise ReconciliationError(f"{left[0]} was to be taken down and is still kept; report this")


def _ledger_row(copy: Copy, date: str, why: str) -> Takedown:
    reason = f"{why} ({copy.relation})" if why else str(copy.relation)
    return Takedown(copy.sample_id, copy.sha256, date, reason, copy.source, copy.member)


def _returned(layout: RunLayout, changed: Mapping[str, pa.Table]) -> tuple[str, ...]:
    """Samples whose verdict turns from drop to keep."""
    found = []
    for name, after in changed.items():
        before = read_table(layout.verdicts(name), ["verdict"])["verdict"].to_pylist()
        pairs = zip(before, after["verdict"].to_pylist(), after["sample_id"].to_pylist(), strict=True)
        found += [i for old, new, i in pairs if (old, new) == (Verdict.DROP, Verdict.KEEP)]
    return tuple(found)


def _write(
    layout: RunLayout,
    run: RunRecord,
    state: RunState,
    changed: Mapping[str, pa.Table],
    prints: Fingerprints,
) -> tuple[str, ...]:
    """Verdicts, and where the set was written, the shards that they change; marks are true at any time."""
    written = state.job("rewrite")[0] == DONE
    for name, table in changed.items():
        remove(layout.rewrite_mark(name))
        write_table(layout.verdicts(name), table)
    if not written:
        return ()
    return tuple(s.name for s in run.shards if _rewrite(s, run, layout, prints.rewrite))


def _rewrite(shard: Shard, run: RunRecord, layout: RunLayout, fingerprint: str) -> bool:
    """Writes a shard without a done mark again; one that has it did not change, and is marked for what now holds."""
    mark = read_json_if_there(layout.rewrite_mark(shard.name))
    if mark is not None:
        if mark["fingerprint"] != fingerprint:
            write_json(layout.rewrite_mark(shard.name), {**mark, "fingerprint": fingerprint})
        return False
    _log.info("writing shard %s again", shard.name)
    rewrite_one(shard, run.config, layout, fingerprint)
    return True
