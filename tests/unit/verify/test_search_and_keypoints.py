from __future__ import annotations

import cv2
import numpy as np
import pytest

from onceseen.verify.align import inverse
from onceseen.verify.keypoints import find_keypoints, fit, mirrored
from onceseen.verify.search import crops, identities
from onceseen.verify.thumbs import align, signals
from unit.verify.pictures import photo, show

NAMES = ["animal-bison", "monument-taj-mahal", "farm-owl", "nature-swans"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_found_in_either_direction(name: str, mirrored: bool) -> None:
    rgb = photo(name)
    height, width = rgb.shape[:2]
    box = (0.2, 0.1, 0.9, 0.75)
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (width, height, width, height), strict=True))
    part = rgb[y0:y1, x0:x1]
    part = part[:, ::-1] if mirrored else part
    a, b = show(rgb, False)[0], show(part, False)[0]
    for p, q in ((a, b), (b, a)):
        best = align(p, q, signals(p, q))
        assert best is not None
        matrix = best[0].matrix if p is a else inverse(best[0].matrix)  # of b -> of a
        corners = matrix @ np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
        expected = (
            np.array([[box[2], box[0]], [box[1], box[3]]])
            if mirrored
            else np.array([[box[0], box[2]], [box[1], box[3]]])
        )
        assert np.abs(corners[:2] - expected).max() < 0.03


def test_identity_comes_first_for_a_copy_and_mirror_for_a_mirrored_one() -> None:
    rgb = photo("animal-bison")
    a, b = show(rgb, False)[0], show(rgb[:, ::-1], False)[0]
    assert not identities(a, a)[0].mirrored
    assert identities(a, a)[0].score > 0.99
    assert identities(a, b)[0].mirrored
    assert crops(a, a)[0].crop


@pytest.mark.parametrize("name", NAMES)
def test_keypoints_recover_a_rotation(name: str) -> None:
    grey = cv2.cvtColor(photo(name), cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    truth = np.eye(3)
    truth[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), 17.0, 0.8)
    turned = np.asarray(cv2.warpAffine(grey, truth[:2], (width, height)), dtype=np.float32)
    found = fit(find_keypoints(grey), find_keypoints(turned), grey.shape)
    assert found is not None
    assert found.inliers >= 20
    points = np.array([[0.2 * width, 0.8 * width], [0.2 * height, 0.8 * height], [1.0, 1.0]])
    assert np.abs((found.matrix - truth) @ points).max() < 2.0


def test_other_photographs_have_no_common_keypoints() -> None:
    points = [find_keypoints(cv2.cvtColor(photo(n), cv2.COLOR_RGB2GRAY).astype(np.float32)) for n in NAMES]
    for i in range(len(points)):
        for j in range(i):
            found = fit(points[i], points[j], photo(NAMES[i]).shape[:2])
            assert found is None or found.inliers < 12


def test_keypoints_do_not_depend_on_threads() -> None:
    grey = cv2.cvtColor(photo("music-orchestra"), cv2.COLOR_RGB2GRAY).astype(np.float32)
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 4, 3):
            cv2.setNumThreads(threads)
            found.append(find_keypoints(grey))
    finally:
        cv2.setNumThreads(before)
    for other in found[1:]:
        assert np.array_equal(found[0].points, other.points)
        assert np.array_equal(found[0].descriptors, other.descriptors)


@pytest.mark.parametrize("name", NAMES)
def test_features_of_the_mirror_image_need_no_second_search(name: str) -> None:
    grey = cv2.cvtColor(photo(name), cv2.COLOR_RGB2GRAY).astype(np.float32)
    width = grey.shape[1]
    found = fit(
        mirrored(find_keypoints(grey), width), find_keypoints(np.ascontiguousarray(grey[:, ::-1])), grey.shape
    )
    assert found is not None
    assert found.inliers > 0.85 * len(find_keypoints(grey).points)
    corners = np.array([[0.0, width], [0.0, grey.shape[0]], [1.0, 1.0]])
    assert np.abs((found.matrix - np.eye(3)) @ corners).max() < 1.5


def test_few_features_fit_nothing() -> None:
    blank = np.full((100, 100), 128, np.float32)
    assert fit(find_keypoints(blank), find_keypoints(blank), (100, 100)) is None
