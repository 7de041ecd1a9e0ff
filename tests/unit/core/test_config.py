from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from onceseen.core.config import PipelineConfig
from onceseen.core.config_io import config_from_mapping, config_to_mapping, load_config


def test_defaults_survive_a_round_trip() -> None:
    assert config_from_mapping(config_to_mapping(PipelineConfig())) == PipelineConfig()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"verify": {"min_scor": 0.6}},
            r"unknown config key verify\.min_scor; did you mean verify\.min_score\?",
        ),
        ({"verfy": {}}, r"unknown config key verfy; did you mean verify\?"),
        ({"verify": {"zzzzzz": 1}}, r"unknown config key verify\.zzzzzz; known here: min_score"),
        ({"verify": {"min_score": "high"}}, r"verify\.min_score is 'high' \(str\); expected float"),
        ({"bands": {"enabled": 1}}, r"bands\.enabled is 1 \(int\); expected bool"),
        ({"bands": {"bands": True}}, r"bands\.bands is True \(bool\); expected int"),
        ({"embed": {"mean": 0.5}}, r"embed\.mean is 0\.5; expected a list"),
        ({"verify": [1]}, r"verify must be a mapping"),
        ({"verify": {"min_score": 1.5}}, r"verify\.min_score is 1\.5; expected a number in \[0, 1\]"),
        ({"verify": {"doubt_score": 0.9}}, r"doubt_score <= verify\.min_score"),
        ({"embed": {"model": "resnet"}}, r"embed\.model is 'resnet'; expected one of efficientnet-lite0"),
        ({"embed": {"model": "onnx:"}}, r"embed\.model is 'onnx:'"),
        ({"keep": {"prefer": "aesthetic"}}, r"read\.meta_columns \['url'\]: add it there"),
        ({"bands": {"enabled": False}, "cells": {"enabled": False}}, r"at least one of the two"),
    ],
)
def test_mistakes_name_the_key_and_the_remedy(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_mapping(data)


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("verify:\n  min_score: 0.6\nkeep:\n  max_copies: 2\n")
    config = load_config(file, ["verify.min_score=0.7", "read.meta_columns=[url, punsafe]"])
    assert config.verify.min_score == 0.7
    assert config.keep.max_copies == 2
    assert config.read.meta_columns == ("url", "punsafe")


@pytest.mark.parametrize(
    "override", ["verify.min_score", "min_score=1", "a.b.c=1", "verify.min_score=[", "=1"]
)
def test_malformed_overrides_are_refused(override: str) -> None:
    with pytest.raises(ValueError, match="--set"):
        load_config(None, [override])


def test_unreadable_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml cannot be read"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"bad\.yaml is not valid YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match=r"list\.yaml must hold sections"):
        load_config(tmp_path / "list.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert load_config(tmp_path / "empty.yaml") == PipelineConfig()


def test_every_field_of_every_section_is_documented() -> None:
    for section in dataclasses.fields(PipelineConfig):
        cls = type(getattr(PipelineConfig(), section.name))
        for entry in dataclasses.fields(cls):
            assert entry.name in (cls.__doc__ or ""), f"{section.name}.{entry.name}"
