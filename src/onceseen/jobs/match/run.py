"""Job 2: match, as a sequence of small graphs over durable files; redone as a whole, since it is the cheap one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from onceseen.core.config import PipelineConfig
from onceseen.core.cores import available_memory
from onceseen.core.files import read_json_if_there, remove
from onceseen.core.layout import RunLayout
from onceseen.core.records import Crawls, Shard
from onceseen.jobs.decisions import DecisionRows, Decisions, heads_of_classes, resolve_decisions
from onceseen.jobs.graphs import over_shards
from onceseen.jobs.match.asked_keys import MOST_QUERIES, AskedKeys, write_asked_keys
from onceseen.jobs.match.candidates import FindCandidatePairs, Pass
from onceseen.jobs.match.classes import STEP as STARS
from onceseen.jobs.match.classes import FindExactClasses
from onceseen.jobs.match.clustering import ClusterDuplicates, ClusterPlan
from onceseen.jobs.match.components import LabelComponents
from onceseen.jobs.match.older import STEP as OLDER_PAIRS
from onceseen.jobs.match.older import TakeOlderPairs
from onceseen.jobs.match.pairs_table import WritePairs
from onceseen.jobs.match.proposals import ProposeCompletions, ProposeLooks
from onceseen.jobs.match.recall import MeasureRecall, recall_path, write_queries
from onceseen.jobs.match.training import make_cells
from onceseen.jobs.match.verification import VerifyPairs
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.runner import Runner
from onceseen.neighbors.bands import band_partitions
from onceseen.neighbors.cells import Cells
from onceseen.neighbors.packing import ALL_PAIRS, STAR, Asked

SHUFFLE_FACTOR = 6
"""The in-process runner holds a whole shuffle in memory at four to six times its size (measured)."""
_MEMORY_SHARE = 0.4
_LOOK_ROUNDS = 4
_CLUSTER_PARTITION = 50_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MatchJob:
    """What one match job works on.

    Attributes:
        layout: A run whose extract job is done.
        shards: The input.
        config: Sections bands, cells, verify and keep are used.
        runner: Where the steps run.
        progress: Called with each step's name.
        pictures: Judged pictures and views in all: what sizes cells, passes and partitions.
        asked: Which pairs are looked for.
        asked_regions: Judged pictures and views of the queries, where pairs across are.
        crawls: First nodes of later crawls; the verdicts of older ones stand.
        older: The run of that crawl, whose pairs are taken over; None where all are looked for.
    """

    layout: RunLayout
    shards: tuple[Shard, ...]
    config: PipelineConfig
    runner: Runner
    progress: Callable[[str], None]
    pictures: int
    asked: Asked = ALL_PAIRS
    asked_regions: int = 0
    crawls: Crawls = ()
    older: RunLayout | None = None

    def run(self, decisions: DecisionRows) -> dict[str, Any]:
        """Runs all steps and leaves pairs/ and verdicts/.

        Returns:
            Facts for the summary: candidate recall and pass counts.
        """
        remove(self.layout.pairs_dir())
        self.find_classes()
        said = self._decisions(decisions)
        candidates = self.find_candidates()
        rounds = self._verify(candidates, said)
        facts = self._verdicts(candidates, rounds, said)
        WorkFiles(self.layout).clear()
        return facts

    def find_classes(self) -> None:
        """Clears what an earlier job left, and finds the exact classes."""
        WorkFiles(self.layout).clear()
        classes = FindExactClasses(self.layout, max(1, self.pictures // 200_000 + 1), self.asked)
        self.steps("exact classes", classes)

    def steps(self, name: str, *transforms: beam.PTransform, light: bool = True) -> None:
        """Runs some steps one after the other, as one graph."""
        self.progress(name)
        graph = over_shards(self.layout, self.shards, transforms, bare=True)
        self.runner.run("match-" + name.replace(" ", "-"), graph, light=light)

    def _decisions(self, rows: DecisionRows) -> Decisions:
        if not rows.digest:
            return Decisions()
        work = WorkFiles(self.layout)
        heads = heads_of_classes(work.read(STARS, s.number, STAR) for s in self.shards)
        return resolve_decisions(rows, self.layout, self.shards, heads)

    def find_candidates(self) -> tuple[str, ...]:
        """Searches bands and cells, in as many passes as the memory asks for.

        Returns:
            The steps whose files hold the pairs.
        """
        pictures = self.pictures
        if not pictures:
            return ()
        cells = None
        if self.config.cells.enabled:
            self.progress("cells")
            cells = make_cells(self.layout, self.shards, pictures, self.config.cells)
        keys = None
        if self.asked.across and self.asked_regions <= MOST_QUERIES:
            queries = [s for s in self.shards if self.asked.is_newer(s)]
            keys = write_asked_keys(self.layout, queries, self.config, cells)
        passes = self.config.cells.passes or self._passes(pictures, cells, keys)
        ranges = band_partitions(2 * pictures, self.config.bands.bands, 8 * passes)
        steps = [Pass(index, passes, ranges) for index in range(passes)]
        for step in steps:
            name = f"candidates {step.index + 1} of {passes}" if passes > 1 else "candidates"
            self.steps(name, FindCandidatePairs(self.layout, self.config, step, self.asked), light=False)
        return tuple(step.step for step in steps)

    def _passes(self, pictures: int, known: Cells | None, keys: AskedKeys | None) -> int:
        """Passes such that a pass's shuffle fits the memory at hand; one where the runner has its own shuffle."""
        if not self.runner.is_local:
            return 1
        bands, cells = self.config.bands, self.config.cells
        in_bands = bands.bands * (1 + bands.mirrored) * 41 * bands.enabled
        in_cells = cells.coarse_probes * (known.code_dimensions + 17) if known is not None else 0
        moved = pictures * (in_bands + in_cells)
        if keys is not None:
            coarse = len(known.centroids) if known is not None else 1
            moved = math.ceil(
                self.asked_regions * (in_bands + in_cells)
                + pictures
                * (in_bands * keys.share_of_values(bands.bits) + in_cells * len(keys.cells) / coarse)
            )
        wanted = moved * SHUFFLE_FACTOR / (available_memory() * _MEMORY_SHARE)
        return max(1, math.ceil(wanted))

    def _verify(self, candidates: tuple[str, ...], said: Decisions) -> tuple[str, ...]:
        """Judges the candidates by stored features, looks again where it matters, then completes components."""
        self.steps("verify", VerifyPairs(self.layout, self.config, candidates, "judged-0"), light=False)
        rounds: tuple[str, ...] = ("judged-0",)
        if self.older is not None:
            self.steps("older pairs", TakeOlderPairs(self.layout, self.older))
            rounds = (OLDER_PAIRS, *rounds)
        rounds = self._look_again(rounds, said)
        known = candidates
        for number in range(1, self.config.verify.rounds + 1):
            proposed, judged = f"completion-{number}", f"judged-{number}"
            self.steps(
                f"completion {number}",
                LabelComponents(self.layout, rounds, said),
                ProposeCompletions(self._plan(rounds, said), proposed, self.asked.since),
                VerifyPairs(self.layout, self.config, (proposed,), judged, done=known),
            )
            if not WorkFiles(self.layout).paths(proposed):
                break
            rounds = self._look_again((*rounds, judged), said)
            known = (*known, proposed)
        return rounds

    def _look_again(self, rounds: tuple[str, ...], said: Decisions) -> tuple[str, ...]:
        """Reads pictures of doubtful pairs again, a representative at a time, until none of them matters."""
        if not self.config.verify.local_features:
            return rounds
        for number in range(_LOOK_ROUNDS):
            plan = replace(self._plan(rounds, said), doubtful=True)
            asked, looked = f"looks-{len(rounds)}", f"looked-{len(rounds)}"
            patient = number < _LOOK_ROUNDS - 1
            self.steps(
                f"look again {len(rounds)}",
                LabelComponents(self.layout, rounds, said, doubtful=True),
                ProposeLooks(plan, asked, patient, self.config.verify.every_doubtful),
                VerifyPairs(self.layout, self.config, (asked,), looked, look=True),
                light=False,
            )
            if not WorkFiles(self.layout).paths(asked):
                break
            rounds = (*rounds, looked)
        return rounds

    def _verdicts(
        self, candidates: tuple[str, ...], rounds: tuple[str, ...], said: Decisions
    ) -> dict[str, Any]:
        """Decides the components, writes the tables and measures the recall of the candidate search."""
        steps = [
            LabelComponents(self.layout, rounds, said),
            ClusterDuplicates(self._plan(rounds, said)),
            WritePairs(self.layout, rounds, self.config.verify.max_unverified),
        ]
        cells = self.config.cells
        if cells.enabled and cells.recall_samples and candidates:
            write_queries(self.layout, self.shards, cells)
            steps.append(MeasureRecall(self.layout, candidates))
        self.steps("clusters", *steps)
        return read_json_if_there(recall_path(self.layout)) or {"candidate_recall": None}

    def _plan(self, rounds: tuple[str, ...], said: Decisions) -> ClusterPlan:
        partitions = max(2, self.pictures // _CLUSTER_PARTITION)
        return ClusterPlan(self.layout, self.config, rounds, said, partitions, crawls=self.crawls)
