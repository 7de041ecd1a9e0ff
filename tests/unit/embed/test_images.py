from __future__ import annotations

import numpy as np
import pytest

from onceseen.embed.images import ImageInput, squash


@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (7, 400, 3), (400, 7, 3), (32, 32, 3), (500, 300, 3), (33, 32, 3)]
)
def test_any_picture_becomes_the_square(shape: tuple[int, int, int]) -> None:
    picture = np.full(shape, (10, 120, 250), dtype=np.uint8)
    out = squash(picture, 32)
    assert out.shape == (32, 32, 3)
    assert out.dtype == np.uint8
    assert (out == (10, 120, 250)).all()


def test_shrinking_averages_even_where_the_other_axis_grows() -> None:
    stripes = np.zeros((8, 640, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    out = squash(stripes, 32)
    assert np.abs(out.astype(int) - 127).max() <= 1  # linear alone would pick single columns: 0 or 255


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="expected \\(h, w, 3\\) uint8 RGB"):
        squash(bad, 32)


def test_float_inputs_are_scaled_by_channel_and_laid_out() -> None:
    picture = np.full((4, 4, 3), (0, 255, 51), dtype=np.uint8)
    first = ImageInput(4, True, "float32", (0.5, 0.5, 0.1), (0.5, 0.25, 0.1)).prepare(picture)
    assert first.shape == (3, 4, 4)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first[:, 0, 0], [-1, 2, 1], atol=1e-6)
    last = ImageInput(4, False, "float16", (0.5, 0.5, 0.1), (0.5, 0.25, 0.1)).prepare(picture)
    assert last.shape == (4, 4, 3)
    assert last.dtype == np.float16
    raw = ImageInput(4, True, "uint8", (0.5, 0.5, 0.1), (0.5, 0.25, 0.1)).prepare(picture)
    np.testing.assert_array_equal(raw[:, 2, 3], [0, 255, 51])
