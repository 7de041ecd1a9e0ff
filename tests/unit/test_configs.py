from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from onceseen.core.accelerator import find_accelerator
from onceseen.core.config import PipelineConfig
from onceseen.core.config_io import load_config
from onceseen.jobs.runner import with_flags

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


def test_every_profile_is_there() -> None:
    names = {p.name for p in CONFIGS}
    local = {"hash-only.yaml", "laion-openclip.yaml", "local-cpu.yaml", "sscd-torchscript.yaml"}
    assert names >= {*local, "dataflow-cpu.yaml", "dataflow-gpu.yaml", "spark.yaml"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_profile_loads_and_says_what_the_file_says(path: Path) -> None:
    config = load_config(path)
    resolved = dataclasses.asdict(config)
    for section, fields in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for name, value in fields.items():
            expected = tuple(value) if isinstance(value, list) else value
            assert resolved[section][name] == ("" if expected is None else expected), f"{section}.{name}"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_profile_explains_itself(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"--config configs/{path.name}" in text


def test_local_profile_is_the_defaults() -> None:
    assert load_config(Path(CONFIGS[0]).with_name("local-cpu.yaml")) == PipelineConfig()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_beam_knows_the_options_of_a_profile(path: Path) -> None:
    config = load_config(path).runner
    assert with_flags(config, []) == config


def test_only_extract_gets_the_gpu_of_a_profile() -> None:
    for path in CONFIGS:
        runner = load_config(path).runner
        assert find_accelerator(runner.options_of("match-verify")) is None, path
        gpu = find_accelerator(runner.options_of("extract"))
        assert (gpu is not None) == (path.name == "dataflow-gpu.yaml"), path
