"""Small demos of some of the bundled photographs, for tests that run the whole job."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from onceseen.planted.demo import build_demo
from onceseen.planted.plan import DemoConfig

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def plant_demo(photos: Path, output: Path, config: DemoConfig, count: int) -> Path:
    """Plants copies of about `count` photographs.

    Args:
        photos: Where the chosen photographs are copied to.
        output: Where shards/ (tars) and manifest.csv are written.
        config: What is planted; photographs of its halves are always among the chosen.
        count: Photographs, one of every so many.
    """
    photos.mkdir(exist_ok=True)
    with (PHOTOS / "LICENSES.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = rows[:: len(rows) // count]
    chosen += [row for row in rows if Path(row["file"]).stem in config.halves and row not in chosen]
    chosen.sort(key=lambda row: row["file"])
    for row in chosen:
        shutil.copy(PHOTOS / row["file"], photos)
    with (photos / "LICENSES.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(chosen)
    build_demo(photos, output, config)
    return output
