"""The command line's own checks: what is told before a command begins."""

from __future__ import annotations

import apache_beam as beam
import pytest

from onceseen.cli import main
from onceseen.core.config import RunnerConfig
from onceseen.jobs.runner import Runner, with_flags


def test_help_names_each_command_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for command in ("dedup", "evaluate", "explain", "report", "fetch"):
        assert any(line.startswith(f"  {command} ") for line in lines)


@pytest.mark.parametrize("command", ["dedup", "evaluate", "explain", "report", "fetch"])
def test_each_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out.partition("\n\n")[2]
    assert len(text.partition("\n\n")[0]) > 15
    assert "`" not in text.partition("\n\n")[0]


@pytest.mark.parametrize("misspelt", ["--dry_run", "--dry_run=true", "-dry-run"])
def test_an_option_of_beams_is_not_taken_for_ours(misspelt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dedup", "src", "--output", "run", misspelt]) == 2
    assert "did you mean --dry-run?" in capsys.readouterr().err


def test_an_option_is_not_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dedup", "nowhere", "--output", "run", "--over"]) == 2
    assert "unknown option --over" in capsys.readouterr().err


def test_sources_stand_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dedup", "a", "--output", "run", "b"]) == 2
    assert "'b' stands apart" in capsys.readouterr().err


def test_unknown_arguments_of_a_command_without_beam(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "urls.csv", "--output", "shards", "--runner=local"]) == 2
    assert "--runner=local" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "explain", "evaluate"])
def test_commands_on_a_run_take_options_for_its_store(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"explain": ["00000/1"], "evaluate": ["--truth", "truth.csv"]}.get(command, [])
    assert main([command, "run", *more, "--s3_endpoint_ulr=x"]) == 2
    assert "--s3_endpoint_ulr=x" in capsys.readouterr().err
    assert main([command, "run", *more, "--s3_endpoint_url=http://127.0.0.1:1"]) == 2
    assert "run.json" in capsys.readouterr().err


def test_beam_options_are_taken_over() -> None:
    config = with_flags(
        RunnerConfig(), ["--runner", "FlinkRunner", "--direct_num_workers=3", "--temp_location=gs://x"]
    )
    assert config == RunnerConfig("FlinkRunner", 3, ("temp_location=gs://x",))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--direct_num_workers", "two"], "invalid int value: 'two'"),
        (["--direct_num_workers=2", "shards"], "'shards' belongs to no option"),
        (["--no_such=1"], "--no_such=1"),
    ],
)
def test_bad_beam_options(flags: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_flags(RunnerConfig(), flags)


def test_an_unknown_runner_is_refused_by_name() -> None:
    Runner(RunnerConfig("DirectRunner")).check_name()
    with pytest.raises(ValueError, match="'NopeRunner' cannot be used"):
        Runner(RunnerConfig("NopeRunner")).check_name()


def test_ctrl_c_inside_a_step_is_told_as_a_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import onceseen.cli.report as command

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    def run(_: object) -> int:
        Runner(RunnerConfig()).run("stop", lambda p: p | beam.Create([0]) | beam.Map(interrupt))
        return 0

    monkeypatch.setattr(command, "run", run)
    assert main(["report", "run"]) == 1
    assert capsys.readouterr().err.endswith(
        "onceseen report: stopped; run the same command again to resume\n"
    )


def test_options_of_one_job_do_not_reach_the_others() -> None:
    section = RunnerConfig("DataflowRunner", 0, ("region=r",), ("machine_type=g",), ("machine_type=n",))
    config = with_flags(section, ["--job_name=laion"])
    found = {name: Runner(config).options(name).get_all_options() for name in ("extract", "match-verify")}
    assert {name: (o["region"], o["machine_type"]) for name, o in found.items()} == {
        "extract": ("r", "g"),
        "match-verify": ("r", "n"),
    }
    assert [o["job_name"] for o in found.values()] == ["laion-extract", "laion-match-verify"]
    with pytest.raises(ValueError, match=r"unknown option --machin=1"):
        with_flags(RunnerConfig(extract_options=("machin=1",)), [])
