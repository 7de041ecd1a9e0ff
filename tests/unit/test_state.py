"""Fingerprints: what makes a job be done again, and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from onceseen.core.config_io import load_config
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.state import Fingerprints, fingerprints
from onceseen.verify.calibration import SHIPPED

SHARDS = [Shard(0, "a", ShardKind.TAR, "/x/a.tar", 10, "1")]
MODEL = {"name": "onnx:m.onnx", "weights_hash": "00", "dimensions": 4}


def _prints(*overrides: str, model: dict[str, object] = MODEL, decisions: str = "") -> Fingerprints:
    return fingerprints(SHARDS, load_config(None, overrides), model, decisions)


def _changed(*overrides: str) -> tuple[bool, bool, bool]:
    """Whether extract, match and rewrite would be done again."""
    a, b = _prints(), _prints(*overrides)
    return a.extract != b.extract, a.match != b.match, a.rewrite != b.rewrite


@pytest.mark.parametrize(
    ("override", "again"),
    [
        ("read.max_pixels=5", (True, True, True)),
        ("embed.batch_size=7", (True, True, True)),
        ("verify.min_score=0.73", (False, True, True)),
        ("cells.seed=1", (False, True, True)),
        ("keep.max_copies=2", (False, True, True)),
        ("read.on_failure=drop", (False, False, True)),
        ("write.member=false", (False, False, True)),
        ("read.max_failed_fraction=1", (False, False, False)),
        ("cells.passes=3", (False, False, False)),
        ("runner.workers=2", (False, False, False)),
        ("embed.threads=2", (False, False, False)),
        ("embed.device=cpu", (False, False, False)),
        ("embed.model=onnx:/elsewhere/m.onnx", (False, False, False)),  # the model's hash is what counts
    ],
)
def test_what_is_done_again(override: str, again: tuple[bool, bool, bool]) -> None:
    assert _changed(override) == again


def test_other_weights_embed_again() -> None:
    assert _prints(model={**MODEL, "weights_hash": "01"}).extract != _prints().extract
    assert _prints(decisions="d").match != _prints().match


def test_files_count_by_what_is_in_them(tmp_path: Path) -> None:
    copy = shutil.copy(SHIPPED, tmp_path / "moved.json")
    assert _prints(f"verify.calibration={copy}") == _prints()
    cells = tmp_path / "cells.npz"
    np.savez(cells, centroids=np.zeros((1, 4)))
    first = _prints(f"cells.centroids={cells}")
    moved = shutil.copy(cells, tmp_path / "moved.npz")
    assert _prints(f"cells.centroids={moved}") == first
    np.savez(cells, centroids=np.ones((1, 4)))
    assert _prints(f"cells.centroids={cells}").match != first.match
    with pytest.raises(ValueError, match=r"cells\.centroids is .*nowhere"):
        _prints(f"cells.centroids={tmp_path / 'nowhere.npz'}")
