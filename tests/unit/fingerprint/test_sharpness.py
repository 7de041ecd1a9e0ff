"""Effective resolution: copies with less detail than their original do not beat it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.fingerprint import effective_resolution

METHODS = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@pytest.fixture(scope="module")
def greys(photos: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in photos[::6]]


def jpeg(grey: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    return cv2.imdecode(
        cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


def ratios(greys: list[NDArray[np.uint8]], change: object) -> NDArray[np.float64]:
    return np.array([effective_resolution(change(g)) / effective_resolution(g) for g in greys])  # type: ignore[operator]


def resize(scale: float, method: str) -> object:
    return lambda g: cv2.resize(g, None, fx=scale, fy=scale, interpolation=METHODS[method])


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos"])
@pytest.mark.parametrize("scale", [1.25, 1.5, 2.0])
def test_enlarged_copies_never_win(greys: list[NDArray[np.uint8]], method: str, scale: float) -> None:
    won = ratios(greys, resize(scale, method)) >= 1
    assert won.sum() <= 1


@pytest.mark.parametrize("method", ["linear", "cubic", "lanczos"])
def test_enlarged_and_encoded_copies_never_win(greys: list[NDArray[np.uint8]], method: str) -> None:
    enlarge = resize(2.0, method)
    assert (ratios(greys, lambda g: jpeg(enlarge(g), 80)) >= 1).sum() <= 1  # type: ignore[operator]


def test_repeated_pixels_are_seen(greys: list[NDArray[np.uint8]]) -> None:
    for times in (2, 3):
        assert (ratios(greys, lambda g, n=times: g.repeat(n, 0).repeat(n, 1)) < 1).all()


@pytest.mark.parametrize("method", list(METHODS))
def test_shrunk_copies_hold_less(greys: list[NDArray[np.uint8]], method: str) -> None:
    halved = ratios(greys, resize(0.5, method))
    assert 0.4 < np.median(halved) < 0.6
    assert np.mean(halved > 1) <= 0.15  # soft originals, whose half holds all that they do


def test_blur_holds_less(greys: list[NDArray[np.uint8]]) -> None:
    for sigma in (0.7, 1.0, 2.0):
        assert (ratios(greys, lambda g, s=sigma: cv2.GaussianBlur(g, (0, 0), s)) < 1).all()


def test_encoding_again_changes_little(greys: list[NDArray[np.uint8]]) -> None:
    assert 0.97 <= np.median(ratios(greys, lambda g: jpeg(g, 90))) <= 1.03
    assert np.median(ratios(greys, lambda g: jpeg(g, 20))) < 1


def test_small_pictures_count_as_they_are() -> None:
    assert effective_resolution(np.zeros((30, 40), np.uint8)) == 50.0


def test_flat_picture_has_a_number() -> None:
    assert 0 < effective_resolution(np.full((200, 300), 77, np.uint8)) <= np.hypot(200, 300)
