"""Bytes to pixels: one deterministic path for each format.

OpenCV reads JPEG (grey and colour), and PNG and WebP without transparency: nearly every picture of a crawl. Pillow
reads what OpenCV gets wrong, or differently in each version: CMYK and YCCK JPEG, transparency, animations (the first
frame), EXIF orientation outside of JPEG, grey PNG of 16 bits, GIF, BMP, TIFF, and AVIF with its own rotation. pydicom
reads DICOM.

Transparent pictures are laid over white, as a page shows them. Colour of 16 bits is scaled to 8 by its full range,
deeper grey by the window that `read.window` says (`grey_window`). Colour profiles are not applied. EXIF orientation is
applied once.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from onceseen.core.failures import FailureReason, SampleError
from onceseen.core.gate import Gate
from onceseen.fingerprint.dicom import DICOM, decode_dicom
from onceseen.fingerprint.grey_window import PIXELS, find_window, parse_window, to_grey
from onceseen.fingerprint.headers import ImageHeader, read_header, truncated

# OpenCV refuses more pixels than this by itself (CV_IO_MAX_IMAGE_PIXELS), and wider or higher pictures.
_OPENCV_MAX_PIXELS = 1 << 30
_OPENCV_MAX_SIDE = 1 << 20

PIXELS_AT_ONCE = 64_000_000
"""Pixels in decoded pictures at a time, in one process: with all copies, 5 (JPEG) to 16 bytes (transparency) each."""

ENCODED_AHEAD = 64 << 20
"""Bytes of image files that are read before they are decoded, in one shard; a larger one is alone."""

_DECODED = Gate(PIXELS_AT_ONCE)

# Imported, so that Pillow opens these formats in every thread without searching for plugins.
_PILLOW_FORMATS = {
    "avif": AvifImagePlugin.AvifImageFile.format,
    "bmp": BmpImagePlugin.BmpImageFile.format,
    "gif": GifImagePlugin.GifImageFile.format,
    "jpeg": JpegImagePlugin.JpegImageFile.format,
    "png": PngImagePlugin.PngImageFile.format,
    "tiff": TiffImagePlugin.TiffImageFile.format,
    "webp": WebPImagePlugin.WebPImageFile.format,
}

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # grey of 16 bits or more, signed or not
_PHOTOMETRIC = 262

# A broken picture is a dead letter with its reason, not a line on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture.

    Attributes:
        rgb: (h, w, 3) uint8, C-contiguous, sRGB as stored, EXIF orientation applied, transparency over white.
        format: `jpeg`, `png`, `webp`, `gif`, `bmp`, `tiff`, `avif` or `dicom`, from the first bytes.
    """

    rgb: NDArray[np.uint8]
    format: str


@contextmanager
def decoded_image(data: bytes, max_pixels: int, window: str = PIXELS) -> Iterator[Picture]:
    """Decodes an image file as `decode_image` does, when there is memory for it; the block works on the pixels.

    Threads that decode large pictures wait for each other, so memory goes with `PIXELS_AT_ONCE`, or with the largest
    picture, and not with the number of threads. Pictures of a megapixel never wait on fewer than 64 threads.

    Raises:
        SampleError: As `decode_image` does.
    """
    header = _checked_header(data, max_pixels)
    with _DECODED.hold(header.width * header.height):
        yield _decode(data, header, max_pixels, window)


def decode_image(data: bytes, max_pixels: int, window: str = PIXELS) -> Picture:
    """Decodes an image file.

    Thread-safe; the decoders release the interpreter lock. Time goes with the pixels (about 1.5 ms for a JPEG of
    400 x 300); memory is the RGB array and the decoder's own copy.

    Args:
        data: The encoded bytes.
        max_pixels: A header that promises more is refused before any decoding.
        window: `read.window`, for grey of more than 8 bits.

    Raises:
        SampleError: `EMPTY_IMAGE`, `UNKNOWN_FORMAT`, `TRUNCATED_IMAGE`, `DECOMPRESSION_BOMB`, `DECODE_ERROR`;
            for DICOM `MISSING_DECODER` or `NO_IMAGE`, too.
    """
    return _decode(data, _checked_header(data, max_pixels), max_pixels, window)


def _checked_header(data: bytes, max_pixels: int) -> ImageHeader:
    """The header of a picture that is no decompression bomb."""
    header = read_header(data)
    pixels = header.width * header.height
    if pixels > min(max_pixels, _OPENCV_MAX_PIXELS) or max(header.width, header.height) > _OPENCV_MAX_SIDE:
        raise SampleError(
            FailureReason.DECOMPRESSION_BOMB,
            f"{header.format} of {header.width} x {header.height} pixels; at most {max_pixels} (read.max_pixels)",
        )
    return header


def _decode(data: bytes, header: ImageHeader, max_pixels: int, window: str) -> Picture:
    if header.format == DICOM:
        rgb = decode_dicom(data, window)
    else:
        rgb = _decode_opencv(data, header) if header.plain else _decode_pillow(data, header, window)
    if rgb.shape[0] * rgb.shape[1] > min(max_pixels, _OPENCV_MAX_PIXELS):
        raise SampleError(
            FailureReason.DECOMPRESSION_BOMB, f"{header.format} of {rgb.shape[1]} x {rgb.shape[0]}"
        )
    return Picture(rgb, header.format)


def _decode_opencv(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise SampleError(FailureReason.DECODE_ERROR, f"{header.format}: {error}") from error
    if decoded is None:
        raise SampleError(FailureReason.DECODE_ERROR, f"{header.format}: OpenCV cannot decode it")
    return np.ascontiguousarray(decoded, np.uint8)


def _decode_pillow(data: bytes, header: ImageHeader, window: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=(_PILLOW_FORMATS[header.format],)) as image:
            inverted = image.mode in _DEEP and _is_white_zero(image)
            return _to_rgb(ImageOps.exif_transpose(image), window, inverted=inverted)
    except Image.DecompressionBombError as error:
        raise SampleError(FailureReason.DECOMPRESSION_BOMB, f"{header.format}: {error}") from error
    except SampleError:
        raise
    except Exception as error:
        # Pillow's parsers raise nearly anything on a damaged file: OSError, SyntaxError, KeyError, struct.error ...
        if "truncated" in str(error).lower():
            raise truncated(f"{header.format}: {error}") from error
        raise SampleError(
            FailureReason.DECODE_ERROR, f"{header.format}: {type(error).__name__}: {error}"
        ) from error


def _is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white in this TIFF, which Pillow turns round for 8 bits alone."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0


def _to_rgb(image: Image.Image, window: str, *, inverted: bool) -> NDArray[np.uint8]:
    if image.mode in _DEEP:
        samples = np.asarray(image)
        grey = to_grey(samples, parse_window(window) or find_window(samples))
        if inverted:
            np.subtract(255, grey, out=grey)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise SampleError(FailureReason.DECODE_ERROR, f"samples of mode {image.mode} have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.array(image.convert("RGB"))
