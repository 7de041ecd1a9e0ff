"""Each step of match as a Beam transform, on features alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from onceseen.core.files import read_json, read_table
from onceseen.core.records import node_id
from onceseen.jobs.decisions import Decisions
from onceseen.jobs.match.asked_keys import write_asked_keys
from onceseen.jobs.match.candidates import FindCandidatePairs, Pass, code_blocks
from onceseen.jobs.match.classes import FindExactClasses
from onceseen.jobs.match.clustering import ClusterDuplicates, ClusterPlan
from onceseen.jobs.match.components import LabelComponents
from onceseen.jobs.match.judged import judged_blocks, write_judged
from onceseen.jobs.match.pairs_table import WritePairs
from onceseen.jobs.match.proposals import ProposeCompletions, ProposeLooks
from onceseen.jobs.match.recall import MeasureRecall, recall_path, write_queries
from onceseen.jobs.match.training import make_cells
from onceseen.jobs.match.work import WorkFiles
from onceseen.neighbors.cells_file import read_cells
from onceseen.neighbors.packing import PAIR, STAR, Asked
from transforms.conftest import ROWS, FeatureRun

Build = Callable[[beam.Pipeline], object]


def _run(build: Build, repeat: int = 1) -> None:
    options = PipelineOptions(["--direct_runner_bundle_repeat", str(repeat), "--no_save_main_session"])
    with TestPipeline(runner=FnApiRunner(), options=options) as pipeline:
        build(pipeline)


def _apply(
    run: FeatureRun, transform: beam.PTransform, repeat: int = 1, order: Sequence[int] = (0, 1, 2)
) -> None:
    shards = [run.shards[i] for i in order]
    _run(lambda p: p | beam.Create(shards) | transform, repeat)


def _stars(run: FeatureRun) -> set[tuple[int, int, bool]]:
    work = WorkFiles(run.layout)
    return {tuple(star) for s in run.shards for star in work.read("stars", s.number, STAR).tolist()}


@pytest.mark.parametrize("partitions", [1, 5])
def test_exact_classes_cross_shards(feature_run: FeatureRun, partitions: int) -> None:
    _apply(feature_run, FindExactClasses(feature_run.layout, partitions), repeat=2)
    expected = {(node_id(s, r), node_id(0, r), s == 1) for s in (1, 2) for r in range(5)}
    assert _stars(feature_run) == expected


def test_only_what_meets_a_query_passes_the_shuffle(feature_run: FeatureRun) -> None:
    layout, shards, config = feature_run.layout, feature_run.shards, feature_run.config
    asked = Asked(node_id(2, 0), across=True)
    everything = _candidates(feature_run, 1, 1)
    across = {pair for pair in everything if pair[0] < asked.since <= pair[1]}
    assert across
    sent = {}
    for keyed in (False, True):
        if keyed:
            keys = write_asked_keys(layout, shards[2:], config, read_cells(layout.centroids()))
            assert 0 < keys.share_of_values(config.bands.bits) < 0.01
        blocks = [b for s in shards[:2] for b in code_blocks(s, layout, config, Pass(), asked)]
        sent[keyed] = sum(len(data) for (kind, *_), data in blocks if kind == "band")
        _apply(feature_run, FindCandidatePairs(layout, config, Pass(), asked))
        work = WorkFiles(layout)
        found = {tuple(p) for s in shards for p in work.read("candidates-000", s.number, PAIR).tolist()}
        assert found == across
    assert sent[True] < 0.5 * sent[False]


def _candidates(
    run: FeatureRun, passes: int, ranges: int, order: Sequence[int] = (0, 1, 2)
) -> set[tuple[int, int]]:
    WorkFiles(run.layout).clear()
    _apply(run, FindExactClasses(run.layout, 2), order=order)
    make_cells(run.layout, run.shards, 3 * ROWS, run.config.cells)
    steps = [Pass(i, passes, ranges) for i in range(passes)]
    for step in steps:
        _apply(run, FindCandidatePairs(run.layout, run.config, step), order=order)
    work = WorkFiles(run.layout)
    pairs = [work.read_all([s.step for s in steps], shard.number, PAIR) for shard in run.shards]
    return {(a, b) for a, b in np.concatenate(pairs).tolist()}


def test_candidates_are_the_planted_pairs_in_any_number_of_passes_and_order(feature_run: FeatureRun) -> None:
    found = _candidates(feature_run, passes=1, ranges=1)
    planted = {(node_id(a, r), node_id(b, r)) for r in range(5, 15) for a, b in ((0, 1), (0, 2), (1, 2))}
    assert planted <= found
    rows = {node & 0xFFFFFFFF for pair in found for node in pair}
    assert not rows & {38, 39}, "blank and failed rows are never candidates"
    heads = {node for pair in found for node in pair if node & 0xFFFFFFFF < 5}
    assert all(node >> 32 == 0 for node in heads), "members of a class are not compared, only its head"
    assert _candidates(feature_run, passes=3, ranges=2) == found
    assert _candidates(feature_run, passes=2, ranges=1, order=(2, 0, 1)) == found


def test_recall_is_measured_against_exact_search(feature_run: FeatureRun) -> None:
    _candidates(feature_run, passes=1, ranges=1)
    write_queries(feature_run.layout, feature_run.shards, feature_run.config.cells)
    _apply(feature_run, MeasureRecall(feature_run.layout, ("candidates-000",)), repeat=2)
    facts = read_json(recall_path(feature_run.layout))
    assert facts["candidate_recall"] == 1.0
    assert facts["by_cosine"][0]["pairs"] > 5
    WorkFiles(feature_run.layout).write("candidates-000", 0, np.empty(0, dtype=PAIR))
    _apply(feature_run, MeasureRecall(feature_run.layout, ("candidates-000",)))
    assert read_json(recall_path(feature_run.layout))["candidate_recall"] < 0.7


def _judge(
    run: FeatureRun,
    rows: Sequence[tuple[int, int, bool, float, float]],
    doubtful: bool = False,
    step: str = "judged-0",
) -> None:
    """Writes judged pairs (node ids a < b, verified, coverages) where VerifyPairs would."""
    by_shard: dict[int, list[dict[str, object]]] = {}
    for a, b, verified, coverage_a, coverage_b in rows:
        ids = [f"{n >> 32:05d}/{n & 0xFFFFFFFF:04d}" for n in (a, b)]
        by_shard.setdefault(b >> 32, []).append(
            {
                "sample_id_a": ids[0],
                "sample_id_b": ids[1],
                "kind": "embedding",
                "cosine": 0.9,
                "pdq_distance": 60,
                "score": 0.9 if verified else 0.1 + (b & 0xFF) / 1000,
                "verified": verified,
                "coverage_a": coverage_a,
                "coverage_b": coverage_b,
                "transform": "identity",
                "node_a": a,
                "node_b": b,
                "foreign_a": 0.0,
                "foreign_b": 0.0,
                "doubtful": doubtful,
            }
        )
    for number, found in by_shard.items():
        write_judged((number, judged_blocks(found)), run.layout, step)


def _cluster(run: FeatureRun, said: Decisions | None = None, repeat: int = 1) -> dict[str, dict[str, object]]:
    decisions = said or Decisions()
    _apply(run, LabelComponents(run.layout, ("judged-0",), decisions))
    _apply(run, ClusterDuplicates(ClusterPlan(run.layout, run.config, ("judged-0",), decisions, 4)), repeat)
    rows = [row for s in run.shards for row in read_table(run.layout.verdicts(s.name)).to_pylist()]
    assert len(rows) == 3 * ROWS
    return {str(row["sample_id"]): row for row in rows}


def test_verdicts_of_chains_classes_and_failures(feature_run: FeatureRun) -> None:
    _apply(feature_run, FindExactClasses(feature_run.layout, 2))
    n = node_id
    _judge(
        feature_run,
        [
            (n(0, 0), n(1, 20), True, 0.4, 1.0),  # a crop of the class of row 0
            (n(0, 20), n(1, 21), True, 1.0, 1.0),  # a chain
            (n(1, 21), n(2, 22), True, 1.0, 1.0),
            (n(0, 30), n(2, 30), False, 1.0, 1.0),  # not verified
            (n(0, 31), n(2, 31), True, 0.5, 0.5),  # two halves: neither holds the other
        ],
    )
    verdicts = _cluster(feature_run, repeat=2)
    assert verdicts["00001/0020"]["verdict"] == "drop"
    assert verdicts["00001/0020"]["copies"] == 4
    assert verdicts["00001/0000"]["kind"] == "bytes"
    assert verdicts["00002/0000"]["kind"] == "pixels"
    chain = [verdicts[i]["verdict"] for i in ("00000/0020", "00001/0021", "00002/0022")]
    assert chain == ["keep", "drop", "keep"] or chain == ["drop", "keep", "drop"]
    assert {verdicts[i]["component_size"] for i in ("00000/0020", "00001/0021", "00002/0022")} == {3}
    for kept in ("00000/0030", "00002/0030", "00000/0031", "00002/0031", "00000/0037"):
        assert verdicts[kept]["verdict"] == "keep"
    assert verdicts["00001/0039"]["verdict"] == "failed"
    assert verdicts["00001/0039"]["representative_id"] is None


def test_decisions_stand_above_scores(feature_run: FeatureRun) -> None:
    _apply(feature_run, FindExactClasses(feature_run.layout, 2))
    n = node_id
    _judge(feature_run, [(n(0, 20), n(1, 20), True, 1.0, 1.0)])
    said = Decisions(
        same=frozenset({(n(0, 33), n(2, 34))}),
        different=frozenset({(n(0, 20), n(1, 20))}),
        apart=frozenset({n(2, 1)}),
    )
    verdicts = _cluster(feature_run, said)
    assert {verdicts[i]["verdict"] for i in ("00000/0020", "00001/0020", "00002/0001")} == {"keep"}
    assert sorted(str(verdicts[i]["verdict"]) for i in ("00000/0033", "00002/0034")) == ["drop", "keep"]
    dropped = next(verdicts[i] for i in ("00000/0033", "00002/0034") if verdicts[i]["verdict"] == "drop")
    assert dropped["kind"] == "decision"
    assert verdicts["00001/0001"]["verdict"] == "drop"


def test_representatives_of_one_component_are_proposed(feature_run: FeatureRun) -> None:
    _apply(feature_run, FindExactClasses(feature_run.layout, 2))
    n = node_id
    _judge(feature_run, [(n(0, 20), n(1, 21), True, 1.0, 1.0), (n(1, 21), n(2, 22), True, 1.0, 0.5)])
    verdicts = _cluster(feature_run)
    kept = [i for i in ("00000/0020", "00001/0021", "00002/0022") if verdicts[i]["verdict"] == "keep"]
    plan = ClusterPlan(feature_run.layout, feature_run.config, ("judged-0",), Decisions(), 4)
    _apply(feature_run, ProposeCompletions(plan, "completion-1"))
    proposed = WorkFiles(feature_run.layout).read_all(["completion-1"], 0, PAIR).tolist()
    assert len(kept) == 2
    assert proposed == [tuple(n(int(i[:5]), int(i[6:])) for i in kept)]


def test_the_pairs_table_has_stars_and_at_most_so_many_unverified(feature_run: FeatureRun) -> None:
    _apply(feature_run, FindExactClasses(feature_run.layout, 2))
    n = node_id
    near = [(n(0, 20), n(s, r), False, 0.0, 0.0) for s in (1, 2) for r in range(10, 30)]
    _judge(feature_run, [*near, (n(0, 20), n(1, 35), True, 1.0, 1.0)])
    _apply(feature_run, WritePairs(feature_run.layout, ("judged-0",), 8), repeat=2)
    rows = [
        row
        for s in feature_run.shards
        for row in read_table(f"{feature_run.layout.pairs_dir()}/part-{s.number:06d}.parquet").to_pylist()
    ]
    assert all(row["sample_id_a"] < row["sample_id_b"] for row in rows)
    stars = [
        (r["sample_id_a"], r["sample_id_b"], r["kind"]) for r in rows if r["kind"] in ("bytes", "pixels")
    ]
    assert len(stars) == 10
    assert ("00000/0003", "00001/0003", "bytes") in stars
    assert ("00000/0003", "00002/0003", "pixels") in stars
    unverified = [r for r in rows if not r["verified"]]
    assert len(unverified) == 8
    assert min(r["score"] for r in unverified) >= 0.125, "the best ones are kept"
    assert sum(r["verified"] for r in rows) == 11


def _looks(run: FeatureRun, rounds: tuple[str, ...], step: str, patient: bool) -> list[tuple[int, int]]:
    _apply(run, LabelComponents(run.layout, rounds, Decisions(), doubtful=True))
    plan = ClusterPlan(run.layout, run.config, rounds, Decisions(), 4, doubtful=True)
    _apply(run, ProposeLooks(plan, step, patient))
    return [(a, b) for a, b in WorkFiles(run.layout).read_all([step], 0, PAIR).tolist()]


def test_only_doubtful_pairs_of_a_representative_are_looked_at(feature_run: FeatureRun) -> None:
    """Four copies, all six pairs doubtful: three looks, then none; a later round's word replaces an earlier one's."""
    _apply(feature_run, FindExactClasses(feature_run.layout, 2))
    copies = [node_id(0, r) for r in (20, 21, 22, 23)]
    pairs = [(a, b, False, 1.0, 1.0) for i, a in enumerate(copies) for b in copies[i + 1 :]]
    _judge(feature_run, pairs, doubtful=True)
    best = copies[3]  # most bytes per pixel
    asked = _looks(feature_run, ("judged-0",), "looks-1", patient=True)
    assert asked == [(other, best) for other in copies[:3]]
    answers = [
        (copies[0], best, True, 1.0, 1.0),
        (copies[1], best, True, 1.0, 1.0),
        (copies[2], best, False, 1.0, 1.0),
    ]
    _judge(feature_run, answers, step="looked-1")
    rounds = ("judged-0", "looked-1")
    assert _looks(feature_run, rounds, "looks-2", patient=True) == []
    verdicts = _cluster(feature_run)
    assert {v["verdict"] for v in verdicts.values() if v["sample_id"].startswith("00000/002")} == {"keep"}, (
        "doubt"
    )
