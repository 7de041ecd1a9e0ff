"""Rules that every graph keeps: labels without lambdas, small pickles, no pixels between steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from onceseen.jobs.decisions import Decisions
from onceseen.jobs.extract_job import ExtractShards
from onceseen.jobs.match.candidates import FindCandidatePairs, Pass
from onceseen.jobs.match.classes import FindExactClasses
from onceseen.jobs.match.clustering import ClusterDuplicates, ClusterPlan
from onceseen.jobs.match.pairs_table import WritePairs
from onceseen.jobs.match.proposals import ProposeCompletions, ProposeLooks
from onceseen.jobs.match.recall import MeasureRecall
from onceseen.jobs.match.verification import VerifyPairs
from onceseen.jobs.rewrite_job import WriteDedupedShards
from transforms.conftest import FeatureRun

MAX_PICKLE = 100_000


class _Collector(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[AppliedPTransform] = []

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node)

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node)


def _transforms(run: FeatureRun) -> Iterator[beam.PTransform]:
    plan = ClusterPlan(run.layout, run.config, ("judged-0",), Decisions(), 2)
    yield ExtractShards(run.config, run.layout, "f")
    yield FindExactClasses(run.layout, 2)
    yield FindCandidatePairs(run.layout, run.config, Pass())
    yield VerifyPairs(run.layout, run.config, ("candidates-000",), "judged-0")
    yield ProposeLooks(plan, "looks-1", True)
    yield ProposeCompletions(plan, "completion-1")
    yield ClusterDuplicates(plan)
    yield WritePairs(run.layout, ("judged-0",), 8)
    yield MeasureRecall(run.layout, ("candidates-000",))
    yield WriteDedupedShards(run.config, run.layout, "f")


@pytest.fixture
def nodes(feature_run: FeatureRun) -> list[AppliedPTransform]:
    pipeline = beam.Pipeline()
    shards = pipeline | "Shards" >> beam.Create(list(feature_run.shards))
    for transform in _transforms(feature_run):
        _ = shards | type(transform).__name__ >> transform
    collector = _Collector()
    pipeline.visit(collector)
    return collector.found


def test_labels_do_not_change_with_the_code(nodes: list[AppliedPTransform]) -> None:
    labels = [n.full_label for n in nodes if n.full_label]
    ours = [
        "/".join(label.split("/")[:2]) for label in labels if "/" in label and not label.startswith("Shards/")
    ]
    assert len(ours) > 40
    assert not [label for label in ours if "lambda" in label], "below that are Beam's own steps"


def test_functions_pickle_small(nodes: list[AppliedPTransform]) -> None:
    functions = [n.transform.fn for n in nodes if isinstance(n.transform, beam.ParDo)]
    assert len(functions) > 15
    for function in functions:
        assert len(pickler.dumps(function)) < MAX_PICKLE, function


def test_shards_pickle_to_what_a_listing_should_weigh(feature_run: FeatureRun) -> None:
    assert len(pickler.dumps(dataclasses.replace(feature_run.shards[0], files=()))) < 1_000
