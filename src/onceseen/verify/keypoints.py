"""Local features: an affine alignment from SIFT matches (Lowe 2004), without any chance in it.

Each match alone gives a similarity (position, scale, orientation), so instead of random samples every match is one
hypothesis; the one with the most support is refitted as an affine map on its inliers. Keypoints are sorted, since
OpenCV's threads may report them in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import Grey, Matrix

MAX_KEYPOINTS = 400
_LONGEST_SIDE = 256  # pixels
_RATIO = 0.8
_LOOSE = 0.04  # of the diagonal: a single match's orientation is rough
_TIGHT = 3.0  # pixels
_MAX_STRETCH = 2.0
_MAX_SCALE = 8.0


@dataclass(frozen=True, slots=True)
class Keypoints:
    """SIFT features of one picture.

    Attributes:
        points: (n, 4) float64: x, y, size, angle in radians.
        descriptors: (n, 128) float32, RootSIFT (Arandjelovic and Zisserman 2012), rows unit L2.
    """

    points: NDArray[np.float64]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class KeypointFit:
    """An affine alignment with its support.

    Attributes:
        matrix: (3, 3) pixels of the first picture -> pixels of the second.
        inliers: Matches within 3 pixels of it.
        matches: Matches that passed the ratio test.
        spread: Area of the inliers' bounding box in the first picture, as a share of that picture.
    """

    matrix: Matrix
    inliers: int
    matches: int
    spread: float


def find_keypoints(grey: Grey) -> Keypoints:
    """At most 400 SIFT features, strongest first, in an order that threads cannot change.

    They are looked for in the picture at no more than 256 pixels, which costs half of what 384 do: some 15 ms. They
    only have to find the alignment; `refine` makes it exact.
    """
    sift = cv2.SIFT_create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.02)
    image = np.clip(grey, 0, 255).astype(np.uint8)
    height, width = image.shape
    shrink = max(max(height, width) / _LONGEST_SIDE, 1.0)
    if shrink > 1:
        size = max(round(width / shrink), 1), max(round(height / shrink), 1)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    found, descriptors = sift.detectAndCompute(image, None)
    if not found:
        return Keypoints(np.zeros((0, 4)), np.zeros((0, 128), np.float32))
    points = np.array(
        [(k.pt[0], k.pt[1], k.size, np.deg2rad(k.angle), k.response) for k in found], dtype=np.float64
    )
    across, down = width / image.shape[1], height / image.shape[0]
    points[:, :2] = (points[:, :2] + 0.5) * (across, down) - 0.5
    points[:, 2] *= shrink
    order = np.lexsort((points[:, 3], points[:, 2], points[:, 1], points[:, 0], -points[:, 4]))[
        :MAX_KEYPOINTS
    ]
    vectors = np.asarray(descriptors, dtype=np.float32)[order]
    vectors = np.sqrt(vectors / np.maximum(vectors.sum(axis=1, keepdims=True), 1e-6))
    return Keypoints(points[order, :4], np.asarray(vectors, dtype=np.float32))


def mirrored(keypoints: Keypoints, width: int) -> Keypoints:
    """The features of the mirror image of a picture `width` pixels wide, without looking for them again.

    A descriptor is a 4 x 4 raster of 8 orientations in the feature's own frame, its x along the feature's angle.
    Mirrored, the frame's y and the sense of every orientation turn over.
    """
    points = keypoints.points.copy()
    points[:, 0] = width - 1 - points[:, 0]
    points[:, 3] = np.pi - points[:, 3]
    raster = keypoints.descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
    turned = raster[:, :, :, -np.arange(8) % 8]
    return Keypoints(points, np.ascontiguousarray(turned.reshape(-1, 128)))


def fit(a: Keypoints, b: Keypoints, shape: tuple[int, int]) -> KeypointFit | None:
    """Fits an affine map from a's points to b's; None where fewer than six matches agree.

    Args:
        a: Features of the first picture.
        b: Features of the second.
        shape: Height and width of the first picture.
    """
    pairs = _match(a.descriptors, b.descriptors)
    if len(pairs) < 6:
        return None
    source, target = a.points[pairs[:, 0]], b.points[pairs[:, 1]]
    diagonal = float(np.hypot(*shape))
    support = _best_similarity(source, target, _LOOSE * diagonal)
    matrix: Matrix | None = None
    for limit in (_LOOSE * diagonal / 2, 2 * _TIGHT, _TIGHT, _TIGHT):
        if int(support.sum()) < 6:
            return None
        matrix = _least_squares(source[support, :2], target[support, :2])
        if matrix is None:
            return None
        reached = source[:, :2] @ matrix[:2, :2].T + matrix[:2, 2]
        support = np.hypot(*(reached - target[:, :2]).T) <= limit
    inliers = source[support, :2]
    if matrix is None or len(inliers) < 6:
        return None
    extent = inliers.max(axis=0) - inliers.min(axis=0)
    return KeypointFit(matrix, len(inliers), len(pairs), float(extent.prod()) / (shape[0] * shape[1]))


def _match(p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n, 2) indices of matches that pass the ratio test and are mutual."""
    if len(p) < 6 or len(q) < 6:
        return np.zeros((0, 2), np.int64)
    product = p @ q.T
    rows = np.arange(len(p))
    best, back = np.argmax(product, axis=1), np.argmax(product, axis=0)
    first = product[rows, best]
    product[rows, best] = -1.0
    second = product.max(axis=1)
    near = np.sqrt(np.maximum(2 - 2 * first, 0)) < _RATIO * np.sqrt(np.maximum(2 - 2 * second, 1e-12))
    kept = np.flatnonzero(near & (back[best] == rows))
    return np.stack([kept, best[kept]], axis=1).astype(np.int64)


def _best_similarity(
    source: NDArray[np.float64], target: NDArray[np.float64], limit: float
) -> NDArray[np.bool_]:
    """Matches that support the similarity of the best-supported single match; the first among equals."""
    scale = target[:, 2] / source[:, 2]
    angle = target[:, 3] - source[:, 3]
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    x, y = source[:, 0], source[:, 1]
    moved_x = cosine[:, None] * (x[None, :] - x[:, None]) - sine[:, None] * (y[None, :] - y[:, None])
    moved_y = sine[:, None] * (x[None, :] - x[:, None]) + cosine[:, None] * (y[None, :] - y[:, None])
    gap_x = target[None, :, 0] - target[:, None, 0] - moved_x
    gap_y = target[None, :, 1] - target[:, None, 1] - moved_y
    near = np.hypot(gap_x, gap_y) <= limit
    chosen: NDArray[np.bool_] = near[int(np.argmax(near.sum(axis=1)))]
    return chosen


def _in_range(stretch: NDArray[np.float64]) -> bool:
    return bool(stretch[0] < _MAX_SCALE and stretch[1] > 1 / _MAX_SCALE)


def _least_squares(source: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix | None:
    """Affine map by least squares; None where it folds, stretches or mirrors beyond what a copy does."""
    centre = source.mean(axis=0)
    design = np.concatenate([source - centre, np.ones((len(source), 1))], axis=1)
    normal = design.T @ design
    if np.linalg.cond(normal) > 1e9:
        return None
    solved = np.linalg.solve(normal, design.T @ target).T
    linear = solved[:, :2]
    stretch = np.linalg.svd(linear, compute_uv=False)
    if np.linalg.det(linear) <= 0 or stretch[0] > _MAX_STRETCH * stretch[1] or not _in_range(stretch):
        return None
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = solved[:, 2] - linear @ centre
    return matrix
