"""Encoding, decoding and drawing that the planted pictures share; OpenCV only.

Pictures are (height, width, 3) uint8 arrays in RGB order. The bytes are the same for the same arguments and
the same release of OpenCV; another release may encode, scale or draw letters differently.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

RgbImage = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)


class EncodedImage(NamedTuple):
    """An encoded picture and the extension that its member of a shard gets.

    Attributes:
        data: The encoded bytes.
        extension: `jpg`, `png` or `webp`, without a dot.
    """

    data: bytes
    extension: str


def encode_jpeg(rgb: RgbImage, quality: int) -> EncodedImage:
    """Encode as JPEG of quality 0 to 100."""
    return _encode(rgb, "jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(rgb: RgbImage) -> EncodedImage:
    """Encode as PNG, zlib level 3."""
    return _encode(rgb, "png", [cv2.IMWRITE_PNG_COMPRESSION, 3])


def encode_webp(rgb: RgbImage, quality: int) -> EncodedImage:
    """Encode as lossy WebP of quality 1 to 100."""
    return _encode(rgb, "webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def _encode(rgb: RgbImage, extension: str, flags: list[int]) -> EncodedImage:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected an RGB picture (height, width, 3) uint8, got {rgb.shape} {rgb.dtype}")
    done, encoded = cv2.imencode(f".{extension}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of {rgb.shape} as {extension}")
    return EncodedImage(encoded.tobytes(), extension)


def decode_rgb(data: bytes) -> RgbImage:
    """Decode a picture to RGB.

    Raises:
        ValueError: OpenCV cannot decode the bytes.
    """
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise ValueError(f"expected an encoded picture, OpenCV cannot decode these {len(data)} bytes")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def scale_to(rgb: RgbImage, width: int, height: int) -> RgbImage:
    """Scale to exactly width x height: area averages when the picture shrinks, cubic when it grows."""
    shrinks = width * height < rgb.shape[0] * rgb.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return _as_uint8(cv2.resize(rgb, (max(1, width), max(1, height)), interpolation=interpolation))


def scale_by(rgb: RgbImage, factor: float) -> RgbImage:
    """Scale both sides by a factor, rounded to whole pixels."""
    return scale_to(rgb, round(rgb.shape[1] * factor), round(rgb.shape[0] * factor))


def fit_within(rgb: RgbImage, width: int, height: int) -> RgbImage:
    """Scale, keeping the proportions, to the largest size that fits width x height."""
    return scale_by(rgb, min(width / rgb.shape[1], height / rgb.shape[0]))


def fill_box(rgb: RgbImage, width: int, height: int) -> RgbImage:
    """Scale and cut the edges evenly so that the picture fills width x height."""
    scaled = scale_by(rgb, max(width / rgb.shape[1], height / rgb.shape[0]))
    scaled = scale_to(scaled, max(width, scaled.shape[1]), max(height, scaled.shape[0]))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top : top + height, left : left + width].copy()


def plain(width: int, height: int, colour: Colour) -> RgbImage:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def paste(canvas: RgbImage, picture: RgbImage, top: int, left: int) -> None:
    """Write a picture into a canvas, in place; it must fit."""
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def blend(base: RgbImage, layer: RgbImage, opacity: float) -> RgbImage:
    """`base` and `layer` mixed: opacity 0 gives the base, 1 the layer."""
    return _as_uint8(cv2.addWeighted(base, 1.0 - opacity, layer, opacity, 0.0))


def draw_text(
    canvas: RgbImage,
    text: str,
    left: int,
    baseline: int,
    height: int,
    colour: Colour = BLACK,
    bold: bool = False,
) -> None:
    """Draw ASCII text in place; `height` is that of a capital letter, in pixels."""
    thickness = max(1, round(height / (7 if bold else 11)))
    scale = _font_scale(height)
    cv2.putText(canvas, text, (left, baseline), _FONT, scale, colour, thickness, cv2.LINE_AA)


def text_width(text: str, height: int, bold: bool = False) -> int:
    """Width in pixels of a text as `draw_text` draws it."""
    thickness = max(1, round(height / (7 if bold else 11)))
    return int(cv2.getTextSize(text, _FONT, _font_scale(height), thickness)[0][0])


_FONT = cv2.FONT_HERSHEY_SIMPLEX


def _font_scale(height: int) -> float:
    """OpenCV's scale for capital letters of a height: at scale 1 they are about 21 pixels high."""
    return max(height, 4) / 21.0


def _as_uint8(picture: object) -> RgbImage:
    return np.asarray(picture, dtype=np.uint8)
