"""Explanations of samples and pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, pair, picture

from onceseen.core.layout import RunLayout
from onceseen.core.records import Verdict
from onceseen.explain import add_arguments, cosine, explain_pair, explain_sample, hamming, run

A, B = jpeg(picture(1)), jpeg(picture(2))
SAMPLES = [
    Planted("t/a", A, "the kept one\nof many"),
    dropped("t/b", A, "t/a", "bytes"),
    dropped("t/c", jpeg(picture(1), 40), "t/a", score=0.93),
    Planted("t/d", B, component="t/a"),
    Planted("u/e", jpeg(picture(3))),
    failed("u/f", "truncated_image"),
    Planted("u/g", jpeg(picture(4)), verdict=Verdict.DROP, kind="decision"),
    dropped("u/h", jpeg(picture(1), 35), "t/a", score=0.7, evidence=("t/c", "u/h")),
    Planted("u/i", A, under="t/a"),
]
PAIRS = [
    pair("t/a", "t/b", "bytes"),
    pair("t/a", "t/c", score=0.93, cosine=0.97, pdq_distance=8, coverage_a=0.9, foreign_a=0.125),
    pair("t/a", "t/d", verified=False, score=0.2, cosine=0.61, pdq_distance=90, transform=""),
    pair("t/c", "u/h", score=0.7),
]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return SmallRun(tmp_path, SAMPLES, PAIRS).write()


def test_a_dropped_sample_names_its_evidence_and_the_keep_order(layout: RunLayout) -> None:
    text = explain_sample(layout, "t/c")
    for words in (
        "verdict        drop",
        "kept for it    t/a (5 copies in its group)",
        "evidence       perceptual, score 0.930",
        "pair compared  t/a  |  t/c",
        "cosine         0.970",
        "PDQ distance   8 of 256",
        "0.900 of a is in b, 1.000 of b is in a",
        "foreign share  0.000 | 0.125",
        "sharpness      80.0 | 80.0",
        "bytes a pixel",
        "component      t/a, 6 samples",
    ):
        assert words in text


def test_evidence_through_an_exact_class_is_said(layout: RunLayout) -> None:
    text = explain_sample(layout, "u/h")
    assert "pair compared  t/c  |  u/h" in text
    assert "each is equal in pixels to the sample or to the kept one" in text


def test_a_kept_sample_lists_what_it_stands_for(layout: RunLayout) -> None:
    text = explain_sample(layout, "t/a")
    assert "stands for     5 copies, itself included" in text
    assert "t/b  bytes, score 1.000" in text
    assert "t/d  not verified, score 0.200, cosine 0.610, PDQ 90, no transform" in text
    assert "caption        the kept one of many" in text


def test_other_verdicts(layout: RunLayout) -> None:
    assert "stands for     1 copy" in explain_sample(layout, "u/e")
    assert "reason         truncated_image (decode): a <b> detail" in explain_sample(layout, "u/f")
    assert "by a person's decision; no picture stands for it" in explain_sample(layout, "u/g")
    assert "kept too       beside t/a" in explain_sample(layout, "u/i")


def test_a_pair_of_the_table(layout: RunLayout) -> None:
    text = explain_pair(layout, "t/d", "t/a")
    assert "a: t/a\nb: t/d" in text
    assert "perceptual, not verified, score 0.200" in text
    assert "same group     no" in text


def test_a_pair_that_was_never_compared_is_compared_now(layout: RunLayout) -> None:
    text = explain_pair(layout, "t/d", "u/e")
    assert "no row in the pairs table" in text
    assert "cosine         0." in text or "cosine         -0." in text
    assert " of 256" in text
    assert "unknown" not in text


def test_a_pair_within_an_exact_class(layout: RunLayout) -> None:
    assert "equal bytes" in explain_pair(layout, "t/b", "u/i")


def test_a_pair_with_a_failed_sample(layout: RunLayout) -> None:
    assert "never compared: b failed (truncated_image)" in explain_pair(layout, "t/a", "u/f")


def test_an_unknown_id_names_the_nearest(layout: RunLayout) -> None:
    with pytest.raises(ValueError, match=r"no sample 'u/ee'; the nearest ids are u/e"):
        explain_sample(layout, "u/ee")
    with pytest.raises(ValueError, match=r"no sample 'v/a'; the nearest ids are .*t/a"):
        explain_pair(layout, "t/a", "v/a")


def test_one_id_twice_is_refused(layout: RunLayout) -> None:
    with pytest.raises(ValueError, match="given twice"):
        explain_pair(layout, "t/a", "t/a")


def test_distances() -> None:
    assert hamming(b"\x00\xff", b"\x01\x0f") == 5
    assert hamming(None, b"\x00") is None
    assert cosine([3.0, 4.0], [4.0, 3.0]) == pytest.approx(0.96)
    assert cosine(None, [1.0]) is None
    assert cosine(list(np.zeros(2)), [1.0, 0.0]) is None


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_command(layout: RunLayout, capsys: Any) -> None:
    assert run(_parse(layout.root, "t/c")) == 0
    assert "kept for it" in capsys.readouterr().out
    assert run(_parse(layout.root, "t/c", "t/d")) == 0
    assert "same group" in capsys.readouterr().out
    assert run(_parse(layout.root, "t/x")) == 2
    assert "nearest ids" in capsys.readouterr().err
    assert run(_parse(layout.root, "t/a", "t/b", "t/c")) == 2
    assert "got 3" in capsys.readouterr().err


def test_a_persons_word_is_told(layout: RunLayout) -> None:
    Path(layout.decisions()).write_text(
        "sample_id_a,sample_id_b,decision\nt/a,t/d,different\nu/e,u/g,same\nu/g,,drop\n"
    )
    assert "a person's word drop\n  a person's word same as u/e" in explain_sample(layout, "u/g")
    assert "a person's word different from t/d" in explain_sample(layout, "t/a")
    assert "a person's word different: it stands above every score" in explain_pair(layout, "t/d", "t/a")
    assert "a person's word" not in explain_pair(layout, "t/a", "t/b")
