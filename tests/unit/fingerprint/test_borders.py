"""Borders: found on any side, in any colour, through JPEG; not found where there are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.config import FingerprintConfig
from onceseen.fingerprint import Picture, fingerprint_image, hamming_distance, view_pixels
from onceseen.fingerprint.borders import find_trim

# Photographs without a uniform side of their own.
PLAIN = slice(0, 160, 8)


def with_border(
    rgb: NDArray[np.uint8],
    top: int,
    right: int,
    bottom: int,
    left: int,
    colour: tuple[int, ...],
    quality: int | None,
) -> NDArray[np.uint8]:
    framed = cv2.copyMakeBorder(rgb, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)
    if quality is None:
        return framed
    encoded = cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


@pytest.mark.parametrize("quality", [None, 90, 75])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (30, 90, 160)])
@pytest.mark.parametrize(
    "sides", [(60, 0, 60, 0), (0, 70, 0, 70), (40, 40, 40, 40), (25, 0, 0, 0), (0, 0, 33, 51)]
)
def test_box_is_found_within_a_pixel_of_the_thumb(
    photos: list[NDArray[np.uint8]],
    sides: tuple[int, int, int, int],
    colour: tuple[int, ...],
    quality: int | None,
) -> None:
    tried = [rgb for rgb in photos[PLAIN] if find_trim(rgb) is None]
    wrong = 0
    for rgb in tried:
        framed = with_border(rgb, *sides, colour, quality)
        height, width = framed.shape[:2]
        top, right, bottom, left = sides
        true = np.array([left / width, top / height, 1 - right / width, 1 - bottom / height])
        box = find_trim(framed)
        wrong += box is None or np.abs(np.array(box) - true).max() * 64 > 1
    assert len(tried) >= 15
    assert wrong <= 2


def test_photographs_are_rarely_trimmed(photos: list[NDArray[np.uint8]]) -> None:
    trimmed = sum(find_trim(rgb) is not None for rgb in photos)
    assert trimmed <= 0.1 * len(photos)  # evenly lit skies


def test_thin_borders_and_blanks_are_left() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    assert find_trim(cv2.copyMakeBorder(noise, 3, 3, 3, 3, cv2.BORDER_CONSTANT)) is None
    assert find_trim(np.full((200, 300, 3), 80, np.uint8)) is None
    stamp = np.zeros((500, 500, 3), np.uint8)
    stamp[200:300, 200:300] = noise[:100, :100]
    assert find_trim(stamp) is None  # 4% of the picture
    assert find_trim(noise[:20, :20]) is None


def test_trimmed_view_is_the_original(photos: list[NDArray[np.uint8]]) -> None:
    rgb = next(p for p in photos[PLAIN] if find_trim(p) is None)
    framed = with_border(rgb, 50, 0, 50, 0, (0, 0, 0), None)
    original, copy = (
        fingerprint_image(b"", Picture(np.ascontiguousarray(p), "png"), FingerprintConfig())
        for p in (rgb, framed)
    )
    (view,) = copy.views
    assert view.name == "trimmed"
    assert hamming_distance(view.pdq, original.pdq) <= 2
    assert hamming_distance(view.pdq_mirrored, original.pdq_mirrored) <= 2
    assert hamming_distance(copy.pdq, original.pdq) > 31
    assert abs(copy.sharpness / original.sharpness - 1) < 0.02
    np.testing.assert_array_equal(view_pixels(Picture(framed, "png"), view), rgb)
    assert np.abs(view.thumb.astype(int) - original.thumb).max() <= 2
    off = FingerprintConfig(trim_borders=False)
    assert fingerprint_image(b"", Picture(framed, "png"), off).views == ()
