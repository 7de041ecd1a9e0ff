"""Makes the detector's demo: a training set of half the photographs, and queries of which some are copies of it.

    python -m onceseen.planted.queries plant --photos examples/photos --output DIR
    python -m onceseen.planted.queries check DIR OUT

DIR/training/ holds shards to be deduplicated; DIR/queries/ pictures to be scanned: `copy-<photograph>-<transform>` of
photographs that are in the training set, `other-<photograph>` of scenes that are not in it. `check` compares what
`onceseen scan` said in OUT with that.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.planted.demo import build_demo
from onceseen.planted.imaging import decode_rgb
from onceseen.planted.plan import DemoConfig, Photo, read_photos, seeded
from onceseen.planted.transforms import apply_transform

TRANSFORMS = ("jpeg50", "resize_down", "crop10", "mirrored", "letterbox", "noise", "brightness", "webp")
COPIES = 40
"""Photographs of the training set of which there is a copy among the queries."""

_TRAINING = DemoConfig(
    num_shards=4,
    counts=((12, 1), (4, 6), (2, 10)),
    halves=(),
    blanks=2,
    blank_copies=1,
    pages=4,
    composites=(),
    broken=False,
    failed_downloads=0,
)


def plant(
    photos: Path, output: Path, config: DemoConfig = _TRAINING, copies: int = COPIES
) -> tuple[int, int]:
    """Writes the training set and the queries.

    Args:
        photos: Directory of photographs with LICENSES.csv.
        output: Gets training/ and queries/.
        config: What the training set repeats.
        copies: Queries that are copies.

    Returns:
        How many queries are copies, and how many are others.

    Raises:
        ValueError: If there are no such photographs, or the output is there already.
    """
    known, unknown = deal(read_photos(photos))
    chosen, queries = output / "photos", output / "queries"
    for directory in (chosen, queries):
        if directory.exists():
            raise ValueError(f"--output {output} holds {directory.name}/; expected a new directory")
        directory.mkdir(parents=True)
    for photo in known:
        shutil.copy(photos / photo.file, chosen)
    _write_table(photos / "LICENSES.csv", chosen / "LICENSES.csv", {photo.file for photo in known})
    build_demo(chosen, output / "training", config)
    for number, photo in enumerate(known[:copies]):
        transform = TRANSFORMS[number % len(TRANSFORMS)]
        rgb = decode_rgb((photos / photo.file).read_bytes())
        made = apply_transform(transform, rgb, seeded(config.seed, "query", photo.source_id))
        (queries / f"copy-{photo.source_id}-{transform}.{made.extension}").write_bytes(made.data)
    for photo in unknown:
        shutil.copy(photos / photo.file, queries / f"other-{photo.file}")
    return min(copies, len(known)), len(unknown)


def deal(photos: Sequence[Photo]) -> tuple[list[Photo], list[Photo]]:
    """Deals photographs into two halves, by scene, so that no scene is in both."""
    scenes = sorted({photo.scene or photo.source_id for photo in photos})
    first = set(scenes[::2])
    halves: tuple[list[Photo], list[Photo]] = ([], [])
    for photo in photos:
        halves[(photo.scene or photo.source_id) not in first].append(photo)
    return halves


def _write_table(source: Path, target: Path, files: set[str]) -> None:
    with source.open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["file"] in files]
    with target.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def check(planted: Path, scan: Path) -> str:
    """What a scan said of the copies and of the others, in two lines.

    Raises:
        ValueError: If the scan's findings are not of these queries.
    """
    rows = read_table(RunLayout(str(scan)).flagged(), ["query_id", "verdict"]).to_pylist()
    found = {row["query_id"]: row["verdict"] for row in rows}
    names = {path.name for path in (planted / "queries").iterdir()}
    if names != found.keys():
        raise ValueError(f"{scan} is no scan of {planted / 'queries'}: it has {len(found)} findings")
    lines = []
    for kind, words in (("copy", "copies of training pictures"), ("other", "other pictures")):
        said = Counter(verdict for name, verdict in found.items() if name.startswith(kind))
        counted = ", ".join(
            f"{said[verdict]} {verdict}" for verdict in ("duplicate", "near", "clear", "failed")
        )
        lines.append(f"{sum(said.values())} {words}: {counted}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 0 done, 2 wrong usage."""
    description, *_ = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m onceseen.planted.queries", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant", help="write a training set and queries")
    planting.add_argument("--photos", type=Path, required=True, help="photographs with LICENSES.csv")
    planting.add_argument("--output", type=Path, required=True, help="gets training/ and queries/")
    checking = commands.add_parser("check", help="compare a scan's findings with what was planted")
    checking.add_argument("planted", type=Path, help="the --output of plant")
    checking.add_argument("scan", type=Path, help="the --output of onceseen scan")
    args = parser.parse_args(argv)
    try:
        if args.command == "plant":
            copies, others = plant(args.photos, args.output)
            print(
                f"training set in {args.output / 'training'}; {copies} copies and {others} others in "
                f"{args.output / 'queries'}"
            )
        else:
            print(check(args.planted, args.scan))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
