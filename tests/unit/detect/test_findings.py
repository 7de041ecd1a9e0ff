from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceseen.core.config import ScanConfig, VerifyConfig
from onceseen.detect import Finding, Match, best_match, exact_match, finding

VERIFY, SCAN = VerifyConfig(), ScanConfig()
MATCH = Match("r/1", "perceptual", 0.97, 4, 0.98, True, 1.0, 1.0, "identity")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Finding.DUPLICATE),
        ({"coverage_query": 0.4}, Finding.DUPLICATE),  # the query holds the whole reference and more
        ({"coverage_reference": 0.4}, Finding.DUPLICATE),  # the query is a crop
        ({"coverage_query": 0.2}, Finding.NEAR),  # a collage of which the reference is a small part
        ({"coverage_query": 0.8, "coverage_reference": 0.8}, Finding.NEAR),  # neither holds the other
        ({"verified": False, "score": 0.3}, Finding.NEAR),
        ({"verified": False, "score": 0.19}, Finding.CLEAR),
    ],
)
def test_a_match_says_what_its_evidence_allows(changes: dict[str, object], expected: Finding) -> None:
    assert finding(replace(MATCH, **changes), VERIFY, SCAN) == expected


def test_a_duplicate_beats_a_near_one_with_a_higher_score() -> None:
    near = replace(MATCH, reference_id="r/0", score=1.0, coverage_query=0.1)
    assert best_match([near, MATCH], VERIFY, SCAN) == (Finding.DUPLICATE, MATCH)


def test_equal_files_beat_equal_pixels_and_then_the_smaller_id() -> None:
    found = [exact_match("r/2", equal_bytes=True), exact_match("r/1", equal_bytes=False)]
    assert best_match(found, VERIFY, SCAN)[1] == found[0]
    same = [exact_match("r/9", equal_bytes=True), exact_match("r/2", equal_bytes=True)]
    assert best_match(same, VERIFY, SCAN)[1] == same[1]


def test_without_a_match_that_says_anything_all_is_clear() -> None:
    assert best_match([], VERIFY, SCAN) == (Finding.CLEAR, None)
    far = replace(MATCH, verified=False, score=0.01)
    assert best_match([far], VERIFY, SCAN) == (Finding.CLEAR, None)


_matches = st.builds(
    Match,
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["bytes", "pixels", "perceptual", "embedding"]),
    st.one_of(st.none(), st.floats(-1, 1)),
    st.integers(0, 256),
    st.floats(0, 1),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.just("identity"),
)


@given(st.lists(_matches, unique_by=lambda m: m.reference_id), st.randoms(use_true_random=False))
def test_the_order_of_matches_changes_nothing(matches: list[Match], random: object) -> None:
    turned = list(matches)
    random.shuffle(turned)  # type: ignore[attr-defined]
    assert best_match(turned, VERIFY, SCAN) == best_match(matches, VERIFY, SCAN)
