from __future__ import annotations

import dataclasses

import pytest

from onceseen.clusters import Candidate, group_weight, order_key

BASE = Candidate(node=1, head=1, sample_id="s/1", flaw=0.0, sharpness=400.0, bytes_per_pixel=0.5)


def _best(*candidates: Candidate, small_first: bool = False) -> str:
    return min(candidates, key=lambda c: order_key(c, small_first=small_first)).sample_id


def _other(**changes: object) -> Candidate:
    return dataclasses.replace(BASE, sample_id="s/0", **changes)  # type: ignore[arg-type]


def test_containment_beats_resolution() -> None:
    letterboxed = _other(flaw=0.3, sharpness=4_000.0, bytes_per_pixel=9.0)
    assert _best(BASE, letterboxed) == "s/1"


def test_resolution_beats_bytes() -> None:
    assert _best(BASE, _other(sharpness=200.0, bytes_per_pixel=9.0)) == "s/1"


def test_small_differences_are_noise() -> None:
    assert _best(BASE, _other(flaw=0.004, sharpness=401.0, bytes_per_pixel=0.6)) == "s/0"


def test_bytes_beat_the_preferred_field() -> None:
    assert _best(BASE, _other(bytes_per_pixel=0.4, preference="9")) == "s/1"


@pytest.mark.parametrize(
    ("mine", "other", "small_first", "best"),
    [
        ("9", "10", False, "s/0"),
        ("9", "10", True, "s/1"),
        ("b", "a", False, "s/0"),
        ("b", "a", True, "s/1"),
        ("1", "a", False, "s/1"),
        ("", "a", False, "s/0"),
        ("nan", "-5", False, "s/0"),
        ("a", "a", False, "s/0"),
    ],
)
def test_the_preferred_field_decides_before_the_id(
    mine: str, other: str, small_first: bool, best: str
) -> None:
    first = dataclasses.replace(BASE, preference=mine)
    assert _best(first, _other(preference=other), small_first=small_first) == best


@pytest.mark.parametrize(
    ("copies", "kept", "alpha", "total"), [(16, 1, 1.0, 1), (16, 2, 0.0, 16), (16, 4, 0.5, 4)]
)
def test_weights_of_a_group_add_up(copies: int, kept: int, alpha: float, total: float) -> None:
    assert group_weight(copies, kept, alpha) * kept == pytest.approx(total)
