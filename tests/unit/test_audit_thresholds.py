"""Which thresholds an audit goes by: set, or calibrated on the right pictures, with what a reader should know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onceseen.core.config import AuditConfig, PipelineConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind, node_id
from onceseen.jobs.audit.nearest import nearest_and_second
from onceseen.jobs.audit.plan import EXACT, MEASURED, AuditPlan
from onceseen.jobs.audit.thresholds import AuditThresholds, find_thresholds

TRAINING, GENERATED, HELD_OUT = (
    Shard(n, f"{n}", ShardKind.TAR, f"{n}.tar", 1, "1", run=run)
    for n, run in enumerate(("", "scan", "held-out"))
)


def _plan(root: Path, **settings: object) -> AuditPlan:
    config = replace(PipelineConfig(), audit=AuditConfig(edge_cosine=0.9, **settings))  # type: ignore[arg-type]
    return AuditPlan(RunLayout(str(root)), RunLayout("unread"), config, 1, 2)


def _measure(plan: AuditPlan, shard: Shard, nearest: list[float], second: float = 1.0) -> None:
    """As if each of some pictures had two candidates."""
    rows = [
        (node_id(shard.number, row), node_id(0, 7 + place), 70 + place, distance, 0.5)
        for row, first in enumerate(nearest)
        for place, distance in enumerate((first, second))
    ]
    plan.work.write(MEASURED, shard.number, np.array(rows, dtype=EXACT))


def _found(plan: AuditPlan, *, held_out: bool) -> AuditThresholds:
    shards = (TRAINING, GENERATED, HELD_OUT)
    return find_thresholds(plan, shards, 64, held_out=held_out, has_embeddings=False)


def _spread(low: float, count: int) -> list[float]:
    return [low + 0.001 * i for i in range(count)]


@pytest.mark.parametrize(("held_out", "source", "low"), [(True, "held-out", 0.4), (False, "training", 0.2)])
def test_the_distance_is_calibrated_on_the_right_pictures(
    held_out: bool, source: str, low: float, tmp_path: Path
) -> None:
    plan = _plan(tmp_path, max_rate=0.02)
    for shard, at in ((TRAINING, 0.2), (GENERATED, 0.01), (HELD_OUT, 0.4)):
        _measure(plan, shard, _spread(at, 100))
    found = _found(plan, held_out=held_out)
    assert (found.calibrated_on, found.matched, found.tried, found.warnings) == (source, 2, 100, ())
    assert low + 0.001 < found.values.match_distance < low + 0.002
    assert found.values.edge_distance == found.values.match_distance
    assert found.to_json()["match_distance"] == found.values.match_distance


def test_a_distance_that_was_set_is_taken_and_nothing_is_calibrated(tmp_path: Path) -> None:
    plan = _plan(tmp_path, match_distance=0.15, edge_distance=0.1, min_clique=4, edges="either")
    found = _found(plan, held_out=False)
    assert (found.calibrated_on, found.tried) == ("set", 0)
    values = found.values
    assert (values.match_distance, values.edge_distance, values.edge_cosine) == (0.15, 0.1, 0.9)
    assert (values.min_clique, values.edges, values.match_ratio) == (4, "either", 0.75)
    assert found.to_json()["edge_cosine"] is None, "there are no embeddings"


def test_few_pictures_are_said_to_be_few(tmp_path: Path) -> None:
    plan = _plan(tmp_path, max_rate=0.01)
    _measure(plan, HELD_OUT, _spread(0.3, 20))
    found = _found(plan, held_out=True)
    assert found.matched == 0
    assert found.values.match_distance < 0.3
    (warning,) = found.warnings
    assert warning.startswith(
        "calibrated on 20 held-out pictures, fewer than 1 / audit.max_rate = 100: none of them"
    )
    assert "at most 16.1% match (95%)" in warning


def test_a_distance_that_nothing_limits_is_said_to_be_one(tmp_path: Path) -> None:
    plan = _plan(tmp_path, max_rate=0.02)
    _measure(plan, HELD_OUT, _spread(0.4, 100), second=0.41)
    found = _found(plan, held_out=True)
    assert not found.limited
    assert "audit.match_ratio alone keeps held-out pictures from matching" in found.warnings[0]


def test_without_pictures_to_calibrate_on_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"give --held-out pictures that can be read, or set audit\.match_distance"
    ):
        _found(_plan(tmp_path), held_out=True)


def test_the_nearest_and_the_second_are_by_picture() -> None:
    rows = [
        (5, 1, 1, 0.1, 0),
        (5, 2, 2, 0.2, 0),
        (5, 3, 3, 0.3, 0),
        (6, 1, 1, 0.4, 0),
        (9, 1, 1, 0.5, 0),
        (9, 2, 2, 0.6, 0),
    ]
    first, second = nearest_and_second(np.array(rows, dtype=EXACT))
    assert first.tolist() == np.array([0.1, 0.4, 0.5], np.float32).tolist()
    assert second.tolist() == np.array([0.2, np.inf, 0.6], np.float32).tolist()
    assert [len(x) for x in nearest_and_second(np.empty(0, dtype=EXACT))] == [0, 0]
