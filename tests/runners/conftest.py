"""What tests of remote runners share: a demo that is small even for Spark, and its run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.runs import dedup
from onceseen.planted.plan import DemoConfig
from planted_demo import plant_demo

_HERE = Path(__file__).parent
_TIMEOUT_S = 600
TINY = DemoConfig(
    num_shards=3,
    counts=((8, 1), (3, 3)),
    halves=(),
    blanks=1,
    blank_copies=1,
    pages=0,
    composites=(),
    broken=True,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in tests/runners, with a time limit for clusters that start."""
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.runners)
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with shards/ (tars) and manifest.csv; never written to by tests."""
    return plant_demo(tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("demo"), TINY, 12)


def run_tiny(demo: Path, run: Path, *flags: str) -> int:
    """`onceseen dedup` on the demo, whose broken files are more than are allowed by default."""
    return dedup(demo / "shards", run, "--set", "read.max_failed_fraction=1", *flags)


@pytest.fixture(scope="session")
def in_process(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's run on the in-process runner."""
    run = tmp_path_factory.mktemp("in_process") / "run"
    assert run_tiny(demo, run) == 0
    return run
