"""`onceseen audit`: what a generator has memorised of the pictures it was trained on.

OUT/scan and OUT/held-out are scans against the run, each resumed by itself; what the audit adds to them is redone as a
whole. The steps are graphs over the shards that OUT/run.json lists: see `plan`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam

from onceseen.core.config import PipelineConfig
from onceseen.core.files import absolute, exists, plain_path, read_json, remove, write_json, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.audit.facts import Facts, gather_facts
from onceseen.jobs.audit.finish import write_audit_results
from onceseen.jobs.audit.given import (
    REMEDY,
    PromptTable,
    Truth,
    check_prompts,
    check_truth,
    no_prompt,
    read_prompt_table,
    read_truth,
)
from onceseen.jobs.audit.judging import JudgePrompts
from onceseen.jobs.audit.nearest import MeasureNearest
from onceseen.jobs.audit.plan import PROBES, TABLE, AuditPlan
from onceseen.jobs.audit.prompts import PROMPT, SEED, ReadPrompts
from onceseen.jobs.audit.thresholds import AuditThresholds, find_thresholds
from onceseen.jobs.audit.training import LookUpTraining, ReadTrainingProbes, SearchTraining
from onceseen.jobs.checks import check_places, check_writable
from onceseen.jobs.graphs import over_shards
from onceseen.jobs.lock import run_lock
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.prepare import prepare, state_there
from onceseen.jobs.reference_run import ReferenceRun, check_comparable, scan_config
from onceseen.jobs.runner import Runner
from onceseen.jobs.scan.run import ScanRequest, run_scan
from onceseen.jobs.state import AUDIT, DONE, RUNNING, SCAN, RunState, audit_fingerprint
from onceseen.shards import list_shards

_PARTITION = 100_000
"""Generations whose prompts are brought together in one partition: 1.6 MB."""

_SCAN, _HELD_OUT = "scan", "held-out"
"""Directories of the scans as OUT/run.json names them, beside itself: OUT can be moved."""

_PRODUCTS = (
    "prompts.parquet",
    "generations.parquet",
    "summary.json",
    "thresholds.json",
    "delete_list.csv",
    "report.html",
)
_LEAST_SIDE = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What a user asks of `onceseen audit`.

    Attributes:
        generations: Files, directories or globs.
        reference: The run that was trained on, from `open_reference`.
        output: Directory of the results.
        config: From `audit_config`.
        held_out: Files, directories or globs of pictures that were not trained on; empty for none.
        table: Table of prompts, empty for none.
        truth: Table of known answers, empty for none.
        overwrite: Start again whatever is there.
        quiet: No progress bars.
    """

    generations: tuple[str, ...]
    reference: ReferenceRun
    output: str
    config: PipelineConfig
    held_out: tuple[str, ...] = ()
    table: str = ""
    truth: str = ""
    overwrite: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What came of it.

    Attributes:
        layout: The audit.
        summary: Content of OUT/summary.json.
        worked: Whether anything was done now.
    """

    layout: RunLayout
    summary: Mapping[str, Any]
    worked: bool


def audit_config(reference: ReferenceRun, path: str | None, overrides: Sequence[str]) -> PipelineConfig:
    """The configuration of a scan, the samples' prompts and seeds being kept.

    Raises:
        ValueError: As `scan_config`.
    """
    config = scan_config(reference, path, overrides, "flag")
    return replace(config, read=replace(config.read, meta_columns=(PROMPT, SEED)))


def run_audit(request: AuditRequest) -> AuditResult:
    """Runs, resumes or reuses an audit.

    Raises:
        ValueError: Wrong usage or config, a reference of another model, generations without prompts, or a directory
            that holds something else.
        CheckError, LockHeldError, JobError, ReconciliationError: The audit cannot go on.
    """
    generations, held_out = (
        tuple(absolute(plain_path(place)) for place in places)
        for places in (request.generations, request.held_out)
    )
    layout = RunLayout.at(request.output)
    sources = (*generations, *held_out)
    ready = prepare(request.config, (*sources, request.reference.layout.root), layout.root)
    model = ready.model.to_json() if ready.model else None
    request = replace(request, generations=generations, held_out=held_out, config=ready.config)
    check_comparable(request.reference, request.config, model)
    _check_edges(request.config, model)
    table, truth = read_prompt_table(plain_path(request.table)), read_truth(plain_path(request.truth))
    sets = _list_sets(request)
    check_places(layout, sources, [*sets.generated, *sets.held_out], AUDIT)
    check_writable(layout)
    with run_lock(layout):
        return _Audit(request, layout, sets, table, truth).run()


@dataclass(frozen=True, slots=True)
class _Sets:
    """The three sets of shards, numbered on through all of them."""

    training: tuple[Shard, ...]
    generated: tuple[Shard, ...]
    held_out: tuple[Shard, ...]

    @property
    def every(self) -> tuple[Shard, ...]:
        return (*self.training, *self.generated, *self.held_out)


def _list_sets(request: AuditRequest) -> _Sets:
    """Lists the shards; those of the generations have the numbers that their scan gives them."""
    read = request.config.read
    first = request.reference.next_number
    generated = [
        replace(s, number=first + s.number, run=_SCAN) for s in list_shards(request.generations, read)
    ]
    after = first + len(generated)
    others = list_shards(request.held_out, read) if request.held_out else []
    held_out = [replace(s, number=after + s.number, run=_HELD_OUT) for s in others]
    return _Sets(request.reference.shards, tuple(generated), tuple(held_out))


def _check_edges(config: PipelineConfig, model: Mapping[str, Any] | None) -> None:
    """Refuses a graph of embeddings where there are none.

    Raises:
        ValueError: Saying what to set.
    """
    if model is None and config.audit.edges != "pixels":
        raise ValueError(
            f"audit.edges is {config.audit.edges!r}, and the reference has no embeddings (embed.model: none); "
            "expected audit.edges=pixels"
        )


@dataclass(slots=True)
class _Audit:
    """One audit under its lock."""

    request: AuditRequest
    layout: RunLayout
    sets: _Sets
    table: PromptTable
    truth: Truth
    runner: Runner = field(init=False)
    plan: AuditPlan = field(init=False)
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runner = Runner(self.request.config.runner)
        first = self.request.reference.next_number
        self.plan = AuditPlan(
            self.layout,
            self.request.reference.layout,
            self.request.config,
            first,
            first + len(self.sets.generated),
        )

    def run(self) -> AuditResult:
        """Does what is not done."""
        state = self._open_state()
        scans = self._scan()
        files = (self.table.digest, self.truth.digest)
        fingerprint = audit_fingerprint(scans, self.request.config, files)
        path = self.layout.path("summary.json")
        if state.is_done(AUDIT, fingerprint) and exists(path):
            return AuditResult(self.layout, read_json(path), False)
        state.list_shards(self.sets.every)  # workers read the listing from run.json
        state.describe(self.request.config)
        state.mark(AUDIT, RUNNING, fingerprint)
        for product in _PRODUCTS:
            remove(self.layout.path(product))
        summary = self._audit()
        state.mark(AUDIT, DONE, fingerprint)
        write_json(self.layout.timings_json(), self.timings)
        return AuditResult(self.layout, summary, True)

    def _open_state(self) -> RunState:
        """The audit's state; written before its scans begin, so that a killed one is known as an audit's."""
        request = self.request
        state = state_there(self.layout, AUDIT, overwrite=request.overwrite)
        if state is None or not state.job(AUDIT)[1]:
            check_prompts(self.sets.generated, request.config.read, self.table)
        if state is None:
            state = RunState.start(
                self.layout, self.sets.every, request.config, request.reference.model, AUDIT
            )
            state.mark(AUDIT, "", "")
        return state

    def _scan(self) -> list[str]:
        """Scans generations and held-out pictures; the fingerprints of what was found."""
        found = []
        places = [(self.request.generations, self.layout.audit_scan())]
        if self.request.held_out:
            places.append((self.request.held_out, self.layout.audit_held_out()))
        for queries, layout in places:
            _log.info("scan of %s", ", ".join(queries))
            with self._timed(f"{layout.root.rpartition('/')[2]}"):
                request = ScanRequest(
                    queries,
                    self.request.reference,
                    layout.root,
                    self.request.config,
                    quiet=self.request.quiet,
                )
                run_scan(request)
            state = RunState.load(layout, SCAN)
            if state is None:
                raise ValueError(f"{layout.root} has no run.json after its scan; run the same command again")
            found.append(state.job("match")[1])
        return found

    def _audit(self) -> Mapping[str, Any]:
        """The steps of the audit itself."""
        work = WorkFiles(self.layout)
        work.clear()
        with self._timed("audit"):
            if self.table.rows is not None:
                write_table(work.path(TABLE, 0, "parquet"), self.table.rows)
            facts, side = self._prompts()
            self._steps(
                "training",
                self.sets.training,
                LookUpTraining(self.plan),
                ReadTrainingProbes(self.plan),
                SearchTraining(self.plan),
            )
            probed = set(work.numbers(PROBES))
            measured = [s for s in self.sets.every if s.number in probed]
            self._steps("pixels", measured, MeasureNearest(self.plan, side))
            thresholds = self._thresholds(side)
            judge = JudgePrompts(
                self.plan, thresholds.values, side, facts.commonest, facts.generated.read // _PARTITION + 1
            )
            self._steps("cliques", self.sets.generated, judge)
            summary = write_audit_results(self.plan, self.sets.every, facts, thresholds, self.truth)
        work.clear()
        return summary

    def _prompts(self) -> tuple[Facts, int]:
        """Reads the prompts; refuses what is no audit of these. Returns the facts and the side of the squares."""
        shards = (*self.sets.generated, *self.sets.held_out)
        self._steps("prompts", shards, ReadPrompts(self.plan), light=True)
        facts = gather_facts(self.plan, shards)
        counts = facts.generated
        if not facts.texts:
            raise ValueError(no_prompt(counts.without[0], counts.read - counts.failed, self.table))
        check_truth(self.truth, facts.texts, ", ".join(self.request.generations))
        for warning in _counted(facts, self.table):
            _log.warning("%s", warning)
        config = self.request.config.audit
        return facts, config.side or max(_LEAST_SIDE, min(facts.commonest, config.max_side))

    def _thresholds(self, side: int) -> AuditThresholds:
        return find_thresholds(
            self.plan,
            self.sets.every,
            side,
            held_out=bool(self.sets.held_out),
            has_embeddings=self.request.reference.model is not None,
        )

    def _steps(
        self, name: str, shards: Sequence[Shard], *transforms: beam.PTransform, light: bool = False
    ) -> None:
        """Runs some steps one after the other, as one graph."""
        _log.info("%s", name)
        graph = over_shards(self.layout, shards, transforms, bare=True)
        self.runner.run(f"audit-{name}", graph, light=light)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.timings[f"{name}_s"] = round(time.monotonic() - started, 3)


def _counted(facts: Facts, table: PromptTable) -> Iterator[str]:
    """What a user should know of the generations before the audit is done."""
    counts = facts.generated
    if counts.without_prompt:
        yield (
            f"{counts.without_prompt:,} generations have no prompt and are not judged, for example "
            f"{', '.join(counts.without)}: {REMEDY}"
        )
    if table.rows is not None and counts.in_table < len(table.rows):
        yield f"{len(table.rows) - counts.in_table:,} rows of --table {table.path} name no generation that was read"
    if facts.held_out.overlapping:
        yield (
            f"{facts.held_out.overlapping:,} of {facts.held_out.read:,} held-out pictures are in the training set "
            "and are left out of the calibration"
        )
