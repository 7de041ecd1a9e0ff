"""Named ways to make a copy of one picture, in the style of Copydays and DISC21.

A transform takes an RGB picture and a numpy Generator and returns encoded bytes with their extension; the
Generator is the only source of chance. `crop10` to `crop50` remove that percentage of the area: the window
keeps the proportions, so each side keeps sqrt(1 - p), and lies anywhere. Unless a transform is about
encoding, the copy is a JPEG of quality 80 to 95. Sources: Douze et al. 2009 (Copydays), Douze et al. 2021
(The 2021 Image Similarity Dataset and Challenge).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

import cv2
import numpy as np

from onceseen.planted.imaging import (
    BLACK,
    WHITE,
    Colour,
    EncodedImage,
    RgbImage,
    blend,
    draw_text,
    encode_jpeg,
    encode_png,
    encode_webp,
    fit_within,
    paste,
    plain,
    scale_by,
    text_width,
)

Transform = Callable[[RgbImage, np.random.Generator], EncodedImage]

_WORDS = ["sample", "archive", "daily", "gallery", "media", "photo", "world", "studio", "summer", "journal"]


def apply_transform(name: str, rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """Apply a registered transform.

    Args:
        name: A name in `TRANSFORMS`.
        rgb: (height, width, 3) uint8; left as it is.
        rng: Drawn from by the transforms that have anything to choose.

    Raises:
        ValueError: the name is not registered, or the picture is no RGB uint8 array.
    """
    if name not in TRANSFORMS:
        raise ValueError(f"unknown transform {name!r}; known: {', '.join(sorted(TRANSFORMS))}")
    return TRANSFORMS[name](rgb, rng)


# Encodings and sizes


def _jpeg(quality: int) -> Transform:
    def transform(rgb: RgbImage, _rng: np.random.Generator) -> EncodedImage:
        return encode_jpeg(rgb, quality)

    return transform


def _png(rgb: RgbImage, _rng: np.random.Generator) -> EncodedImage:
    return encode_png(rgb)


def _webp(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return encode_webp(rgb, int(rng.integers(60, 91)))


def _resize(low: float, high: float) -> Transform:
    def transform(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
        return _finish(scale_by(rgb, float(rng.uniform(low, high))), rng)

    return transform


# Geometry


def _crop(percent: float) -> Transform:
    def transform(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
        return _finish(crop_area(rgb, percent, rng), rng)

    return transform


def crop_area(rgb: RgbImage, percent: float, rng: np.random.Generator) -> RgbImage:
    """Remove `percent` of the area: a window of the same proportions, anywhere in the picture."""
    side = math.sqrt(1.0 - percent / 100.0)
    height, width = max(1, round(rgb.shape[0] * side)), max(1, round(rgb.shape[1] * side))
    top = int(rng.integers(0, rgb.shape[0] - height + 1))
    left = int(rng.integers(0, rgb.shape[1] - width + 1))
    return rgb[top : top + height, left : left + width].copy()


def _rotation5(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(rotate(rgb, 5.0 if rng.random() < 0.5 else -5.0), rng)


def rotate(rgb: RgbImage, degrees: float) -> RgbImage:
    """Turn about the centre on a canvas of the same size; the corners that come free are black."""
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_CUBIC), dtype=np.uint8)


def _rotation90(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(np.ascontiguousarray(np.rot90(rgb, 1 if rng.random() < 0.5 else 3)), rng)


def _mirrored(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(mirror(rgb), rng)


def mirror(rgb: RgbImage) -> RgbImage:
    """Left and right exchanged."""
    return np.ascontiguousarray(rgb[:, ::-1])


def _mirrored_crop(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(crop_area(mirror(rgb), 30, rng), rng)


def _left_half(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(rgb[:, : rgb.shape[1] // 2].copy(), rng)


def _right_half(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(rgb[:, rgb.shape[1] // 2 :].copy(), rng)


# Colour and noise


def _grey(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(grey(rgb), rng)


def grey(rgb: RgbImage) -> RgbImage:
    """Luma in all three channels."""
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2).astype(np.uint8)


def _colour(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(shift_colour(rgb, rng), rng)


def shift_colour(rgb: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Hue turned by up to 20 degrees, saturation times 0.5 to 1.6."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[:, :, 0] = (hsv[:, :, 0] + rng.uniform(-10, 10)) % 180.0  # OpenCV's hue counts two degrees a step
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] * rng.uniform(0.5, 1.6), 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), dtype=np.uint8)


def _brightness(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    factor = float(rng.uniform(0.55, 0.8) if rng.random() < 0.5 else rng.uniform(1.2, 1.5))
    return _finish(np.clip(rgb.astype(np.float32) * factor, 0, 255).astype(np.uint8), rng)


def _contrast(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    factor = float(rng.uniform(0.5, 0.75) if rng.random() < 0.5 else rng.uniform(1.3, 1.7))
    return _finish(np.clip((rgb.astype(np.float32) - 128.0) * factor + 128.0, 0, 255).astype(np.uint8), rng)


def _blur(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(blur(rgb, float(rng.uniform(1.5, 3.0))), rng)


def blur(rgb: RgbImage, sigma: float) -> RgbImage:
    """Gaussian blur, sigma in pixels."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), dtype=np.uint8)


