"""A small demo of real photographs, planted once for all integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from onceseen.planted.plan import DemoConfig
from planted_demo import plant_demo

SMALL = DemoConfig(
    num_shards=3,
    counts=((8, 2), (4, 3), (2, 6)),
    blanks=3,
    blank_copies=2,
    pages=4,
    composites=(("collage2", 1), ("collage4", 1)),
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with shards/ (tars) and manifest.csv; never written to by tests."""
    return plant_demo(tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("demo"), SMALL, 80)
