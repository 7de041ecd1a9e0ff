"""Onceseen's part: a plan written as shards, deduplicated by the command, and what it kept read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onceseen.cli import main
from onceseen.core.features import read_features
from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_shards
from onceseen.planted.shards import sample_key, shard_name, write_tar_shard

from .plan import Plan, samples

MAX_COPIES, ALPHA = 2, 0.5


@dataclass(frozen=True, slots=True)
class Kept:
    """What one run kept.

    Attributes:
        rows: Places in `Plan.rows`, ascending.
        weights: Of those rows, as `keep.alpha` gives them.
    """

    rows: tuple[int, ...]
    weights: tuple[float, ...]


def deduplicate(plan: Plan, directory: Path, *, all_ways: bool) -> dict[str, Kept]:
    """Runs `onceseen dedup` on a plan's rows with its defaults, or also with two copies kept and with weights.

    Args:
        plan: The duplicated training set.
        directory: Gets shards/, run/, run-max-copies/ and run-weights/; finished runs there are reused.
        all_ways: Whether all four are wanted, or `dedup` and `exact`, which need one run.

    Returns:
        By name: `dedup`, `exact` (one row for each set of equal pixels), `max_copies` and `weights`.

    Cost: a minute on two cores for 1,200 rows, three where many are crops; nearly that again for each further run.
    """
    shards, run = directory / "shards", directory / "run"
    _write_shards(plan, shards)
    _dedup([str(shards), "--output", str(run)])
    found = {"dedup": _kept(run, plan), "exact": _exact(run, plan)}
    settings = {"max_copies": f"keep.max_copies={MAX_COPIES}", "weights": f"keep.alpha={ALPHA}"}
    for name, setting in settings.items() if all_ways else ():
        other = Path(f"{run}-{name.replace('_', '-')}")
        _dedup([str(shards), "--features", str(run), "--output", str(other), "--set", setting])
        found[name] = _kept(other, plan)
    return found


def wrong_and_missed(plan: Plan, kept: Kept) -> dict[str, int]:
    """What the deduplication did, against the plan: pictures lost altogether, and copies left."""
    left = [plan.rows[i].picture for i in kept.rows]
    return {
        "rows": len(plan.rows),
        "kept": len(left),
        "pictures": len({row.picture for row in plan.rows}),
        "pictures_lost": len({row.picture for row in plan.rows} - set(left)),
        "copies_left": len(left) - len(set(left)),
    }


def _write_shards(plan: Plan, directory: Path) -> None:
    """Writes the rows; shards of the same content are left as they are, so that a finished run stays valid."""
    digest = hashlib.sha256(
        json.dumps([[r.caption, hashlib.sha256(r.data).hexdigest()] for r in plan.rows]).encode()
    )
    mark = directory / "rows.sha256"
    if mark.exists() and mark.read_text() == digest.hexdigest():
        return
    for number, rows in enumerate(plan.shards()):
        write_tar_shard(directory, number, samples(rows))
    mark.write_text(digest.hexdigest())


def _dedup(arguments: Sequence[str]) -> None:
    code = main(["dedup", *arguments, "--dry-run"])
    if code != 0:
        raise RuntimeError(f"onceseen dedup {' '.join(arguments)} ended with {code}")


def sample_rows(plan: Plan) -> dict[str, int]:
    """Places in `Plan.rows` by sample id."""
    places, row = {}, 0
    for number, rows in enumerate(plan.shards()):
        for i in range(len(rows)):
            places[f"{shard_name(number)}/{sample_key(number, i)}"] = row
            row += 1
    return places


def _kept(run: Path, plan: Plan) -> Kept:
    layout, places = RunLayout.at(str(run)), sample_rows(plan)
    found = []
    for shard in read_shards(layout):
        table = read_table(layout.verdicts(shard.name), columns=["sample_id", "verdict", "weight"])
        found += [(places[r["sample_id"]], r["weight"]) for r in table.to_pylist() if r["verdict"] == "keep"]
    found.sort()
    return Kept(tuple(row for row, _ in found), tuple(weight for _, weight in found))


def _exact(run: Path, plan: Plan) -> Kept:
    """The first row of each set of equal pixels, as the run's features tell them."""
    layout, places = RunLayout.at(str(run)), sample_rows(plan)
    first: dict[bytes, int] = {}
    for shard in read_shards(layout):
        for row in read_features(layout, shard, ["sample_id", "pixel_hash"]).to_pylist():
            place = places[row["sample_id"]]
            first[row["pixel_hash"]] = min(place, first.get(row["pixel_hash"], place))
    rows = tuple(sorted(first.values()))
    return Kept(rows, (1.0,) * len(rows))
