"""The whole job on real Spark, by workers that are processes of their own; needs Java and `make spark-jars`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from integration.runs import summary
from onceseen.cli import main
from onceseen.core.config import RunnerConfig
from onceseen.jobs.outcome import outcome
from onceseen.jobs.runner import JobError, Runner, with_flags
from runners.conftest import run_tiny
from spark_stack import JARS, load_stack

_KILL_SECONDS = 400
stack = load_stack()


@pytest.fixture(scope="module")
def parts() -> Any:
    try:
        return stack.find_parts(JARS)
    except RuntimeError as missing:
        pytest.skip(f"Spark cannot be started here: {missing}")


@pytest.fixture(scope="module")
def local(parts: Any) -> Iterator[list[str]]:
    """Flags of a Spark inside its job server."""
    with stack.running_stack(parts, workers=0) as flags:
        yield flags


def test_spark_gives_the_bytes_of_the_in_process_runner(
    local: list[str], demo: Path, in_process: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_tiny(demo, run, *local) == 0
    assert summary(run)["dropped"] > 10
    assert outcome(str(run)) == outcome(str(in_process))


def test_a_scan_on_spark_finds_what_one_in_process_finds(
    local: list[str], demo: Path, in_process: Path, tmp_path: Path
) -> None:
    query = str(demo / "shards" / "00001.tar")
    for place, flags in (("here", []), ("spark", local)):
        arguments = ["scan", query, "--reference", str(in_process), "--output", str(tmp_path / place)]
        assert main([*arguments, "--quiet", "--set", "scan.looks=1", *flags]) == 0
    for name in ("flagged.parquet", "summary.json", "delete_list.csv"):
        assert (tmp_path / "spark" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert '"clear": 0' in (tmp_path / "here" / "summary.json").read_text()


def test_an_error_in_a_worker_is_told_in_one_line_and_not_tried_again(
    local: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    def look(number: int) -> None:  # pickled by value: workers do not have this module
        raise LookupError(f"nothing is known of {number}")

    runner = Runner(with_flags(RunnerConfig(), local))
    with pytest.raises(
        JobError, match=r"^job look failed on PortableRunner: LookupError: nothing is known of 7"
    ) as told:
        runner.run("look", lambda p: p | beam.Create([7]) | "Look" >> beam.Map(look))
    assert "\n" not in str(told.value)
    assert "trying it again" not in caplog.text
    assert "\tat " not in caplog.text


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_job_server_that_goes_away_is_named(parts: Any, tmp_path: Path) -> None:
    begun = str(tmp_path / "begun")

    def wait(_: int) -> None:
        Path(begun).touch()
        time.sleep(60)

    with contextlib.ExitStack() as running:
        flags = running.enter_context(stack.running_stack(parts, workers=0))
        threading.Thread(target=_when_there, args=(Path(begun), running.close), daemon=True).start()
        with pytest.raises(
            JobError, match=r"^job wait: the job server of PortableRunner is gone \(.*(UNAVAILABLE|refused)"
        ):
            Runner(with_flags(RunnerConfig(), flags)).run(
                "wait", lambda p: p | beam.Create([1]) | "Wait" >> beam.Map(wait)
            )


def _when_there(path: Path, act: Callable[[], None]) -> None:
    deadline = time.monotonic() + 100
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    act()


def test_a_cluster_survives_the_death_of_a_python_worker_in_match(
    parts: Any, demo: Path, in_process: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One master and two workers; once there are candidate pairs, the next Python worker is killed at work."""
    run = tmp_path / "run"
    with stack.running_stack(parts, workers=2) as flags:
        killer = _Killer(run / ".state" / "match" / "candidates-000", parts.logs / "worker-pool.log")
        killer.start()
        assert run_tiny(demo, run, *flags) == 0
        killer.join()
    assert killer.killed
    assert re.search(
        r"job match-[\w-]+ failed on PortableRunner: .*trying it again \(2 of 3\)", capsys.readouterr().err
    )
    assert outcome(str(run)) == outcome(str(in_process))


class _Killer(threading.Thread):
    """Kills the worker that the pool starts next after a directory has got its first file."""

    def __init__(self, directory: Path, log: Path) -> None:
        super().__init__(daemon=True)
        self._directory, self._log = directory, log
        self.killed = False

    def run(self) -> None:
        deadline = time.monotonic() + _KILL_SECONDS
        known = None
        while time.monotonic() < deadline and not self.killed:
            time.sleep(0.02)
            log = self._log.read_text()
            started, at_work = (
                re.findall(r"started as process (\d+)", log),
                log.count("Data channel established"),
            )
            if known is None and list(self._directory.glob("*")):
                known = len(started), at_work
            if known is not None and len(started) > known[0] and at_work > known[1]:
                os.kill(
                    int(started[known[0]]), signal.SIGKILL
                )  # the first to have been started is the one at work
                self.killed = True
