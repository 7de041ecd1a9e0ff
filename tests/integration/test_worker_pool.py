"""Onceseen's pool of Python workers, asked by a real runner, without Spark."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job import utils as job_utils
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.transforms import environments

from onceseen.jobs.worker_pool import main


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _pool() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A pool that listens; stopped at the end as an operator would."""
    port = _free_port()
    process = subprocess.Popen([sys.executable, "-m", "onceseen.jobs.worker_pool", f"--port={port}"])
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield process, port
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def _describe(number: int) -> tuple[int, int, str]:
    """What a worker is: its process, the process it was forked from, and an option of the job."""
    return os.getpid(), os.getppid(), str(FileSystems._pipeline_options.get_all_options()["job_name"])


def _record(described: tuple[int, int, str], directory: str) -> None:
    (Path(directory) / "-".join(map(str, described))).touch()


def _run(port: int, directory: Path, name: str) -> tuple[int, int, str]:
    directory.mkdir()
    environment = environments.ExternalEnvironment(f"127.0.0.1:{port}")
    options = PipelineOptions([f"--job_name={name}"])
    given = job_utils.dict_to_struct({"beam:option:job_name:v1": name})
    provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=given))
    runner = FnApiRunner(default_environment=environment, provision_info=provision)
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = pipeline | beam.Create([1]) | beam.Map(_describe) | beam.Map(_record, str(directory))
    assert pipeline.run().wait_until_finish() == "DONE"
    (found,) = directory.iterdir()
    pid, parent, job = found.name.split("-")
    return int(pid), int(parent), job


def test_each_job_has_a_process_of_its_own_and_its_options(tmp_path: Path) -> None:
    with _pool() as (process, port):
        first, second = (_run(port, tmp_path / name, name) for name in ("one", "two"))
        assert (first[2], second[2]) == ("one", "two")
        assert len({first[0], second[0], process.pid, os.getpid()}) == 4
        assert first[1] == second[1] != process.pid, "both come from the server that has imported everything"
        _wait_for_the_end(first[0], second[0])
        server = first[1]
    _wait_for_the_end(server)


def _wait_for_the_end(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process has outlived what it was for"
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
