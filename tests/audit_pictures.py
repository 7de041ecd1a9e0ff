"""Bundled photographs as a tiny training set and as held-out pictures, and generations made of them."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.audit import (
    Candidate,
    GenerationInput,
    MatchThreshold,
    Nearest,
    Thresholds,
    calibrate_distance,
    largest_tile,
    tile_distances,
    to_square,
    whole_l2,
)
from planted_demo import PHOTOS

SIDE = 32
RATIO = 0.75
FIRST_NODE = 1000
"""Node of the first training picture: no node is an index by chance."""


@cache
def photographs() -> NDArray[np.uint8]:
    """(163, 32, 32, 3) uint8, by file name."""
    read = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in sorted(PHOTOS.glob("*.jpg"))]
    return np.stack([to_square(np.asarray(rgb, dtype=np.uint8), SIDE) for rgb in read])


def training() -> NDArray[np.uint8]:
    """Every other photograph."""
    return photographs()[::2]


def held_out() -> NDArray[np.uint8]:
    """The others."""
    return photographs()[1::2]


def training_pixels(node: int) -> NDArray[np.uint8]:
    """What a job would read again."""
    return training()[node - FIRST_NODE]


def noisy(picture: NDArray[np.uint8], rng: np.random.Generator, sigma: float = 8) -> NDArray[np.uint8]:
    """A picture under normal noise, sigma in grey levels of 255."""
    return np.clip(np.rint(picture + rng.normal(0, sigma, picture.shape)), 0, 255).astype(np.uint8)


def nearest_of(picture: NDArray[np.uint8]) -> Nearest:
    """By a plain search over the training set; each picture is its own component."""
    tiles = tile_distances(picture[None], training())
    whole, largest = whole_l2(tiles, SIDE)[0], largest_tile(tiles)[0]
    looked_at = np.argsort(whole, kind="stable")[:5]
    ranked = looked_at[np.argsort(largest[looked_at], kind="stable")]
    first = int(ranked[0])
    candidates = tuple(Candidate(FIRST_NODE + int(i), component_of(int(i))) for i in ranked)
    return Nearest(
        candidates[0].node,
        candidates[0].component,
        float(largest[first]),
        float(whole[first]),
        float(largest[ranked[1]]),
        candidates,
    )


def component_of(index: int) -> str:
    """Name of a training picture's component."""
    return f"c{index:03d}"


@cache
def calibrated() -> MatchThreshold:
    """Of the held-out photographs at 1%."""
    largest = np.sort(largest_tile(tile_distances(held_out(), training())), axis=1)
    return calibrate_distance(largest[:, 0], largest[:, 1], RATIO, 0.01)


def thresholds(min_clique: int = 10, **changes: object) -> Thresholds:
    """With the calibrated distance."""
    distance = calibrated().distance
    return Thresholds(distance, RATIO, distance, 0.9, min_clique=min_clique, **changes)  # type: ignore[arg-type]


def generation(number: int, picture: NDArray[np.uint8], **changes: object) -> GenerationInput:
    """A generation whose nearest training picture was searched for; blank where it has one value."""
    blank = bool(picture.max() - picture.min() < 4)
    values: dict[str, object] = {"blank": blank, "nearest": nearest_of(picture), **changes}
    return GenerationInput(f"gen/{number:04d}", number, str(number), picture, **values)  # type: ignore[arg-type]
