"""Wilson intervals and micro-AP against worked examples."""

from __future__ import annotations

import random

import pytest

from onceseen.evaluate import Rate, average_precision


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval(hits: int, total: int, low: float, high: float) -> None:
    ends = Rate(hits, total).interval
    assert ends is not None
    assert ends == pytest.approx((low, high), abs=5e-5)


def test_a_rate_of_nothing_is_unknown() -> None:
    assert Rate(0, 0).to_json() == {"hits": 0, "total": 0, "value": None, "interval_95": None}


def test_a_perfect_ranking_that_misses_half_has_half_the_precision() -> None:
    assert average_precision([(0.9, True), (0.8, True), (0.1, False)], 4) == 0.5


def test_ties_do_not_depend_on_their_order() -> None:
    scored = [(0.5, True), (0.5, False), (0.5, False), (0.5, True), (0.9, False)]
    expected = average_precision(scored, 2)
    assert expected == pytest.approx(2 / 5)
    for seed in range(5):
        random.Random(seed).shuffle(scored)
        assert average_precision(scored, 2) == expected


def test_nothing_to_find_is_unknown() -> None:
    assert average_precision([(0.9, False)], 0) is None
