"""`onceseen scan`: queries are extracted, held against a finished run, and said of what they are.

The scan's directory lists the reference's shards before its own, each with the run that holds its features, so that the
steps of match work on both; pairs of two reference pictures, or of two queries, are never looked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onceseen.core.config import PipelineConfig
from onceseen.core.files import (
    absolute,
    exists,
    plain_path,
    read_json,
    remove,
    write_json,
)
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, node_id
from onceseen.jobs.checks import check_disk, check_places, check_workers, check_writable
from onceseen.jobs.decisions import DecisionRows, read_decisions, write_decisions
from onceseen.jobs.dedup import RunConflictError
from onceseen.jobs.extract_job import ExtractShards
from onceseen.jobs.lock import run_lock
from onceseen.jobs.match.run import MatchJob
from onceseen.jobs.match.verification import VerifyPairs
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.prepare import prepare, state_there
from onceseen.jobs.reference_run import ReferenceRun, check_comparable
from onceseen.jobs.rewrite_job import WriteDedupedShards
from onceseen.jobs.runner import JobError, Runner
from onceseen.jobs.scan.contaminated import WriteContaminated, gather_components
from onceseen.jobs.scan.findings import FindingsPlan, WriteFindings
from onceseen.jobs.scan.finish import write_scan_results
from onceseen.jobs.shard_jobs import ShardJobs
from onceseen.jobs.state import (
    DONE,
    RUNNING,
    SCAN,
    Fingerprints,
    RunState,
    describe_difference,
    fingerprints,
    scan_fingerprints,
)
from onceseen.neighbors.packing import Asked
from onceseen.shards import list_shards

_JUDGED = "judged-0"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What a user asks of `onceseen scan`.

    Attributes:
        queries: Files, directories or globs.
        reference: The run to search, from `open_reference`.
        output: Directory of the results.
        config: From `scan_config`.
        apply: Whether the query set (policy flag) or the reference (decontaminate) is written again.
        decisions: Decisions file, empty for none.
        overwrite: Start again whatever is there.
        quiet: No progress bars.
    """

    queries: tuple[str, ...]
    reference: ReferenceRun
    output: str
    config: PipelineConfig
    apply: bool = False
    decisions: str = ""
    overwrite: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What came of it.

    Attributes:
        layout: The scan.
        summary: Content of OUT/summary.json.
        worked: Jobs that were done now.
    """

    layout: RunLayout
    summary: Mapping[str, Any]
    worked: tuple[str, ...]


def run_scan(request: ScanRequest) -> ScanResult:
    """Runs, resumes or reuses a scan.

    Raises:
        ValueError: Wrong usage or config, a reference of another model, or a directory that holds something else.
        CheckError, LockHeldError, JobError, ReconciliationError: The scan cannot go on.
    """
    queries = tuple(absolute(plain_path(q)) for q in request.queries)
    layout = RunLayout.at(request.output)
    ready = prepare(request.config, (*queries, request.reference.layout.root), layout.root)
    config, model = ready.config, ready.model
    request = replace(request, config=config, queries=queries, decisions=plain_path(request.decisions))
    decisions = read_decisions(request.decisions) if request.decisions else DecisionRows()
    check_comparable(request.reference, config, model.to_json() if model else None)
    first = request.reference.next_number
    shards = [replace(s, number=first + s.number) for s in list_shards(request.queries, config.read)]
    check_places(layout, request.queries, shards, SCAN)
    check_writable(layout)
    with run_lock(layout):
        return _Scan(request, layout, shards, decisions).run()


@dataclass(slots=True)
class _Scan:
    """One scan under its lock."""

    request: ScanRequest
    layout: RunLayout
    shards: list[Shard]
    decisions: DecisionRows
    runner: Runner = field(init=False)
    prints: Fingerprints = field(init=False)
    jobs: ShardJobs = field(init=False)

    def __post_init__(self) -> None:
        config, reference = self.request.config, self.request.reference
        self.runner = Runner(config.runner)
        own = fingerprints(self.shards, config, reference.model, self.decisions.digest)
        self.prints = scan_fingerprints(own, config, reference.match)
        self.jobs = ShardJobs(self.layout, self.shards, self.runner, show=not self.request.quiet)

    @property
    def every(self) -> list[Shard]:
        """The reference's shards, then the queries'."""
        return [*self.request.reference.shards, *self.shards]

    @property
    def written(self) -> list[Shard]:
        """The shards that `--apply` writes again."""
        flag = self.request.config.scan.policy == "flag"
        return self.shards if flag else list(self.request.reference.shards)

    def run(self) -> ScanResult:
        """Does what is not done."""
        state = self._open_state()
        worked = []
        if not state.is_done("extract", self.prints.extract):
            self._extract(state)
            worked.append("extract")
        if not state.is_done("match", self.prints.match):
            self._match(state)
            worked.append("match")
        if self.request.apply and not state.is_done("rewrite", self.prints.rewrite):
            self._rewrite(state)
            worked.append("rewrite")
        path = self.layout.path("summary.json")
        if worked or not exists(path):
            with self.jobs.timed("finish"):
                summary = write_scan_results(
                    self.layout, self.request.reference, self.shards, self.request.config
                )
            write_json(self.layout.timings_json(), self.jobs.timings)
        else:
            summary = read_json(path)
        return ScanResult(self.layout, summary, tuple(worked))

    def _open_state(self) -> RunState:
        """The scan's state, after every reason to refuse it has been looked at."""
        state = state_there(self.layout, SCAN, overwrite=self.request.overwrite)
        config, model = self.request.config, self.request.reference.model
        if state is None:
            return RunState.start(self.layout, self.every, config, model, SCAN)
        if state.job("extract")[1] not in ("", self.prints.extract):
            different = describe_difference(state, self.every, config, model)
            raise RunConflictError(
                f"{self.layout.root} holds a scan of something else: {'; '.join(different) or 'another version'}. "
                "Use another --output, or --overwrite to start again"
            )
        state.list_shards(self.every)
        state.describe(config)
        return state

    def _extract(self, state: RunState) -> None:
        left = self.jobs.left("extract", self.prints.extract)
        check_disk(self.layout, extract=left, dry_run=not self.request.apply)
        state.mark("extract", RUNNING, self.prints.extract)  # workers read the listing from run.json
        if left:
            check_workers(self.layout, left, self.runner)
        transform = ExtractShards(self.request.config, self.layout, self.prints.extract)
        self.jobs.run(state, "extract", transform, self.prints.extract)

    def _match(self, state: RunState) -> None:
        """Searches the reference for each query, looks again where it matters, writes the findings."""
        request = self.request
        state.mark("match", RUNNING, self.prints.match)
        for name in ("findings", "verdicts", "shards"):
            remove(self.layout.path(name))
        remove(self.layout.rewrite_marks_dir())
        write_decisions(self.decisions, self.layout)
        with self.jobs.timed("match"):
            asked = Asked(node_id(request.reference.next_number, 0), across=True)
            pictures, own = self._regions()
            shards = tuple(self.every)
            job = MatchJob(self.layout, shards, request.config, self.runner, _say, pictures, asked, own)
            job.find_classes()
            candidates = job.find_candidates()
            look = request.config.verify.local_features
            likeliest = request.config.scan.looks if look else 0
            verify = VerifyPairs(
                self.layout, request.config, candidates, _JUDGED, look=look, likeliest=likeliest
            )
            plan = FindingsPlan(
                self.layout, request.reference.layout, request.config, asked, _JUDGED, self.decisions
            )
            job.steps("findings", verify, WriteFindings(plan), light=False)
            if request.config.scan.policy == "decontaminate":
                gather_components(self.layout)
                clean = replace(job, shards=request.reference.shards)
                clean.steps("contaminated", WriteContaminated(self.layout, request.reference.layout))
            WorkFiles(self.layout).clear()
        state.mark("match", DONE, self.prints.match)

    def _regions(self) -> tuple[int, int]:
        """Judged pictures and views in all, and of the queries."""
        marks = [read_json(self.layout.of(s).extract_summary(s.name)) for s in self.every]
        failed, read = (sum(m[name] for m in marks[-len(self.shards) :]) for name in ("failed", "read"))
        if read == 0:
            raise JobError(
                f"QUERY {', '.join(self.request.queries)} holds no pictures; nothing was said of any"
            )
        if failed == read:
            reasons = sorted({reason for m in marks[-len(self.shards) :] for reason in m["failed_by"]})
            raise JobError(
                f"none of the {read:,} queries could be read ({', '.join(reasons)}); each is in "
                f"{self.layout.path('failures')}"
            )
        regions = [m["regions"] for m in marks]
        return sum(regions), sum(regions[-len(self.shards) :])

    def _rewrite(self, state: RunState) -> None:
        config, reference = self.request.config, self.request.reference
        if config.scan.policy != "flag":
            config = replace(config, read=reference.config.read)
        jobs = replace(self.jobs, shards=self.written)
        check_disk(self.layout, rewrite=jobs.left("rewrite", self.prints.rewrite))
        state.mark("rewrite", RUNNING, self.prints.rewrite)
        transform = WriteDedupedShards(config, self.layout, self.prints.rewrite)
        jobs.run(state, "rewrite", transform, self.prints.rewrite)


def _say(text: str) -> None:
    _log.info("%s", text)
