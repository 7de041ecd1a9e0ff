"""Marks that no tile sees."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.planted.imaging import encode_jpeg
from onceseen.verify.faint import faint_marks
from unit.verify.pictures import Rgb, copy_of, final, photo, show, show_encoded

NAMES = ["animal-bison", "monument-mont-st-michel", "farm-owl", "music-orchestra"]
OPACITY = 0.12


def _marked(rgb: Rgb, level: int = 255) -> Rgb:
    layer = rgb.copy()
    for row in range(30, rgb.shape[0], 48):
        cv2.putText(layer, "sample   sample", (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (level,) * 3, 2)
    return np.asarray(cv2.addWeighted(rgb, 1 - OPACITY, layer, OPACITY, 0), dtype=np.uint8)


def _marks(p: Rgb, q: Rgb) -> tuple[float, float]:
    grey: list[NDArray[np.float32]] = [
        cv2.GaussianBlur(cv2.cvtColor(m, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.8) for m in (p, q)
    ]
    every = np.ones(grey[0].shape, dtype=bool)
    of_p, of_q = faint_marks(grey[0], grey[1], every, ~every)
    return float(of_p.mean()), float(of_q.mean())


@pytest.mark.parametrize(
    ("name", "level"), [*((n, 255) for n in NAMES), ("animal-bison", 0), ("monument-mont-st-michel", 0)]
)
def test_a_mark_at_an_eighth_of_opacity_is_its_sides(name: str, level: int) -> None:
    rgb = photo(name)
    marked = show_encoded(encode_jpeg(_marked(rgb, level), 90).data)[1]
    of_p, of_q = _marks(marked, rgb)
    assert of_p > 0.003
    assert of_q < of_p / 5
    assert _marks(rgb, marked) == pytest.approx((of_q, of_p), abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("transform", ["jpeg15", "jpeg30", "webp", "grey", "noise"])
def test_coding_and_noise_are_no_marks(name: str, transform: str) -> None:
    assert max(_marks(copy_of(name, transform)[1], photo(name))) < 0.002


def test_what_is_known_to_differ_is_not_counted_again() -> None:
    rgb = photo("animal-bison")
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    marked = cv2.cvtColor(_marked(rgb), cv2.COLOR_RGB2GRAY).astype(np.float32)
    every = np.ones(grey.shape, dtype=bool)
    for valid, known in ((every, every), (~every, ~every)):
        assert not any(m.any() for m in faint_marks(grey, marked, valid, known))


@pytest.mark.parametrize("name", NAMES)
def test_a_faintly_marked_copy_holds_foreign_content(name: str) -> None:
    judged = final(show(_marked(photo(name))), show(photo(name)))
    assert judged.verified
    assert "overlaid" in judged.transform or judged.foreign_a < 0.005
    assert judged.foreign_a > judged.foreign_b + 0.003
