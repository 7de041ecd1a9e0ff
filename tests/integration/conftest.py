"""A small demo of real photographs, planted once for all integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from onceseen.planted.demo import build_demo
from onceseen.planted.plan import DemoConfig

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"

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
    output = tmp_path_factory.mktemp("demo")
    build_demo(PHOTOS, output, SMALL)
    return output
