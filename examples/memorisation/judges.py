"""Is a generation its prompt's picture? Three judges.

Planted truth by pixels comes first: tiled distance to all pictures there are, a threshold that at most 1 % of held-out
pictures pass, and the ratio to the second-nearest distinct picture. Then a copy-detection model that took no part in
the deduplication (SSCD, Pizzi et al. 2022, as a TorchScript or ONNX file). The detector of `onceseen audit` is third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.audit import (
    calibrate_distance,
    distance_ratio,
    largest_clique,
    largest_tile,
    medoid,
    tile_distances,
)
from onceseen.core.config import AuditConfig
from onceseen.embed import Embedder

from .pictures import Pictures, shrink

SETTINGS = AuditConfig()
"""Ratio, rate and clique are those of `onceseen audit`."""

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Gallery:
    """All distinct pictures that any arm may be trained on, and the thresholds that held-out ones give.

    Attributes:
        names: One a picture.
        pictures: (n, 32, 32, 3) uint8 RGB.
        distance: Tiled distance of a match.
        held_out: Nearest tiled distances of held-out pictures, (h,).
        held_out_matched: How many of those match, by distance and ratio.
    """

    names: tuple[str, ...]
    pictures: NDArray[np.uint8]
    distance: float
    held_out: NDArray[np.float32]
    held_out_matched: int


@dataclass(frozen=True, slots=True)
class ModelGallery:
    """The gallery as a model of copy detection sees it.

    Attributes:
        model: The model.
        training: Unit vectors of the gallery's pictures, (n, d) float32.
        threshold: Cosine of a match.
    """

    model: Embedder
    training: NDArray[np.float32]
    threshold: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's generations, judged.

    Attributes:
        matched: (prompts, per_prompt) bool: the prompt's own picture.
        others: (prompts, per_prompt) bool: another picture of the gallery.
        distance: (prompts, per_prompt) float32, tiled, to the own picture.
        clique: (prompts,) int64: size of the largest clique of near-identical generations.
        memorised: (prompts,) bool: such a clique of `min_clique`, whose medoid matches.
    """

    matched: NDArray[np.bool_]
    others: NDArray[np.bool_]
    distance: NDArray[np.float32]
    clique: NDArray[np.int64]
    memorised: NDArray[np.bool_]


def gallery(pictures: Pictures) -> Gallery:
    """Calibrates the distance on the held-out pictures."""
    every = [*pictures.audited, *pictures.others]
    stack = np.stack([shrink(picture.data) for picture in every])
    held = np.stack([shrink(picture.data) for picture in pictures.held_out])
    nearest, second, _ = _nearest_two(held, stack)
    threshold = calibrate_distance(nearest, second, SETTINGS.match_ratio, SETTINGS.max_rate)
    names = tuple(picture.name for picture in every)
    return Gallery(names, stack, threshold.distance, nearest, threshold.matched)


def judge_pixels(generations: NDArray[np.uint8], owners: Sequence[str], known: Gallery) -> Judged:
    """By pixels.

    Args:
        generations: (prompts, per_prompt, 32, 32, 3) uint8 RGB.
        owners: Name of each prompt's picture.
        known: The gallery.

    Cost: about 3 s for 96 prompts of 32 and 1,400 pictures.
    """
    prompts, per_prompt = generations.shape[:2]
    place = {name: i for i, name in enumerate(known.names)}
    own = np.repeat([place[name] for name in owners], per_prompt)
    flat = generations.reshape(-1, *generations.shape[2:])
    nearest, second, which = _nearest_two(flat, known.pictures)
    close = (nearest <= known.distance) & (distance_ratio(nearest, second) <= SETTINGS.match_ratio)
    matched = (close & (which == own)).reshape(prompts, per_prompt)
    distance = np.concatenate(
        [
            largest_tile(tile_distances(generations[i], known.pictures[[place[name]]]))[:, 0]
            for i, name in enumerate(owners)
        ]
    )
    sizes, memorised = np.zeros(prompts, np.int64), np.zeros(prompts, np.bool_)
    for i in range(prompts):
        between = largest_tile(tile_distances(generations[i], generations[i]))
        clique = largest_clique(between <= known.distance, SETTINGS.clique_steps)
        sizes[i] = len(clique.members)
        large = sizes[i] >= SETTINGS.min_clique
        memorised[i] = large and matched[i, medoid(between, clique.members)]
    return Judged(
        matched,
        (close & (which != own)).reshape(prompts, per_prompt),
        distance.reshape(prompts, per_prompt),
        sizes,
        memorised,
    )


def model_gallery(pictures: Pictures, known: Gallery, model: Embedder) -> ModelGallery:
    """Embeds the gallery, and takes the cosine that at most 1 % of held-out pictures pass."""
    training = _embed(model, known.pictures)
    held = _embed(model, np.stack([shrink(picture.data) for picture in pictures.held_out]))
    best = np.sort((held @ training.T).max(axis=1))[::-1]
    return ModelGallery(model, training, float(best[int(SETTINGS.max_rate * len(best))]))


def judge_by_model(
    generations: NDArray[np.uint8], owners: Sequence[str], known: Gallery, by: ModelGallery
) -> NDArray[np.bool_]:
    """By the cosine of a model's embeddings: nearest is the own picture, and over the threshold.

    Returns:
        (prompts, per_prompt) bool.

    Cost: 20 ms a generation for SSCD on one core.
    """
    prompts, per_prompt = generations.shape[:2]
    place = {name: i for i, name in enumerate(known.names)}
    own = np.repeat([place[name] for name in owners], per_prompt)
    cosine = _embed(by.model, generations.reshape(-1, *generations.shape[2:])) @ by.training.T
    matched = (cosine.argmax(axis=1) == own) & (cosine.max(axis=1) > by.threshold)
    return np.asarray(matched.reshape(prompts, per_prompt), dtype=np.bool_)


def _embed(model: Embedder, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Unit vectors (n, d)."""
    inputs = [model.preprocess(picture) for picture in pictures]
    found = [model.embed(np.stack(inputs[i : i + 32])) for i in range(0, len(inputs), 32)]
    vectors = np.concatenate(found).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _nearest_two(
    pictures: NDArray[np.uint8], known: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Tiled distances to the nearest and second-nearest known picture, and which the nearest is."""
    nearest, second, which = [], [], []
    for start in range(0, len(pictures), _BLOCK):
        distances = largest_tile(tile_distances(pictures[start : start + _BLOCK], known))
        order = np.argpartition(distances, 1, axis=1)[:, :2]
        two = np.take_along_axis(distances, order, axis=1)
        first = two.argmin(axis=1)
        rows = np.arange(len(two))
        nearest.append(two[rows, first])
        second.append(two[rows, 1 - first])
        which.append(order[rows, first])
    return np.concatenate(nearest), np.concatenate(second), np.concatenate(which).astype(np.int64)
