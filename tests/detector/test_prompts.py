"""The audit's prompt list of a run that the main job has made, checked row by row against its tables."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from detector.conftest import Planted
from onceseen.audit.rates import bin_of
from onceseen.core.layout import RunLayout
from onceseen.stats.lookup import find_features, find_verdicts, read_run
from onceseen.stats.prompts import write_prompts
from onceseen.stats.text import normalise_caption


def test_prompts_are_captions_of_pictures_with_so_many_copies(planted: Planted, tmp_path: Path) -> None:
    layout = RunLayout(str(planted.run))
    path = tmp_path / "prompts.csv"
    summary = write_prompts(layout, 4, str(path))
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert summary.prompts == len(rows)
    assert {b.label: b.drawn for b in summary.bins} == Counter(row["bin"] for row in rows)
    assert {"1", "2", "3-4"} <= {b.label for b in summary.bins}
    assert all(b.drawn == min(4, b.captions) for b in summary.bins)
    shards = read_run(layout).shards
    ids = [row["sample_id"] for row in rows]
    verdicts = find_verdicts(layout, shards, ids)
    captions = find_features(layout, shards, ids, ["caption"])
    for row in rows:
        verdict = verdicts[row["sample_id"]]
        assert verdict.is_representative
        assert verdict.copies == int(row["copies"])
        low, high = bin_of(verdict.copies)
        assert row["bin"] == (str(low) if low == high else f"{low}-{high}")
        if row["bin"] == "1" and row["occurrences"] == "1":
            assert captions[row["sample_id"]]["caption"].strip() == row["prompt"]
    assert len({normalise_caption(row["prompt"]) for row in rows}) == len(rows)
