"""Rates against worked examples and plain loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceseen.audit import auc, bin_of, clique_curve, rate, rates_by_copies, tpr_at_fpr, wilson


@pytest.mark.parametrize(
    ("hits", "tried", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson(hits: int, tried: int, low: float, high: float) -> None:
    assert tuple(wilson(hits, tried)) == pytest.approx((low, high), abs=5e-5)
    assert rate(hits, tried).interval == wilson(hits, tried)


def test_nothing_tried_says_nothing() -> None:
    assert tuple(wilson(0, 0)) == (0, 1)
    assert wilson(3, 10, z=0.0) == pytest.approx((0.3, 0.3))
    with pytest.raises(ValueError, match="3 hits of 2 trials"):
        wilson(3, 2)


def test_bins_cover_every_number_once() -> None:
    bins = [bin_of(n) for n in range(70)]
    assert sorted(set(bins)) == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 4),
        (5, 8),
        (9, 16),
        (17, 32),
        (33, 64),
        (65, 128),
    ]
    assert all(low <= n <= high for n, (low, high) in enumerate(bins))
    with pytest.raises(ValueError, match="-1 copies"):
        bin_of(-1)


def test_rates_by_copies_keep_unknown_captions_apart() -> None:
    found = rates_by_copies([0, 1, 1, 3, 4, 100, 0], [True, False, True, True, True, False, False])
    assert [(low, high, r.hits, r.tried) for low, high, r in found] == [
        (0, 0, 1, 2),
        (1, 1, 1, 2),
        (3, 4, 2, 2),
        (65, 128, 0, 1),
    ]
    assert sum(r.tried for _, _, r in found) == 7
    with pytest.raises(ValueError, match="2 copies and 1 hits"):
        rates_by_copies([1, 2], [True])


def test_the_curve_only_counts_prompts_that_could_have_such_a_clique() -> None:
    found = dict(clique_curve([12, 9, 4, 30], [True, True, True, False], [20, 10, 4, 40]))
    assert [(k, found[k].hits, found[k].tried) for k in (1, 4, 5, 9, 10, 12, 15, 25, 40)] == [
        (1, 3, 4),
        (4, 3, 4),
        (5, 2, 3),
        (9, 2, 3),
        (10, 1, 3),
        (12, 1, 2),
        (15, 0, 2),
        (25, 0, 1),
        (40, 0, 1),
    ]
    assert max(found) == 40
    assert clique_curve([], [], []) == []


def test_the_curve_has_about_ten_sizes_a_decade() -> None:
    sizes = [size for size, _ in clique_curve([0], [False], [500])]
    assert sizes == [
        *range(1, 10),
        *(10, 12, 15, 20, 25, 30, 40, 50, 60, 80),
        *(100, 120, 150, 200, 250, 300, 400, 500),
    ]


SCORED = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.5, 0.5, 2.0, float("inf")]), st.booleans()), max_size=40
)


@given(scored=SCORED)
def test_auc_is_the_share_of_pairs_in_order_with_ties_for_half(scored: list[tuple[float, bool]]) -> None:
    true = [score for score, is_true in scored if is_true]
    false = [score for score, is_true in scored if not is_true]
    found = auc([score for score, _ in scored], [is_true for _, is_true in scored])
    if not true or not false:
        assert found is None
        return
    points = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in true for b in false)
    assert found == pytest.approx(points / (len(true) * len(false)))


@given(scored=SCORED, fpr=st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.0]))
def test_tpr_is_the_best_over_all_thresholds_that_keep_the_rate(
    scored: list[tuple[float, bool]], fpr: float
) -> None:
    true = [score for score, is_true in scored if is_true]
    false = [score for score, is_true in scored if not is_true]
    found = tpr_at_fpr([score for score, _ in scored], [is_true for _, is_true in scored], fpr)
    if not true or not false:
        assert found is None
        return
    best = 0.0
    for threshold, _ in scored:
        if sum(s >= threshold for s in false) / len(false) <= fpr:
            best = max(best, sum(s >= threshold for s in true) / len(true))
    assert found == best


def test_one_false_one_on_top_of_a_hundred_costs_nothing_at_one_percent() -> None:
    scores = [9.0, *[5.0] * 50, *[1.0] * 99]
    truth = [False, *[True] * 50, *[False] * 99]
    assert tpr_at_fpr(scores, truth) == 1
    assert tpr_at_fpr(scores, truth, 0.005) == 0


def test_scores_that_have_no_order_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auc([float("nan"), 1.0], [True, False])
    with pytest.raises(ValueError, match="2 scores and 1 truth"):
        tpr_at_fpr([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="false positive rate 2"):
        tpr_at_fpr([1.0, 2.0], [True, False], 2)
