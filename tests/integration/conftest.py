"""A small demo of real photographs, planted once for all integration tests."""

from __future__ import annotations

import csv
import shutil
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


NUM_PHOTOS = 80


def _some_photos(directory: Path) -> Path:
    """Every third photograph or so, with their rows of the licence table; those of the halves are among them."""
    with (PHOTOS / "LICENSES.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = rows[:: len(rows) // NUM_PHOTOS]
    chosen += [row for row in rows if Path(row["file"]).stem in SMALL.halves and row not in chosen]
    chosen.sort(key=lambda row: row["file"])
    for row in chosen:
        shutil.copy(PHOTOS / row["file"], directory)
    with (directory / "LICENSES.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(chosen)
    return directory


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with shards/ (tars) and manifest.csv; never written to by tests."""
    output = tmp_path_factory.mktemp("demo")
    build_demo(_some_photos(tmp_path_factory.mktemp("photos")), output, SMALL)
    return output
