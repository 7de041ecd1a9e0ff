"""infra/dataflow: the template's parameters are the script's, and what is built is what the profiles name."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

import onceseen
from onceseen.cli import dedup

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "infra" / "dataflow" / "build.sh"
IMAGES = "europe-west4-docker.pkg.dev/my-project/onceseen"


def _parameters() -> dict[str, dict[str, Any]]:
    text = (ROOT / "infra" / "dataflow" / "metadata.json").read_text(encoding="utf-8")
    return {parameter["name"]: parameter for parameter in json.loads(text)["parameters"]}


def test_the_templates_parameters_are_understood() -> None:
    values = {
        "sources": "gs://b/a gs://b/c",
        "output": "gs://b/run",
        "config": "/opt/onceseen/configs/dataflow-gpu.yaml",
        "settings": "embed.batch_size=8;cells.enabled=false",
    }
    parameters = _parameters()
    assert set(parameters) == set(values)
    for name, value in values.items():
        for pattern in parameters[name].get("regexes", []):
            assert re.fullmatch(pattern, value), name
    script = runpy.run_path(str(ROOT / "pipelines" / "dedup.py"))
    command = script["command_line"]([f"--{name}={value}" for name, value in values.items()])
    parser = argparse.ArgumentParser()
    dedup.add_arguments(parser)
    parsed = parser.parse_args(command)
    assert parsed.sources == ["gs://b/a", "gs://b/c"]
    assert (parsed.output, parsed.config) == (values["output"], values["config"])
    assert parsed.overrides == ["embed.batch_size=8", "cells.enabled=false"]


def test_the_script_passes_on_what_a_person_types() -> None:
    script = runpy.run_path(str(ROOT / "pipelines" / "dedup.py"))
    typed = ["shards", "--output", "run", "--runner=SparkRunner", "--dry-run"]
    assert script["command_line"](typed) == typed


def test_profiles_name_the_images_of_this_version() -> None:
    for path in (ROOT / "configs").glob("*.yaml"):
        for tag in re.findall(r"onceseen/(?:worker|launcher)-?\w*:(\S+)", path.read_text(encoding="utf-8")):
            assert tag == onceseen.__version__, path.name


@pytest.fixture
def recorded(tmp_path: Path) -> list[str]:
    """What build.sh asks of docker and gcloud: neither is there, so two scripts write down how they are called."""
    log = tmp_path / "log"
    for name in ("docker", "gcloud"):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n')
        file.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(BUILD), IMAGES, "gs://bucket", onceseen.__version__]
    subprocess.run(command, check=True, env=environment)
    return log.read_text().splitlines()


def test_every_image_that_is_built_is_pushed_and_used(recorded: list[str]) -> None:
    targets = re.findall(r"(?m)^FROM \S+ AS (\S+)$", (ROOT / "infra" / "docker" / "Dockerfile").read_text())
    built = [line for line in recorded if line.startswith("docker build")]
    pushed = {line.split()[-1] for line in recorded if line.startswith("docker push")}
    for line in built:
        found = re.search(r"--target (\S+) -t (\S+)", line)
        assert found is not None
        assert found[1] in targets
        assert found[2] in pushed
    profile = (ROOT / "configs" / "dataflow-gpu.yaml").read_text(encoding="utf-8")
    used = re.findall(r"sdk_container_image=(\S+)", profile)
    assert {image.replace("REGION-docker.pkg.dev/PROJECT/onceseen", IMAGES) for image in used} <= pushed
    template = recorded[-1]
    assert template.startswith("gcloud dataflow flex-template build gs://bucket/templates/")
    assert re.search(r"--image (\S+)", template)[1] in pushed
    assert "--metadata-file infra/dataflow/metadata.json" in template


def test_build_says_how_it_is_used() -> None:
    result = subprocess.run(["bash", str(BUILD)], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "usage:" in result.stderr
