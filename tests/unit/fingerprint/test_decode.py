"""Decoding: every kind of picture read rightly, every kind of damage named."""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.fingerprint.conftest import encode

from onceseen.core.failures import FailureReason, SampleError
from onceseen.fingerprint import decode_image

MAX_PIXELS = 1_000_000


def decode(data: bytes) -> NDArray[np.uint8]:
    return decode_image(data, MAX_PIXELS).rgb


def reason_of(data: bytes, max_pixels: int = MAX_PIXELS) -> FailureReason:
    with pytest.raises(SampleError) as raised:
        decode_image(data, max_pixels)
    return raised.value.reason


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def ramp_alpha(photo: Image.Image) -> Image.Image:
    alpha = np.tile(np.linspace(0, 255, photo.width).astype(np.uint8), (photo.height, 1))
    clear = photo.copy()
    clear.putalpha(Image.fromarray(alpha))
    return clear


def over_white(clear: Image.Image) -> NDArray[np.uint8]:
    rgba = np.asarray(clear).astype(float)
    share = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_lossless_formats_give_the_very_pixels(
    photo: Image.Image, kind: str, options: dict[str, object]
) -> None:
    picture = decode_image(encode(photo, kind, **options), MAX_PIXELS)
    np.testing.assert_array_equal(picture.rgb, np.asarray(photo))
    assert picture.format == kind.lower()
    assert picture.rgb.flags.c_contiguous


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("AVIF", {})],
)
def test_lossy_formats_are_close(photo: Image.Image, kind: str, options: dict[str, object]) -> None:
    assert difference(decode(encode(photo, kind, quality=95, **options)), np.asarray(photo)) < 4


def test_cmyk_jpeg_is_not_inverted(photo: Image.Image) -> None:
    data = encode(photo.convert("CMYK"), "JPEG", quality=95)
    assert difference(decode(data), np.asarray(photo)) < 4


def test_sixteen_bits_are_scaled(photo: Image.Image) -> None:
    deep = np.asarray(photo).astype(np.uint16) * 257
    for extension in (".png", ".tiff"):
        data = cv2.imencode(extension, deep[:, :, ::-1])[1].tobytes()
        assert difference(decode(data), np.asarray(photo)) < 0.6
        grey = cv2.imencode(extension, deep[:, :, 0])[1].tobytes()
        expected = np.repeat(np.asarray(photo)[:, :, :1], 3, axis=2)
        assert difference(decode(grey), expected) < 0.6


