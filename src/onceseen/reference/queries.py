"""Query pictures as they come in: bytes, paths, PIL images, arrays, tensors; fingerprinted as extract does it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onceseen.core.config import PipelineConfig
from onceseen.core.failures import FailureReason, SampleError
from onceseen.core.files import open_read
from onceseen.embed import Embedder, prepare_picture
from onceseen.fingerprint import Fingerprint, Picture, decoded_image
from onceseen.verify import Side
from onceseen.verify.fresh import fresh_side
from onceseen.verify.pixels import shrink

QueryImage = Any
"""bytes, a path, a PIL image, (h, w, 3) uint8 numpy, or a torch tensor; see `Reference.check`."""

_NO_FILE = b"\0" * 32
_PNG_MODES = ("1", "I", "I;16", "L", "LA", "P", "RGB", "RGBA")


@dataclass(slots=True)
class Query:
    """A query on its way.

    Attributes:
        fingerprint: Hashes and measures; None where it failed.
        rgb: (h, w, 3) uint8, no side over `verify.max_side`, for a look at the pixels.
        inputs: Model inputs of its regions, until they are embedded.
        vectors: (d,) float32 of each region, in float16's values, once embedded.
        failure: Why it cannot be judged.
    """

    fingerprint: Fingerprint | None = None
    rgb: NDArray[np.uint8] | None = None
    inputs: list[NDArray[Any]] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    failure: SampleError | None = None

    def side(self) -> Side:
        """The query as the verify room sees it.

        Raises:
            ValueError: If it failed.
        """
        if self.fingerprint is None:
            raise ValueError("a query that failed has no side")
        return fresh_side(self.fingerprint, self.vectors)


def as_list(images: QueryImage | Iterable[QueryImage]) -> list[QueryImage]:
    """Queries as a list, one alone too."""
    if _is_tensor(images) or isinstance(images, np.ndarray):
        array: Any = images
        return list(array) if array.ndim == 4 else [array]
    if isinstance(images, bytes | bytearray | memoryview | str | os.PathLike | Image.Image):
        return [images]
    return list(images)


def prepare_query(image: QueryImage, config: PipelineConfig, embedder: Embedder | None) -> Query:
    """Decodes, fingerprints and preprocesses one query; thread-safe.

    Args:
        image: See `Reference.check`.
        config: Sections read, fingerprint and verify are used.
        embedder: The model, None for hashes only.

    Returns:
        The query; one that cannot be decoded carries its failure.

    Raises:
        TypeError: If it is no picture of a known kind.
        ValueError: If an array has another shape or dtype.
        OSError: If a path cannot be read.
    """
    try:
        with _opened(image, config) as (data, picture):
            sha256 = hashlib.sha256(data).digest() if data else _NO_FILE
            found = prepare_picture(data, picture, config.fingerprint, embedder, sha256)
            return Query(found.fingerprint, shrink(picture.rgb, config.verify.max_side), found.inputs)
    except SampleError as error:
        return Query(failure=error)


@contextmanager
def _opened(image: QueryImage, config: PipelineConfig) -> Iterator[tuple[bytes, Picture]]:
    """The encoded bytes (none of an array) and the decoded picture."""
    if isinstance(image, np.ndarray) or _is_tensor(image):
        rgb = _pixels(image)
        if rgb.shape[0] * rgb.shape[1] > config.read.max_pixels:
            raise SampleError(
                FailureReason.DECOMPRESSION_BOMB, f"an array of {rgb.shape[1]} x {rgb.shape[0]}"
            )
        yield b"", Picture(rgb, "array")
        return
    data = _encoded(image, config.read.max_bytes)
    with decoded_image(data, config.read.max_pixels, config.read.window) as picture:
        yield data, picture


def _encoded(image: QueryImage, limit: int) -> bytes:
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    elif isinstance(image, str | os.PathLike):
        with open_read(os.fspath(image)) as stream:
            data = stream.read(limit + 1)
    elif isinstance(image, Image.Image):
        return _png(image)
    else:
        raise TypeError(
            f"a query is {type(image).__name__}; expected bytes, a path, a PIL image, a numpy array or a torch tensor"
        )
    if len(data) > limit:
        raise SampleError(FailureReason.TOO_MANY_BYTES, f"more than read.max_bytes, which is {limit:,} bytes")
    return data


def _png(image: Image.Image) -> bytes:
    """A PIL image as a file, without loss, so that one path decodes all."""
    buffer = io.BytesIO()
    try:
        turned = ImageOps.exif_transpose(image)
        (turned if turned.mode in _PNG_MODES else turned.convert("RGB")).save(buffer, "PNG", compress_level=0)
    except Exception as error:  # PIL decodes only now, and raises nearly anything on a damaged file
        raise SampleError(FailureReason.DECODE_ERROR, f"{type(error).__name__}: {error}") from error
    return buffer.getvalue()


def _is_tensor(image: QueryImage) -> bool:
    """Whether it is a tensor of torch's, which is not imported for asking."""
    return type(image).__module__.partition(".")[0] == "torch" and hasattr(image, "detach")


def _pixels(image: QueryImage) -> NDArray[np.uint8]:
    """(h, w, 3) uint8, C-contiguous.

    Raises:
        ValueError: If the array has another layout.
    """
    if _is_tensor(image):
        array, layout = image.detach().cpu().numpy(), "a torch tensor (3, h, w), uint8 or float in [0, 1]"
        good = array.ndim == 3 and array.shape[0] == 3
        if good and array.dtype.kind == "f":
            good = bool(array.size) and bool((array >= 0).all()) and bool((array <= 1).all())  # no NaN is
            array = np.rint(array.astype(np.float64) * 255).astype(np.uint8) if good else array
        array = array.transpose(1, 2, 0) if good else array
    else:
        array, layout = image, "a numpy array (h, w, 3) of uint8, RGB"
        good = array.ndim == 3 and array.shape[2] == 3
    if not good or array.dtype != np.uint8 or 0 in array.shape:
        raise ValueError(f"a query has shape {tuple(image.shape)} and type {image.dtype}; expected {layout}")
    return np.ascontiguousarray(array)
