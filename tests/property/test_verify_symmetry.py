"""Whatever the pair: the order does not matter, shares are shares, and better evidence never lowers a score."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onceseen.planted.imaging import decode_rgb, encode_jpeg
from onceseen.verify import judge, judge_pixels
from unit.verify.pictures import CALIBRATION, CONFIG, Shown, final, photo, show

NAMES = ("animal-bison", "farm-owl", "nature-swans", "monument-taj-mahal")
RELAXED = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def variants(draw: st.DrawFn) -> Shown:
    """A photograph, cropped, mirrored, framed, scaled, dimmed and encoded as drawn."""
    rgb: NDArray[np.uint8] = photo(draw(st.sampled_from(NAMES)))
    height, width = rgb.shape[:2]
    left, top = draw(st.integers(0, width // 3)), draw(st.integers(0, height // 3))
    rgb = rgb[
        top : draw(st.integers(2 * height // 3, height)), left : draw(st.integers(2 * width // 3, width))
    ]
    if draw(st.booleans()):
        rgb = rgb[:, ::-1]
    rgb = np.asarray(rgb * draw(st.floats(0.4, 1.0)), dtype=np.uint8)
    bar = draw(st.sampled_from([0, 0, 20]))
    rgb = np.asarray(cv2.copyMakeBorder(rgb, bar, bar, 0, 0, cv2.BORDER_CONSTANT), dtype=np.uint8)
    size = draw(st.integers(60, 400)), draw(st.integers(60, 300))
    rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return show(decode_rgb(encode_jpeg(rgb, draw(st.integers(20, 95))).data), draw(st.booleans()))


@RELAXED
@given(variants(), variants())
def test_the_order_of_a_pair_does_not_matter(a: Shown, b: Shown) -> None:
    assert judge(a[0], b[0], CONFIG, CALIBRATION) == judge(b[0], a[0], CONFIG, CALIBRATION).swapped()
    judged = final(a, b)
    assert judged == final(b, a).swapped()
    for value in (judged.score, judged.coverage_a, judged.coverage_b, judged.foreign_a, judged.foreign_b):
        assert 0 <= value <= 1
    assert 0 <= judged.pdq_distance <= 256


@RELAXED
@given(variants())
def test_a_picture_is_in_itself(one: Shown) -> None:
    judged = judge(one[0], one[0], CONFIG, CALIBRATION)
    assert judged.pdq_distance == 0
    assert one[0].blank or min(judged.coverage_a, judged.coverage_b) > 0.99


@given(
    st.dictionaries(
        st.sampled_from(CALIBRATION.pixels.same.names + CALIBRATION.pixels.drawn.names), st.floats(0, 3)
    ),
    st.floats(-3, 6),
)
def test_better_evidence_never_lowers_a_score(gain: dict[str, float], base: float) -> None:
    for model in (CALIBRATION.thumbs, CALIBRATION.pixels):
        names = model.same.names + model.drawn.names
        before = dict.fromkeys(names, base)
        after = {n: base + gain.get(n, 0.0) for n in names}
        assert model.score(after) >= model.score(before)


@RELAXED
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(0, 1000),
    st.sampled_from(["noise", "flat", "photo"]),
)
def test_no_picture_is_too_small_or_too_odd(
    size: tuple[int, int], other: tuple[int, int], seed: int, kind: str
) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    pictures = []
    for width, height in (size, other):
        if kind == "photo":
            rgb = cv2.resize(photo("farm-owl"), (width, height), interpolation=cv2.INTER_AREA)
        elif kind == "noise":
            rgb = rng.integers(0, 256, (height, width, 3))
        else:
            rgb = np.full((height, width, 3), rng.integers(0, 256, 3))
        pictures.append(show(np.asarray(rgb, dtype=np.uint8), False))
    a, b = pictures
    first = judge(a[0], b[0], CONFIG, CALIBRATION)
    forced = dataclasses.replace(first, doubtful=True)
    judged = judge_pixels(a[0], b[0], a[1], b[1], forced, CONFIG, CALIBRATION)
    assert 0 <= judged.score <= 1
    if kind != "photo":
        assert not judged.verified or a[0] == b[0]
