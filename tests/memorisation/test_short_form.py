"""The experiment's short form, as a newcomer runs it: a real model, trained on real photographs with duplicates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from examples.memorisation.__main__ import main
from examples.memorisation.analysis import permutation_test, share
from examples.memorisation.judges import SETTINGS
from examples.memorisation.table import read_table

ARM = "main-0-A"
"""The duplicated arm alone: a model takes most of a minute."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("memorisation")
    assert main(["--short", "--only", ARM, "--output", str(directory), "--jobs", "1"]) == 0
    return directory / "short" / "results"


@pytest.mark.timeout(600)
def test_what_was_repeated_comes_back(output: Path) -> None:
    results = read_table(output / "pictures.csv")
    assert [(r.part, r.seed, r.arm) for r in results] == [("main", 0, "A")] * 24
    assert all(r.generations >= SETTINGS.min_clique for r in results), "else no prompt could be memorised"
    assert permutation_test(results, "A", share)["p"] < 0.01
    rates = {copies: sum(r.share for r in results if r.copies == copies) / 12 for copies in (1, 32)}
    assert rates[32] > 0.15
    assert rates[1] < 0.05


def test_deduplication_lost_nothing_and_left_nothing(output: Path) -> None:
    summary = json.loads((output / "results.json").read_text())
    found = summary["made"]["deduplication"]["main-0"]["dedup"]
    assert found == {"rows": 416, "kept": 44, "pictures": 44, "pictures_lost": 0, "copies_left": 0}


def test_results_and_figures_are_written(output: Path) -> None:
    summary = json.loads((output / "results.json").read_text())
    assert summary["models"] == [ARM]
    assert summary["threshold"]["held_out_matched"] <= 0.01 * summary["threshold"]["held_out"]
    for name in ("matched_by_copies.svg", "matched_by_presentations.svg", "memorised_by_copies.svg"):
        assert (output / name).stat().st_size > 5_000


def test_a_finished_model_is_not_trained_again(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model,) = output.parent.rglob("model.pt")
    before = model.stat().st_mtime_ns
    parent = str(output.parent.parent)
    assert main(["--short", "--only", ARM, "--output", parent, "--jobs", "1"]) == 0
    assert model.stat().st_mtime_ns == before
    assert "results:" in capsys.readouterr().out
