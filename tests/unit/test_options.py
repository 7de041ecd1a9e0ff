"""Views of Beam's options that are made once."""

from __future__ import annotations

import copy
import pickle

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    PipelineOptions,
    StandardOptions,
    TypeOptions,
    WorkerOptions,
)

from onceseen.core.config import RunnerConfig
from onceseen.jobs.options import ParsedOptions
from onceseen.jobs.runner import Runner

FLAGS = [
    "--direct_num_workers=3",
    "--no_pipeline_type_check",
    "--experiments=a",
    "--experiments=b",
    "--mine=7",
]


def test_a_job_has_them() -> None:
    options = Runner(RunnerConfig(workers=2)).options("verify")
    assert isinstance(options, ParsedOptions)
    assert options.view_as(TypeOptions) is options.view_as(TypeOptions)


def test_they_say_what_beams_own_say() -> None:
    ours, beams = ParsedOptions(FLAGS), PipelineOptions(FLAGS)
    for _ in range(2):
        for cls in (DirectOptions, TypeOptions, DebugOptions, WorkerOptions, StandardOptions):
            view, expected = ours.view_as(cls), beams.view_as(cls)
            assert type(view) is cls
            assert view.get_all_options() == expected.get_all_options()
    unknown = {"drop_default": True, "retain_unknown_options": True}
    assert ours.get_all_options(**unknown) == beams.get_all_options(**unknown)
    assert ours.get_all_options(**unknown)["mine"] == "7"


def test_a_value_set_in_one_view_is_seen_in_all() -> None:
    options = ParsedOptions(FLAGS)
    options.view_as(DirectOptions).direct_num_workers = 5
    options.view_as(DebugOptions).add_experiment("c")
    assert options.view_as(DirectOptions).direct_num_workers == 5
    assert options.view_as(StandardOptions).view_as(DirectOptions).direct_num_workers == 5
    assert options.view_as(DebugOptions).experiments == ["a", "b", "c"]
    assert options.get_all_options()["direct_num_workers"] == 5


def test_a_copy_is_its_own() -> None:
    """Beam copies what it is given, changes the copy, and sends it to workers."""
    options = ParsedOptions(FLAGS)
    options.view_as(DirectOptions).direct_num_workers = 4
    for other in (copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert isinstance(other, ParsedOptions)
        assert other.view_as(DirectOptions).direct_num_workers == 4
        other.view_as(DirectOptions).direct_num_workers = 9
        assert other.view_as(DirectOptions).direct_num_workers == 9
        assert options.view_as(DirectOptions).direct_num_workers == 4
