"""The experiment's statistics on planted outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples.memorisation.analysis import PictureResult, difference, permutation_test, rates, share
from examples.memorisation.results import agreement, at_equal_presentations, other_judge
from examples.memorisation.table import read_table, write_table


def _results(effect: float, seeds: int = 3, base: float = 0.1) -> list[PictureResult]:
    """Pictures of counts 1 and 10, arms A and B; in A those of 10 match `effect` more often than in B."""
    dice = np.random.default_rng(7)
    found = []
    for seed in range(seeds):
        for number in range(40):
            copies = 10 if number < 20 else 1
            for arm in "AB":
                p = base + (effect if arm == "A" and copies == 10 else 0.0)
                matched = int(dice.binomial(32, p))
                found.append(
                    PictureResult(
                        part="main",
                        seed=seed,
                        arm=arm,
                        picture=f"p{number}",
                        cell=str(copies),
                        copies=copies,
                        prompt="kept",
                        presentations=80.0 * copies if arm == "A" else 80.0,
                        generations=32,
                        matched=matched,
                        others=0,
                        clique=matched,
                        memorised=matched >= 10,
                        median_distance=0.1,
                    )
                )
    return found


def test_a_planted_difference_is_found_and_its_interval_holds_it() -> None:
    found = difference(_results(0.4), "A", "B", share, duplicated=True)
    assert found is not None
    assert found["pairs"] == 60
    assert found["difference"]["low"] < 0.4 < found["difference"]["high"]
    assert found["difference"]["high"] - found["difference"]["low"] < 0.12


def test_no_difference_is_none() -> None:
    for duplicated in (True, False):
        found = difference(_results(0.0), "A", "B", share, duplicated=duplicated)
        assert found is not None
        assert found["difference"]["low"] < 0 < found["difference"]["high"]


def test_arms_without_a_common_seed_are_not_compared() -> None:
    results = [r for r in _results(0.4) if (r.arm, r.seed) in (("A", 0), ("B", 1))]
    assert difference(results, "A", "B", share, duplicated=True) is None


def test_permutations_find_an_effect_and_only_that() -> None:
    assert permutation_test(_results(0.4), "A", share)["p"] < 0.001
    assert permutation_test(_results(0.4), "B", share)["p"] > 0.05
    assert permutation_test(_results(0.0), "A", share)["p"] > 0.05


def test_rates_are_by_arm_and_count() -> None:
    rows = rates(_results(0.4), share)
    assert [(row["arm"], row["copies"], row["pictures"]) for row in rows] == [
        ("A", 1, 60),
        ("A", 10, 60),
        ("B", 1, 60),
        ("B", 10, 60),
    ]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in rows)
    assert rows[1]["mean"] == pytest.approx(0.5, abs=0.05)


def test_other_arms_are_read_off_the_curve_of_a() -> None:
    rows = [
        {"arm": "A", "cell": "1", "presentations": 100.0, "mean": 0.0, "low": 0.0, "high": 0.1},
        {"arm": "A", "cell": "10", "presentations": 1000.0, "mean": 1.0, "low": 0.9, "high": 1.0},
        {"arm": "D", "cell": "1", "presentations": 100 * 10**0.5, "mean": 0.4, "low": 0.3, "high": 0.5},
        {"arm": "D", "cell": "9", "presentations": 5000.0, "mean": 0.4, "low": 0.3, "high": 0.5},
    ]
    (found,) = at_equal_presentations(rows)
    assert found["arm"] == "D"
    assert found["A_interpolated"] == pytest.approx(0.5, abs=1e-3)


def test_agreement_of_judges() -> None:
    assert agreement(both=2, first=2, second=2, total=4)["kappa"] == 1.0
    assert agreement(both=0, first=2, second=2, total=4)["kappa"] == -1.0
    found = agreement(both=1, first=2, second=2, total=4)
    assert found == {"both": 1, "pixels_only": 1, "other_only": 1, "neither": 1, "kappa": 0.0}


def test_another_judge_is_read_off_the_rows() -> None:
    rows = [replace(r, sscd=16, sscd_both=min(16, r.matched)) for r in _results(0.4, seeds=1)]
    found = other_judge(rows, "sscd")
    assert found is not None
    assert found["rates"] == {arm: {"1": 0.5, "10": 0.5} for arm in "AB"}
    assert found["both"] + found["pixels_only"] == sum(r.matched for r in rows)
    assert sum(found[n] for n in ("both", "pixels_only", "other_only", "neither")) == 32 * len(rows)
    assert other_judge(rows, "detector") is None


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [
        replace(r, sscd=3, audit="memorised") if i % 2 else r for i, r in enumerate(_results(0.4, seeds=1))
    ]
    write_table(rows, tmp_path / "pictures.csv")
    assert read_table(tmp_path / "pictures.csv") == rows
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no pictures\.csv"):
        read_table(tmp_path / "other.csv")
