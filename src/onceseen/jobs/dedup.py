"""`onceseen dedup`: three jobs over durable files, each done only if it is not done already."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onceseen.core.config import PipelineConfig
from onceseen.core.features import read_model
from onceseen.core.files import (
    absolute,
    exists,
    plain_path,
    read_bytes,
    read_json,
    remove,
    write_bytes,
    write_json,
)
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, node_id
from onceseen.jobs.append import (
    OLD,
    both_decisions,
    check_new_decisions,
    newer_shards,
    older_first,
    older_shards,
)
from onceseen.jobs.checks import (
    CheckError,
    check_disk,
    check_places,
    check_workers,
    check_writable,
)
from onceseen.jobs.decisions import (
    DecisionRows,
    check_decisions,
    read_decisions,
    with_takedowns,
    write_decisions,
)
from onceseen.jobs.extract_job import ExtractShards
from onceseen.jobs.finish import write_statistics
from onceseen.jobs.lock import run_lock
from onceseen.jobs.match.run import MatchJob
from onceseen.jobs.prepare import prepare, state_there
from onceseen.jobs.reference_run import ReferenceRun, check_comparable
from onceseen.jobs.rewrite_job import WriteDedupedShards
from onceseen.jobs.runner import JobError, Runner
from onceseen.jobs.shard_jobs import ShardJobs
from onceseen.jobs.state import (
    DEDUP,
    DONE,
    RUNNING,
    Fingerprints,
    RunState,
    append_fingerprints,
    describe_difference,
    fingerprints,
)
from onceseen.jobs.takedowns import read_takedowns
from onceseen.neighbors.packing import ALL_PAIRS, Asked
from onceseen.shards import list_shards

_log = logging.getLogger(__name__)


class RunConflictError(ValueError):
    """The run directory holds another run; the message says what differs and which flag to use."""


@dataclass(frozen=True, slots=True)
class DedupRequest:
    """What a user asks of `onceseen dedup`.

    Attributes:
        sources: Files, directories or globs.
        output: Run directory.
        config: Resolved configuration.
        dry_run: Stop before the rewrite.
        decisions: Decisions file, empty for none.
        features: A finished run whose features are taken over, empty for none.
        redo: `match` or `rewrite`: what may be done again where its config differs; empty for neither.
        overwrite: Start again whatever is there.
        quiet: No progress bars.
        append_to: A finished run that the sources are appended to; None for none. `config` is then of `append_config`.
        prefix: What stands before the ids of the new samples of an appended run.
    """

    sources: tuple[str, ...]
    output: str
    config: PipelineConfig
    dry_run: bool = False
    decisions: str = ""
    features: str = ""
    redo: str = ""
    overwrite: bool = False
    quiet: bool = False
    append_to: ReferenceRun | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class DedupResult:
    """What came of it.

    Attributes:
        layout: The run.
        summary: Content of stats/summary.json.
        worked: Jobs that were done now; empty where everything was done before.
    """

    layout: RunLayout
    summary: Mapping[str, Any]
    worked: tuple[str, ...]


def run_dedup(request: DedupRequest) -> DedupResult:
    """Runs, resumes or reuses a deduplication.

    Raises:
        ValueError: Wrong usage or config, or a run directory that holds something else (exit code 2).
        CheckError, LockHeldError, JobError, ReconciliationError: The run cannot go on (exit code 1).
    """
    sources = tuple(absolute(plain_path(s)) for s in request.sources)
    layout = RunLayout.at(request.output)
    ready = prepare(request.config, sources, layout.root)
    config, model = ready.config, ready.model
    request = replace(request, config=config, sources=sources, decisions=plain_path(request.decisions))
    decisions = read_decisions(request.decisions) if request.decisions else DecisionRows()
    shards = list_shards(request.sources, config.read)
    older = request.append_to
    crawls: tuple[int, ...] = ()
    if older is not None:
        check_comparable(older, config, model.to_json() if model else None)
        check_new_decisions(older, decisions)
        decisions = both_decisions(older, decisions)
        shards = newer_shards(older, shards, request.prefix)
    elif config.keep.prefer == OLD:
        shards, crawls = older_first(shards, request.sources, config.read)
    check_places(layout, request.sources, shards)
    check_writable(layout)
    decisions = with_takedowns(decisions, (row.sample_id for row in read_takedowns(layout)))
    with run_lock(layout):
        job = _Dedup(request, layout, shards, model.to_json() if model else None, decisions, crawls)
        return job.run()


@dataclass(slots=True)
class _Dedup:
    """One run under its lock."""

    request: DedupRequest
    layout: RunLayout
    shards: Sequence[Shard]
    model: Mapping[str, Any] | None
    decisions: DecisionRows
    crawls: tuple[int, ...] = ()
    runner: Runner = field(init=False)
    prints: Fingerprints = field(init=False)
    jobs: ShardJobs = field(init=False)

    def __post_init__(self) -> None:
        self.runner = Runner(self.request.config.runner)
        self.jobs = ShardJobs(self.layout, self.shards, self.runner, show=not self.request.quiet)
        self.prints = fingerprints(self.shards, self.request.config, self.model, self.decisions.digest)
        older = self.request.append_to
        if older is not None:
            self.prints = append_fingerprints(self.prints, older.match)
            self.crawls = (*older.crawls, older.next_number)

    @property
    def every(self) -> list[Shard]:
        """The shards of the run that is appended to, if any, then the input's."""
        older = self.request.append_to
        return [*(older_shards(older, self.layout) if older else ()), *self.shards]

    def run(self) -> DedupResult:
        """Does what is not done."""
        state = self._open_state()
        worked = []
        if not state.is_done("extract", self.prints.extract):
            self._check_before(state)
            self._extract(state)
            worked.append("extract")
        facts_path = self.layout.match_facts()
        if not state.is_done("match", self.prints.match):
            self._match(state)
            worked.append("match")
        facts = read_json(facts_path)
        if not self.request.dry_run and not state.is_done("rewrite", self.prints.rewrite):
            self._check_failures()
            self._rewrite(state)
            worked.append("rewrite")
        summary_path = self.layout.stats("summary.json")
        if worked or not exists(summary_path):
            self._say("statistics and report")
            with self.jobs.timed("finish"):
                summary = write_statistics(self.layout, self.every, facts)
            write_json(self.layout.timings_json(), self.jobs.timings)
        else:
            summary = read_json(summary_path)
        return DedupResult(self.layout, summary, tuple(worked))

    def _open_state(self) -> RunState:
        """The run's state, after every reason to refuse it has been looked at."""
        state = state_there(self.layout, DEDUP, overwrite=self.request.overwrite)
        if state is None:
            state = RunState.start(
                self.layout, self.every, self.request.config, self.model, crawls=self.crawls
            )
        elif state.job("extract")[1] != self.prints.extract:
            different = describe_difference(state, self.every, self.request.config, self.model)
            raise RunConflictError(
                f"{self.layout.root} holds a run of something else: {'; '.join(different) or 'another version'}. "
                "Use another --output, or --overwrite to start again"
            )
        else:
            if state.is_done("extract", self.prints.extract):
                check_decisions(self.decisions, self.layout, self.every)
            self._refuse_silent_redo(state)
            state.describe(self.request.config)
        if self.request.features and not state.is_done("extract", self.prints.extract):
            self._take_features(state)
        return state

    def _refuse_silent_redo(self, state: RunState) -> None:
        """A finished job whose config differs is done again only when that is asked for."""
        redo = self.request.redo
        stale = [
            name
            for name, now in (("match", self.prints.match), ("rewrite", self.prints.rewrite))
            if state.job(name)[0] == DONE and state.job(name)[1] != now
        ]
        if self.request.dry_run:
            stale = [name for name in stale if name == "match"]
        if stale and redo not in stale[:1] and redo != "match":
            raise RunConflictError(
                f"{self.layout.root}: the config of {' and '.join(stale)} differs from the finished run; "
                f"--redo {stale[0]} would do {' and '.join(stale)} again (nothing is embedded again)"
            )
        if redo == "match":
            state.mark("match", "", "")
        elif redo == "rewrite":
            state.mark("rewrite", "", "")
            self._remove_rewrite()

    def _remove_rewrite(self) -> None:
        for path in (self.layout.shards_dir(), self.layout.rewrite_marks_dir()):
            remove(path)

    def _take_features(self, state: RunState) -> None:
        """Copies the features of another run of the same input, model and extract config."""
        other = RunLayout.at(self.request.features)
        found = RunState.load(other)
        if found is None or not found.is_done("extract", self.prints.extract):
            different = (
                []
                if found is None
                else describe_difference(found, self.shards, self.request.config, self.model)
            )
            raise RunConflictError(
                f"--features {other.root} cannot be used: "
                + (
                    "there is no run"
                    if found is None
                    else "; ".join(different) or "its extract job is not finished"
                )
            )
        state.mark("extract", RUNNING, self.prints.extract)
        for shard in self.shards:
            if read_model(other, shard) != self.model:
                raise RunConflictError(
                    f"--features {other.root}: shard {shard.name} was embedded by another model"
                )
            for name in ("features", "thumbs", "shard_failures", "extract_summary"):
                write_bytes(
                    getattr(self.layout, name)(shard.name), read_bytes(getattr(other, name)(shard.name))
                )
        state.mark("extract", DONE, self.prints.extract)

    def _check_before(self, state: RunState) -> None:
        left = self.jobs.left("extract", self.prints.extract)
        check_disk(self.layout, extract=left, rewrite=self.shards, dry_run=self.request.dry_run)
        state.mark("extract", RUNNING, self.prints.extract)  # workers read the input listing from run.json
        if left:
            check_workers(self.layout, left, self.runner)

    def _extract(self, state: RunState) -> None:
        transform = ExtractShards(self.request.config, self.layout, self.prints.extract)
        self.jobs.run(state, "extract", transform, self.prints.extract)

    def _match(self, state: RunState) -> None:
        check_decisions(self.decisions, self.layout, self.every)
        state.mark("match", RUNNING, self.prints.match)
        self._remove_rewrite()
        write_decisions(self.decisions, self.layout)
        with self.jobs.timed("match"):
            write_json(self.layout.match_facts(), self._match_job().run(self.decisions))
        state.mark("match", DONE, self.prints.match)

    def _match_job(self) -> MatchJob:
        shards, older = self.every, self.request.append_to
        crawls = tuple(node_id(number, 0) for number in self.crawls)
        marks = (read_json(self.layout.of(s).extract_summary(s.name)) for s in shards)
        return MatchJob(
            self.layout,
            tuple(shards),
            self.request.config,
            self.runner,
            self._say,
            sum(mark["regions"] for mark in marks),
            Asked(crawls[-1]) if older else ALL_PAIRS,
            crawls=crawls,
            older=older.layout if older else None,
        )

    def _extract_marks(self) -> list[Mapping[str, Any]]:
        return [read_json(self.layout.extract_summary(s.name)) for s in self.shards]

    def _check_failures(self) -> None:
        """Too many failed samples stop the run before anything is written."""
        marks = self._extract_marks()
        read, failed = sum(m["read"] for m in marks), sum(m["failed"] for m in marks)
        allowed = self.request.config.read.max_failed_fraction
        if read and failed / read > allowed:
            reasons = sum((Counter(m["failed_by"]) for m in marks), Counter[str]())
            raise JobError(
                f"{failed:,} of {read:,} samples failed ({failed / read:.1%}), more than read.max_failed_fraction "
                f"{allowed:.1%} ({', '.join(f'{n:,} {reason}' for reason, n in reasons.most_common())}; each is in "
                f"{self.layout.path('failures')}). Where that is right, run again with "
                "--set read.max_failed_fraction=1: nothing is extracted or matched again"
            )

    def _rewrite(self, state: RunState) -> None:
        if state.job("rewrite")[1] not in ("", self.prints.rewrite):
            self._remove_rewrite()
        check_disk(self.layout, rewrite=self.jobs.left("rewrite", self.prints.rewrite))
        state.mark("rewrite", RUNNING, self.prints.rewrite)
        transform = WriteDedupedShards(self.request.config, self.layout, self.prints.rewrite)
        self.jobs.run(state, "rewrite", transform, self.prints.rewrite)

    def _say(self, text: str) -> None:
        """One line a step; a person sees what is going on, a log has when."""
        _log.info("%s", text)


__all__ = ["CheckError", "DedupRequest", "DedupResult", "RunConflictError", "run_dedup"]
