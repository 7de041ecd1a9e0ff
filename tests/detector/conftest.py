"""One small finished run of real photographs for all tests of the detector: planted, deduplicated once."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from onceseen import Reference
from onceseen.cli import main
from onceseen.planted.plan import DemoConfig
from planted_demo import PHOTOS, plant_demo

_CONFIG = DemoConfig(
    num_shards=2, counts=((4, 2), (2, 3)), blanks=2, blank_copies=2, pages=2, halves=(), composites=()
)


@dataclass(frozen=True, slots=True)
class Planted:
    """A finished run, its input, and what it shows.

    Attributes:
        demo: Directory with shards/ and manifest.csv.
        run: The run; tests may build its index, and write nothing else.
        sources: Sample id to the photographs that it shows.
    """

    demo: Path
    run: Path
    sources: dict[str, set[str]]

    def known(self) -> list[Path]:
        """The photographs that the run holds, by name."""
        names = set().union(*self.sources.values())
        return [photo for photo in sorted(PHOTOS.glob("*.jpg")) if photo.stem in names]

    def unknown(self) -> list[Path]:
        """Photographs that it does not hold, no frame of a scene that it holds among them."""
        with (PHOTOS / "LICENSES.csv").open(newline="") as stream:
            scenes = {Path(row["file"]).stem: row["scene"] for row in csv.DictReader(stream)}
        held = {scenes[photo.stem] for photo in self.known()} - {""}
        known = {photo.stem for photo in self.known()}
        return [p for p in sorted(PHOTOS.glob("*.jpg")) if p.stem not in known and scenes[p.stem] not in held]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    demo = plant_demo(tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("demo"), _CONFIG, 30)
    run = tmp_path_factory.mktemp("finished") / "run"
    assert main(["dedup", str(demo / "shards"), "--output", str(run), "--quiet", "--dry-run"]) == 0
    sources: dict[str, set[str]] = {}
    with (demo / "manifest.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            sources.setdefault(row["file"], set()).add(row["source_id"])
    return Planted(demo, run, sources)


@pytest.fixture(scope="session")
def reference(planted: Planted) -> Reference:
    return Reference.open(planted.run, progress=False)
