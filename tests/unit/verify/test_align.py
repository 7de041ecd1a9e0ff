from __future__ import annotations

import cv2
import numpy as np
import pytest

from onceseen.verify.align import frame, inside, inverse, mirror, refine, scale_of, warp
from unit.verify.pictures import photo, thumb_of


def test_frame_sends_pixel_corners_to_the_box() -> None:
    matrix = frame((0.25, 0.0, 0.75, 1.0), 64, 32)
    corners = matrix @ np.array([[-0.5, 63.5], [-0.5, 31.5], [1.0, 1.0]])
    assert corners[:2] == pytest.approx(np.array([[0.25, 0.75], [0.0, 1.0]]))


def test_mirror_is_its_own_inverse() -> None:
    matrix = frame((0.1, 0.2, 0.9, 0.7), 10, 10)
    assert mirror(mirror(matrix)) == pytest.approx(matrix)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", ["animal-bison", "monument-taj-mahal", "farm-owl"])
def test_refine_recovers_shift_scale_gain_and_offset(name: str, affine: bool) -> None:
    moving = thumb_of(photo(name).copy())
    truth = np.array([[0.97, 0.0, 1.6], [0.0, 1.02, -1.3], [0.0, 0.0, 1.0]])
    fixed = 0.8 * warp(moving, truth, 64, 64) + 20
    found = refine(fixed, moving, np.eye(3), affine=affine, iterations=20)
    x, y = np.meshgrid(np.arange(8, 56, 8), np.arange(8, 56, 8))
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    gap = np.hypot(*((found.matrix - truth) @ points)[:2])
    assert found.ok
    assert gap.max() < 0.15
    assert found.gain == pytest.approx(0.8, abs=0.05)


def test_refine_is_not_dragged_by_an_overlay() -> None:
    moving = thumb_of(photo("animal-bison").copy())
    fixed = warp(moving, np.array([[1.0, 0.0, 0.8], [0.0, 1.0, 0.4], [0.0, 0.0, 1.0]]), 64, 64)
    fixed[40:56, 8:40] = 255
    found = refine(fixed, moving, np.eye(3), affine=False, iterations=20)
    assert found.matrix[:2, :] @ np.array([32, 32, 1]) == pytest.approx([32.8, 32.4], abs=0.2)


def test_refine_gives_up_where_nothing_overlaps() -> None:
    moving = thumb_of(photo("animal-bison").copy())
    away = np.array([[1.0, 0.0, 500.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert not refine(moving, moving, away, affine=False, iterations=5).ok


def test_inside_and_scale() -> None:
    matrix = np.diag([2.0, 2.0, 1.0])
    assert scale_of(matrix) == pytest.approx(2.0)
    assert scale_of(inverse(matrix)) == pytest.approx(0.5)
    mask = inside(matrix, 10, 10, (0.0, 0.0, 9.0, 9.0))
    assert mask.sum() == 25


def test_warp_is_the_same_for_any_number_of_threads() -> None:
    grey = photo("animal-bison")[:, :, 1].astype(np.float32)
    matrix = np.array([[1.01, 0.02, 3.3], [-0.01, 0.98, -2.2], [0.0, 0.0, 1.0]])
    before = cv2.getNumThreads()
    try:
        results = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            results.append(warp(grey, matrix, 400, 300))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(results[0], results[1])
