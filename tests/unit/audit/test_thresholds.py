"""Calibrated thresholds: at most the rate matches, and the next larger one would not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audit_pictures import RATIO, calibrated, held_out, training
from onceseen.audit import calibrate_cosine, calibrate_distance, distance_ratio, largest_tile, tile_distances

INF = float("inf")


def _matching(nearest: NDArray[np.float32], second: NDArray[np.float32], ratio: float, at: float) -> int:
    return sum(1 for a, b in zip(nearest, second, strict=True) if a <= at and (a <= ratio * b or b == INF))


_DISTANCES = st.lists(
    st.tuples(st.sampled_from([0.05, 0.1, 0.1, 0.2, 0.3, 0.5]), st.sampled_from([1.0, 1.2, 2.0, 8.0, INF])),
    min_size=1,
    max_size=60,
)


@given(pairs=_DISTANCES, max_rate=st.sampled_from([0.0, 0.01, 0.05, 0.29, 0.5, 0.99]))
@settings(max_examples=300)
def test_at_most_the_rate_matches_and_the_next_threshold_is_too_large(
    pairs: list[tuple[float, float]], max_rate: float
) -> None:
    nearest = np.array([d for d, _ in pairs], dtype=np.float32)
    second = np.array([d * by for d, by in pairs], dtype=np.float32)
    found = calibrate_distance(nearest, second, 0.75, max_rate)
    assert found.tried == len(pairs)
    assert found.matched == _matching(nearest, second, 0.75, found.distance)
    assert found.matched / found.tried <= max_rate
    if found.limited:
        larger = float(np.nextafter(np.float32(found.distance), np.float32(INF)))
        assert _matching(nearest, second, 0.75, larger) / found.tried > max_rate
    else:
        assert _matching(nearest, second, 0.75, INF) / found.tried <= max_rate
        assert found.distance <= nearest.max()


def test_of_equal_distances_all_match_or_none() -> None:
    nearest = np.array([0.1, 0.2, 0.2, 0.2, *[0.4] * 96], dtype=np.float32)
    second = np.full(100, INF)
    three = calibrate_distance(nearest, second, 0.75, 0.03)
    assert (three.matched, three.tried, three.limited) == (1, 100, True)
    assert 0.1 <= three.distance < np.float32(0.2)
    assert calibrate_distance(nearest, second, 0.75, 0.04).matched == 4


def test_a_share_that_floats_round_down_is_still_allowed() -> None:
    # 0.29 * 100 is 28.999999999999996, and 29 / 100 is at most 0.29.
    nearest = np.linspace(0.1, 0.9, 100)
    assert calibrate_distance(nearest, np.full(100, INF), 0.75, 0.29).matched == 29


def test_pictures_with_another_as_near_never_match() -> None:
    nearest = np.array([0.01, 0.02, 0.3, 0.4])
    second = np.array([0.011, 0.021, 0.9, 0.9])
    found = calibrate_distance(nearest, second, 0.75, 0.25)
    assert found.matched == 1
    assert np.float32(0.3) <= found.distance < np.float32(0.4)


def test_where_the_ratio_refuses_all_no_distance_is_made_up() -> None:
    nearest = np.array([0.1, 0.2, 0.3, 0.4])
    found = calibrate_distance(nearest, nearest * 1.01, 0.75, 0.25)
    assert (found.matched, found.limited) == (0, False)
    assert np.float32(0.1) <= found.distance < np.float32(0.2)


def test_held_out_pictures_that_are_in_training_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 1 of 100 pictures .* take them out of --held-out"):
        calibrate_distance(np.array([0.0, 0.0, *[0.3] * 98]), np.full(100, 0.4), 0.75, 0.01)
    one = calibrate_distance(np.array([0.0, *[0.3] * 99]), np.full(100, 0.9), 0.75, 0.01)
    assert one.matched == 1
    assert one.distance > 0.29


def test_photographs_that_were_held_out_match_at_no_more_than_the_rate() -> None:
    largest = np.sort(largest_tile(tile_distances(held_out(), training())), axis=1)
    found = calibrated()
    hits = (largest[:, 0] <= found.distance) & (largest[:, 0] <= RATIO * largest[:, 1])
    assert hits.sum() == found.matched == 0
    # skimage-brick and skimage-gravel, both fine textures of one tone, are the first to match wrongly.
    assert 0.08 < found.distance < 0.1


def test_ratios() -> None:
    found = distance_ratio(np.array([0.0, 0.0, 0.1, 0.3]), np.array([0.0, 0.2, INF, 0.4]))
    np.testing.assert_allclose(found, [1, 0, 0, 0.75])


@given(seed=st.integers(0, 9999), max_rate=st.sampled_from([0.0, 0.1, 0.5]), count=st.integers(2, 30))
@settings(max_examples=100)
def test_cosines_of_other_groups_reach_the_threshold_at_most_at_the_rate(
    seed: int, max_rate: float, count: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 4))
    groups = np.arange(count, dtype=np.int64) // 2
    groups[-1] = count
    found = calibrate_cosine(vectors, groups, max_rate)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    products = (units @ units.T).astype(np.float32)
    products[groups[:, None] == groups[None, :]] = -2
    best = products.max(axis=1)
    slack = 1e-6  # the products are rounded by another route here
    assert (best >= found + slack).sum() / count <= max_rate
    assert (best >= found - slack).sum() / count > max_rate


def test_pictures_of_one_group_set_no_cosine() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    groups = np.array([7, 7, 9, 9])
    assert 0 < calibrate_cosine(vectors, groups, 0.0) < 1e-30
    equal = np.array([1, 2, 3, 4])
    assert calibrate_cosine(vectors, equal, 0.0) > 1  # nothing is near where strangers are equal


def test_rows_are_taken_in_blocks_without_a_difference() -> None:
    vectors = np.random.default_rng(5).normal(size=(2_100, 3))
    groups = np.arange(2_100, dtype=np.int64)
    best = np.sort(
        (lambda u: np.where(np.eye(2_100) > 0, -2, u @ u.T).max(axis=1))(
            vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        )
    )[::-1]
    assert calibrate_cosine(vectors, groups, 0.5) == pytest.approx(best[1_050], abs=1e-6)


@pytest.mark.parametrize("max_rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(max_rate: float) -> None:
    with pytest.raises(ValueError, match=r"audit\.max_rate"):
        calibrate_distance(np.array([0.1]), np.array([0.2]), 0.75, max_rate)


def test_nothing_to_calibrate_on_is_refused() -> None:
    with pytest.raises(ValueError, match=r"set audit\.match_distance"):
        calibrate_distance(np.array([]), np.array([]), 0.75, 0.01)
    with pytest.raises(ValueError, match="in 1 groups"):
        calibrate_cosine(np.ones((3, 2)), np.zeros(3, dtype=np.int64), 0.01)