def test_grey_palette_and_bilevel(photo: Image.Image) -> None:
    for image in (photo.convert("L"), photo.quantize(64), photo.convert("1")):
        np.testing.assert_array_equal(decode(encode(image, "PNG")), np.asarray(image.convert("RGB")))
    palette = photo.quantize(64)
    np.testing.assert_array_equal(decode(encode(palette, "GIF")), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_transparency_lies_over_white(photo: Image.Image, kind: str, options: dict[str, object]) -> None:
    clear = ramp_alpha(photo)
    rgb = decode(encode(clear, kind, **options))
    assert np.abs(rgb.astype(int) - over_white(clear)).max() <= 1


def test_transparent_palette_lies_over_white(photo: Image.Image) -> None:
    palette = photo.quantize(16)
    index = int(np.asarray(palette)[0, 0])
    for kind in ("PNG", "GIF"):
        rgb = decode(encode(palette, kind, transparency=index))
        assert (rgb[0, 0] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animation_gives_its_first_frame(photo: Image.Image, kind: str) -> None:
    first = photo.quantize(64) if kind == "GIF" else photo
    second = first.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(decode(data), np.asarray(first.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied_once(photo: Image.Image, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = Image.Transpose
    stored = {
        1: None,
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }[orientation]
    turned = photo if stored is None else photo.transpose(stored)
    data = encode(turned, kind, exif=exif, quality=95)
    assert difference(decode(data), np.asarray(photo)) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncation_is_seen(photo: Image.Image, kind: str, share: float) -> None:
    image = photo.quantize(64) if kind == "GIF" else photo
    data = encode(image, kind)
    assert reason_of(data[: int(len(data) * share)]) is FailureReason.TRUNCATED_IMAGE


def test_truncated_jpeg_padded_with_zeros_is_seen(photo: Image.Image) -> None:
    data = encode(photo, "JPEG")
    assert reason_of(data[:-700] + bytes(700)) is FailureReason.TRUNCATED_IMAGE


def test_end_marker_of_the_thumbnail_is_not_the_end(photo: Image.Image) -> None:
    thumbnail = encode(photo.resize((32, 24)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    data = encode(photo, "JPEG")
    whole = data[:2] + segment + data[2:]
    assert decode(whole).shape == (72, 96, 3)
    assert reason_of(whole[:-50]) is FailureReason.TRUNCATED_IMAGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_trailing_junk_is_tolerated(photo: Image.Image, kind: str) -> None:
    image = photo.quantize(64) if kind == "GIF" else photo
    junk = b"" if kind == "AVIF" else b"\r\n<html>junk"
    data = encode(image, kind)
    np.testing.assert_array_equal(decode(data + junk), decode(data))


def test_fill_bytes_before_a_marker_are_read_over(photo: Image.Image) -> None:
    data = encode(photo, "JPEG")
    filled = data[:-2] + b"\xff\xff\xff\xd9"
    np.testing.assert_array_equal(decode(filled), decode(data))
    assert reason_of(filled[:-1]) is FailureReason.TRUNCATED_IMAGE
    stuffed = data[:-2] + b"\xff\xff\x00\xff\x00"  # no marker, though 0xff is repeated
    assert reason_of(stuffed) is FailureReason.TRUNCATED_IMAGE


def test_no_bytes_and_text() -> None:
    assert reason_of(b"") is FailureReason.EMPTY_IMAGE
    for data in (
        b"<html>404 Not Found</html>",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM is a name",
        b"\0" * 900,
    ):
        assert reason_of(data) is FailureReason.UNKNOWN_FORMAT


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", body)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def test_bombs_are_refused_by_their_headers(photo: Image.Image) -> None:
    assert reason_of(png_header(60_000, 60_000), 200_000_000) is FailureReason.DECOMPRESSION_BOMB
    assert reason_of(png_header(60_000, 60_000), 10**12) is FailureReason.DECOMPRESSION_BOMB
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
        image = photo.quantize(64) if kind == "GIF" else photo
        assert reason_of(encode(image, kind), 96 * 72 - 1) is FailureReason.DECOMPRESSION_BOMB
        assert decode_image(encode(image, kind), 96 * 72).rgb.shape == (72, 96, 3)


def test_broken_content_is_a_decode_error(photo: Image.Image) -> None:
    assert reason_of(png_header(0, 5)) is FailureReason.DECODE_ERROR
    data = bytearray(encode(photo, "PNG"))
    data[len(data) // 2] ^= 0xFF
    assert reason_of(bytes(data)) is FailureReason.DECODE_ERROR
    grey = Image.fromarray(np.asarray(photo.convert("L")).astype(np.float32))
    assert reason_of(encode(grey, "TIFF")) is FailureReason.DECODE_ERROR


def test_broken_pictures_leave_no_line_of_opencv_on_stderr(
    photo: Image.Image, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(encode(photo, "JPEG"))
    start = data.index(b"\xff\xc4")
    data[start + 5 : start + 20] = b"\xff" * 15
    with pytest.raises(SampleError):
        decode(bytes(data))
    assert "WARN" not in capfd.readouterr().err


def test_threads_give_the_same_pixels(photos: list[NDArray[np.uint8]]) -> None:
    files = [
        encode(Image.fromarray(p), k, quality=90) for p in photos[:8] for k in ("JPEG", "PNG", "WEBP", "AVIF")
    ]
    alone = [decode(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(decode, files), strict=True):
            np.testing.assert_array_equal(a, b)
