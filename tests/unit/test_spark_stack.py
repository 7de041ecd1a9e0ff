"""What infra/spark/stack.py says where a part is missing; starting the real parts is `make spark-demo`'s."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from spark_stack import load_stack


@pytest.fixture(scope="module")
def stack() -> ModuleType:
    return load_stack()


def _java(directory: Path, version: str) -> None:
    directory.mkdir(exist_ok=True)
    file = directory / "java"
    file.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    file.chmod(0o755)


def test_without_java_it_says_what_to_install(
    stack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(stack.StackError, match=r"install Java 17"):
        stack.find_parts(tmp_path)


@pytest.mark.parametrize(("version", "fits"), [("1.8.0_392", False), ("17.0.15", True), ("21.0.1", False)])
def test_java_must_be_one_that_spark_runs_on(
    stack: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    _java(tmp_path / "bin", version)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    expected = (
        r"holds no beam-runners-spark-3 jar: run `make spark-jars`" if fits else r"run on Java 11 to 17"
    )
    with pytest.raises(stack.StackError, match=expected):
        stack.find_parts(tmp_path)


def _parts(stack: ModuleType, logs: Path) -> object:
    return stack.Parts("java", logs, logs, logs)


def test_a_part_that_ends_while_starting_names_its_log(stack: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)"]
    with (
        contextlib.ExitStack() as processes,
        pytest.raises(stack.StackError, match=r"part ended with code 3 .*part\.log"),
    ):
        stack._start(_parts(stack, tmp_path), "part", command, stack._free_port(), processes)
    assert (tmp_path / "part.log").read_text() == "no luck\n"


def test_what_was_started_is_stopped_with_the_stack(stack: ModuleType, tmp_path: Path) -> None:
    port = stack._free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", stack.HOST]
    with contextlib.ExitStack() as processes:
        stack._start(_parts(stack, tmp_path), "part", command, port, processes)
        socket.create_connection((stack.HOST, port), timeout=5).close()
    with pytest.raises(OSError, match=r"refused"):
        socket.create_connection((stack.HOST, port), timeout=5)
