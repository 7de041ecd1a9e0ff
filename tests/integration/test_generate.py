"""`onceseen generate` killed in the middle of a shard, and into a real S3 server: the same bytes in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onceseen.cli import main
from onceseen.core.remote import TEMP_MARK, use_beam_options
from s3_server import BUCKET, KEYS, bare_client, download, s3_server

_MODEL = """
import os, signal
import numpy as np

calls = 0

def sample(prompts, seeds):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILLED_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    return [np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8) for seed in seeds]
"""
_PROMPTS = "a red fox\na dog\na cat on a mat\n"
_KILLED_AT = 5
"""In the middle of the second shard: a shard is four batches."""


def _arguments(output: str, prompts: str = "prompts.txt") -> list[str]:
    flags = ["--per-prompt", "8", "--batch-size", "3", "--shard-size", "10", "--quiet"]
    return ["generate", "--callable", "noise_model:sample", *flags, "--prompts", prompts, "--output", output]


def _run(folder: Path, output: str, *, killed_at: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "onceseen", *_arguments(output)]
    environment = {**os.environ, "KILLED_AT": str(killed_at)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a model and prompts, and the shards of an undisturbed run in whole/."""
    (tmp_path / "noise_model.py").write_text(_MODEL)
    (tmp_path / "prompts.txt").write_text(_PROMPTS)
    result = _run(tmp_path, "whole")
    assert result.returncode == 0, result.stderr
    assert "24 pictures of 3 prompts in 3 shards" in result.stdout
    return tmp_path


def _tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[0-9]*.tar")}


def test_a_killed_command_is_resumed(folder: Path) -> None:
    assert _run(folder, "out", killed_at=_KILLED_AT).returncode == -signal.SIGKILL
    whole = _tars(folder / "whole")
    assert _tars(folder / "out") == {"00000.tar": whole["00000.tar"]}
    assert [path for path in (folder / "out").iterdir() if TEMP_MARK in path.name]
    result = _run(folder, "out")
    assert result.returncode == 0, result.stderr
    assert "16 of them made now" in result.stdout
    assert _tars(folder / "out") == whole
    assert not [path for path in (folder / "out").iterdir() if TEMP_MARK in path.name]


def test_prompts_and_shards_may_be_in_a_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with s3_server() as url:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
            monkeypatch.setenv(name, value)
        use_beam_options([])
        client = bare_client(url)
        client.put_object(Bucket=BUCKET, Key="list/prompts.txt", Body=_PROMPTS.encode())
        command = _arguments(f"s3://{BUCKET}/out", f"s3://{BUCKET}/list/prompts.txt")
        assert main(command) == 0
        client.delete_object(Bucket=BUCKET, Key="out/00001.tar")
        assert main(command) == 0
        found = {name: data for name, data in download(client, "out").items() if name.endswith(".tar")}
        assert main([*command, "--format", "webp"]) == 2
    use_beam_options([])
    assert found == _tars(folder / "whole")
