"""Real photographs and encoded forms of one of them."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"


@pytest.fixture(scope="session")
def photos() -> list[NDArray[np.uint8]]:
    """Every bundled photograph, RGB."""
    loaded = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in sorted(PHOTOS.glob("*.jpg"))]
    assert len(loaded) >= 100
    return loaded


@pytest.fixture(scope="session")
def photo(photos: list[NDArray[np.uint8]]) -> Image.Image:
    """One photograph of 96 x 72 pixels, not symmetric in any way."""
    return Image.fromarray(photos[0]).resize((96, 72))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encodes with Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()
