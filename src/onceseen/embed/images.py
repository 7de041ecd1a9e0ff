"""From pixels to a model's input, with OpenCV and numpy: both release the interpreter lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input that a model file takes.

    Attributes:
        side: Height and width in pixels.
        channels_first: (3, side, side) if true, else (side, side, 3).
        dtype: `uint8` (raw pixels), `float32` or `float16` (scaled by mean and std).
        mean: Channel means in [0, 1]; not used for uint8.
        std: Channel standard deviations in [0, 1]; not used for uint8.
    """

    side: int
    channels_first: bool
    dtype: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one input."""
        return (3, self.side, self.side) if self.channels_first else (self.side, self.side, 3)

    def describe(self) -> str:
        """In words and numbers, for the specification."""
        layout = "NCHW" if self.channels_first else "NHWC"
        scaling = "" if self.dtype == "uint8" else f", mean {list(self.mean)}, std {list(self.std)}"
        return f"RGB squashed to {self.side}x{self.side} (area, linear where enlarged), {self.dtype} {layout}{scaling}"

    def prepare(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """One picture as the model's input; thread-safe."""
        small = squash(rgb, self.side)
        if self.dtype == "uint8":
            return np.ascontiguousarray(small.transpose(2, 0, 1)) if self.channels_first else small
        mean, std = (np.asarray(v, dtype=np.float32) for v in (self.mean, self.std))
        scaled = (small.astype(np.float32) / np.float32(255) - mean) / std
        if self.channels_first:
            scaled = scaled.transpose(2, 0, 1)
        return np.ascontiguousarray(scaled, dtype=self.dtype)


def squash(rgb: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resizes straight to a square, whatever the aspect.

    A copy with another aspect, and one with its rims cut off, then still shows the model what the original shows. On
    the bundled photographs with 25 kinds of copies, squashing gave .80 recall at precision .999 where a centre crop
    of 224 pixels gave .77 and one of 224 out of 256 gave .74 (EfficientNet-Lite0; linear in place of area: .79).

    Args:
        rgb: (h, w, 3) uint8.
        side: Side in pixels.

    Returns:
        (side, side, 3) uint8, contiguous.

    Raises:
        ValueError: If the array is no such picture.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(
            f"a picture has shape {rgb.shape} and dtype {rgb.dtype}; expected (h, w, 3) uint8 RGB"
        )
    height, width = rgb.shape[:2]
    small = rgb
    # Shrink first, then enlarge: one axis to be enlarged would make OpenCV drop the area filter for both.
    if height > side or width > side:
        small = cv2.resize(small, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA)
    if small.shape[:2] != (side, side):
        small = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(small, dtype=np.uint8)