def _noise(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    noise = rng.normal(0.0, float(rng.uniform(8, 16)), rgb.shape)
    return _finish(np.clip(rgb + noise, 0, 255).astype(np.uint8), rng)


# Overlays and surroundings


def _text(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(add_text(rgb, rng), rng)


def add_text(rgb: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Two lines of white letters with a black edge, as a meme has them, at the top and at the bottom."""
    picture = rgb.copy()
    size = max(10, rgb.shape[0] // 14)
    for baseline in (round(size * 1.6), rgb.shape[0] - round(size * 0.7)):
        line = " ".join(str(word).upper() for word in rng.choice(_WORDS, 3))
        while size > 5 and text_width(line, size, bold=True) > rgb.shape[1] * 0.94:
            size -= 1
        left = (rgb.shape[1] - text_width(line, size, bold=True)) // 2
        for across, down in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            draw_text(picture, line, left + across, baseline + down, size, BLACK, bold=True)
        draw_text(picture, line, left, baseline, size, WHITE, bold=True)
    return picture


def _watermark(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """One word repeated over the whole picture, at 18 to 30 % opacity."""
    layer = rgb.copy()
    size = max(8, min(rgb.shape[:2]) // 18)
    word = str(rng.choice(_WORDS)).upper()
    step_x, step_y = text_width(word, size) + size * 2, size * 4
    for row, baseline in enumerate(range(size * 2, rgb.shape[0] + size, step_y)):
        for left in range(-step_x // 2 * (row % 2), rgb.shape[1], step_x):
            draw_text(layer, word, left, baseline, size, WHITE)
    return _finish(blend(rgb, layer, float(rng.uniform(0.18, 0.30))), rng)


def _logo(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """An opaque badge in one corner, about 4 % of the area."""
    picture = rgb.copy()
    height, width = rgb.shape[:2]
    radius = max(4, round(math.sqrt(0.04 * height * width / math.pi)))
    margin = radius + max(2, radius // 3)
    centre = (
        margin if rng.random() < 0.5 else width - margin,
        margin if rng.random() < 0.5 else height - margin,
    )
    cv2.circle(picture, centre, radius, _random_colour(rng), -1, cv2.LINE_AA)
    cv2.circle(picture, centre, radius, WHITE, max(1, radius // 8), cv2.LINE_AA)
    letter = chr(ord("A") + int(rng.integers(26)))
    size = max(4, radius)
    left = centre[0] - text_width(letter, size, bold=True) // 2
    draw_text(picture, letter, left, centre[1] + size // 2, size, WHITE, bold=True)
    return _finish(picture, rng)


def _stickers(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """Turned, blurred, grey, cut to half of its area, with three opaque patches of colour."""
    picture = blur(grey(crop_area(rotate(rgb, float(rng.uniform(-12, 12))), 50, rng)), 1.2)
    height, width = picture.shape[:2]
    for _ in range(3):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(picture, at, max(3, min(height, width) // 9), _random_colour(rng), -1, cv2.LINE_AA)
    return _finish(picture, rng)


def _letterbox(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    bar = round(rgb.shape[0] * float(rng.uniform(0.1, 0.22)))
    return _finish(add_border(rgb, bar, 0, BLACK), rng)


def _pillarbox(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    bar = round(rgb.shape[1] * float(rng.uniform(0.1, 0.22)))
    return _finish(add_border(rgb, 0, bar, BLACK), rng)


def _frame(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """A border of one colour on all four sides, 4 to 10 % of the shorter side wide."""
    bar = max(1, round(min(rgb.shape[:2]) * float(rng.uniform(0.04, 0.10))))
    return _finish(add_border(rgb, bar, bar, _random_colour(rng)), rng)


def add_border(rgb: RgbImage, vertical: int, horizontal: int, colour: Colour) -> RgbImage:
    """Bars of one colour: `vertical` pixels above and below, `horizontal` left and right."""
    canvas = plain(rgb.shape[1] + 2 * horizontal, rgb.shape[0] + 2 * vertical, colour)
    paste(canvas, rgb, vertical, horizontal)
    return canvas


def _screenshot(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """A post on a telephone's screen, 480 x 960, the picture among status bar, author, text and buttons."""
    screen = plain(480, 960, (250, 250, 250))
    ink, faint = (30, 30, 30), (150, 150, 150)
    draw_text(screen, f"{int(rng.integers(8, 20))}:{int(rng.integers(10, 60))}", 20, 30, 13, ink)
    cv2.rectangle(screen, (420, 16), (456, 31), ink, 2)
    cv2.circle(screen, (48, 92), 26, _random_colour(rng), -1, cv2.LINE_AA)
    draw_text(screen, f"{rng.choice(_WORDS)} {rng.choice(_WORDS)}", 90, 88, 13, ink, bold=True)
    draw_text(
        screen,
        f"@{rng.choice(_WORDS)}{int(rng.integers(100))} - {int(rng.integers(2, 23))} h",
        90,
        114,
        10,
        faint,
    )
    for line in range(2):
        draw_text(screen, " ".join(str(word) for word in rng.choice(_WORDS, 4)), 24, 156 + 28 * line, 12, ink)
    shown = fit_within(rgb, 440, 620)
    top = 212
    paste(screen, shown, top, (480 - shown.shape[1]) // 2)
    buttons = top + shown.shape[0] + 36
    for column in range(4):
        cv2.circle(screen, (60 + 120 * column, buttons), 11, faint, 2, cv2.LINE_AA)
        draw_text(screen, str(int(rng.integers(900))), 78 + 120 * column, buttons + 5, 9, faint)
    cv2.line(screen, (0, buttons + 34), (479, buttons + 34), (225, 225, 225), 1)
    return _finish(screen, rng)


# Combinations


def _strong(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """Half of the area cut away, colours shifted, JPEG of quality 25."""
    return encode_jpeg(shift_colour(crop_area(rgb, 50, rng), rng), 25)


def _mirrored_crop_text(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    return _finish(add_text(crop_area(mirror(rgb), 30, rng), rng), rng)


def _finish(rgb: RgbImage, rng: np.random.Generator) -> EncodedImage:
    """The JPEG that a copy is published as: quality 80 to 95."""
    return encode_jpeg(rgb, int(rng.integers(80, 96)))


def _random_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(20, 236, 3))
    return red, green, blue


TRANSFORMS: MappingProxyType[str, Transform] = MappingProxyType(
    {
        **{f"jpeg{quality}": _jpeg(quality) for quality in (8, 15, 30, 50, 70, 90)},
        "png": _png,
        "webp": _webp,
        "resize_down": _resize(0.4, 0.7),
        "resize_up": _resize(1.5, 2.0),
        **{f"crop{percent}": _crop(percent) for percent in (10, 20, 30, 50)},
        "rotation5": _rotation5,
        "rotation90": _rotation90,
        "mirrored": _mirrored,
        "mirrored_crop": _mirrored_crop,
        "left_half": _left_half,
        "right_half": _right_half,
        "grey": _grey,
        "colour": _colour,
        "brightness": _brightness,
        "contrast": _contrast,
        "blur": _blur,
        "noise": _noise,
        "text": _text,
        "watermark": _watermark,
        "logo": _logo,
        "letterbox": _letterbox,
        "pillarbox": _pillarbox,
        "frame": _frame,
        "screenshot": _screenshot,
        "strong": _strong,
        "mirrored_crop_text": _mirrored_crop_text,
        "stickers": _stickers,
    }
)
"""Name -> transform of one picture; the names are those in the manifest."""
