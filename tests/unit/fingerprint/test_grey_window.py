"""The window of deep grey: chosen by the pixels, the same whatever file holds them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.fingerprint.conftest import encode

from onceseen.core.config import ReadConfig
from onceseen.fingerprint import decode_image
from onceseen.fingerprint.grey_window import GreyWindow, find_window, parse_window, to_grey

Deep = NDArray[np.uint16]


@pytest.fixture
def slice12(photo: Image.Image) -> Deep:
    """A picture of 12 bits, from 37 to about 3,000."""
    grey = np.asarray(photo.convert("L")).astype(np.uint16)
    return (grey * 12 + 37).astype(np.uint16)


def _grey(data: bytes, window: str = "pixels") -> NDArray[np.uint8]:
    rgb = decode_image(data, 10**6, window).rgb
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0]


def _png(samples: NDArray[np.generic]) -> bytes:
    return bytes(cv2.imencode(".png", samples)[1])


def _tiff(samples: NDArray[np.generic]) -> bytes:
    return encode(Image.fromarray(samples), "TIFF")


def test_twelve_bits_in_sixteen_are_no_black_picture(slice12: Deep) -> None:
    shown = _grey(_png(slice12))
    assert (shown.min(), shown.max()) == (0, 255)
    full_range = np.rint(slice12 / 257)
    assert full_range.std() < 4 < shown.std(), "scaled by its full range it would be blank"


def test_the_same_slice_in_any_file_gives_the_same_pixels(slice12: Deep) -> None:
    expected = _grey(_png(slice12))
    files = {
        "tiff": _tiff(slice12),
        "tiff, big-endian": _tiff(slice12.astype(">u2")),
        "tiff, signed, in Hounsfield units": _tiff(slice12.astype(np.int32) - 1024),
        "png, another offset": _png(slice12 + np.uint16(900)),
        "png, multiplied": _png(slice12 * np.uint16(8)),
    }
    for name, data in files.items():
        np.testing.assert_array_equal(_grey(data), expected, err_msg=name)


def test_an_export_of_eight_bits_by_full_range_is_the_same_within_rounding(slice12: Deep) -> None:
    low, high = int(slice12.min()), int(slice12.max())
    export = ((slice12 - low) * (255 / (high - low))).astype(np.uint8)
    shown = _grey(_png(slice12)).astype(int)
    assert np.abs(shown - _grey(encode(Image.fromarray(export), "PNG")).astype(int)).max() <= 1


def test_hot_pixels_do_not_darken_the_picture(slice12: Deep) -> None:
    hot = slice12.copy()
    hot[5, 5] = hot[40, 50] = 30_000
    difference = np.abs(_grey(_png(hot)).astype(int) - _grey(_png(slice12)))
    difference[5, 5] = difference[40, 50] = 0
    assert difference.max() < 26


def test_a_copy_of_eight_bits_in_sixteen_stays_the_same_picture(photo: Image.Image) -> None:
    grey = np.asarray(photo.convert("L"))
    assert int(grey.max()) - int(grey.min()) > 128
    for samples in (grey.astype(np.uint16) * 257, (grey.astype(np.uint16) * 257).astype(">u2")):
        np.testing.assert_array_equal(_grey(_tiff(samples)), grey)
    np.testing.assert_array_equal(_grey(_png(grey.astype(np.uint16) * 257)), grey)


def test_eight_bits_are_left_as_they_are(photo: Image.Image) -> None:
    dark = (np.asarray(photo.convert("L")) // 16).astype(np.uint8)
    for window in ("pixels", "file", "4/2"):
        np.testing.assert_array_equal(_grey(encode(Image.fromarray(dark), "PNG"), window), dark)
        np.testing.assert_array_equal(_grey(encode(Image.fromarray(dark), "TIFF"), window), dark)


def test_white_is_zero_is_turned_round(slice12: Deep) -> None:
    expected = _grey(_png(slice12)).astype(int)
    photometric = struct.pack("<HHI", 262, 3, 1)
    data = _tiff((4_095 - slice12).astype(np.uint16))
    assert data.count(photometric + b"\1") == 1
    data = data.replace(photometric + b"\1", photometric + b"\0")
    assert np.abs(_grey(data).astype(int) - expected).max() <= 1


def test_a_given_window_is_taken(slice12: Deep) -> None:
    shown = _grey(_png(slice12), "1000/400")
    expected = np.floor((np.clip(slice12, 800, 1200).astype(float) - 800) / 400 * 255 + 0.5)
    np.testing.assert_array_equal(shown, expected)


def test_a_flat_and_an_almost_flat_picture() -> None:
    flat = np.full((50, 60), 700, np.uint16)
    assert not _grey(_png(flat)).any()
    one = flat.copy()
    one[3, 3] = 701
    assert _grey(_png(one)).sum() == 255


def test_blocks_do_not_show() -> None:
    wide = np.arange(3 * 1_200_000, dtype=np.uint32).reshape(3, -1)
    shown = to_grey(wide, find_window(wide))
    assert (np.diff(shown.astype(int).ravel()) >= 0).all()
    assert (shown[0, 0], shown[-1, -1]) == (0, 255)


def test_windows_in_words() -> None:
    assert parse_window("pixels") is None
    assert parse_window("file") is None
    assert parse_window("-600/1500.5") == GreyWindow(-1350.25, 150.25)
    for wrong in ("", "auto", "40", "40/0", "40/-5", "/", "a/b", "nan/5", "5/inf", "1e400/2"):
        with pytest.raises(ValueError, match="CENTRE/WIDTH"):
            parse_window(wrong)
        with pytest.raises(ValueError, match=r"read\.window"):
            ReadConfig(window=wrong)
    for right in ("pixels", "file", "40/400", "-600/1500.5", "+1/0.5"):
        assert ReadConfig(window=right).window == right


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", ">i2", ">u2"])
def test_counting_gives_what_sorting_gives(kind: str) -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    limits = np.iinfo(kind)
    for size, spread in (((7, 5), 1.0), ((40, 60), 0.01), ((90, 31), 0.4)):
        high = max(limits.min + 2, int(limits.max * spread))
        short = rng.integers(limits.min, high, size, endpoint=True).astype(kind)
        short.flat[0] = limits.max  # a hot pixel
        window = find_window(short)
        if short.dtype.itemsize == 1 or short.dtype.kind == "i":  # unsigned 16 bits may take their full range
            assert window == find_window(short.astype(np.int32))
        for chosen in (window, GreyWindow(-3.5, 77.25)):
            np.testing.assert_array_equal(to_grey(short, chosen), to_grey(short.astype(np.int32), chosen))
