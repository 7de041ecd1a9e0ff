"""Generations that share a part of a picture, and the training picture that has this part.

"Template verbatims" (Webster 2023, arXiv 2305.08694): a model gives a training picture back but for a part that varies,
such as a product's colour. A tile of one colour says nothing, so only tiles with contrast count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.audit.cliques import Clique, largest_clique, medoid
from onceseen.audit.distances import tile_contrasts, tile_distances
from onceseen.audit.records import Candidate, MatchedBy, Thresholds, TrainingMatch
from onceseen.audit.thresholds import distance_ratio

TrainingPixels = Callable[[int], NDArray[np.uint8]]
"""Pixels of a training picture by its node: (side, side, 3) uint8, of the generations' side."""


@dataclass(frozen=True, slots=True)
class Template:
    """A part that generations share.

    Attributes:
        clique: Generations of which every two share at least `template_tiles` tiles.
        representative: Its medoid.
        tiles: (16,) bool: tiles that the medoid shares with at least half of the other members.
    """

    clique: Clique
    representative: int
    tiles: NDArray[np.bool_]


def find_template(
    tiles: NDArray[np.float32], contrasts: NDArray[np.float32], thresholds: Thresholds
) -> Template | None:
    """The largest set of generations of which every two share enough tiles.

    Args:
        tiles: (16, n, n) of the usable generations.
        contrasts: (16, n) of them.
        thresholds: Tiles, contrast, edge distance, clique.

    Returns:
        The template; None if the set is under `min_clique`, or its medoid shares no `template_tiles` tiles with half of
        it. Cost: some 200 n^2 bytes, and a clique search.
    """
    seen = contrasts >= thresholds.template_contrast
    shared = np.where(seen[:, :, None] & seen[:, None, :], tiles, np.float32(np.inf))
    # The distance over the best tiles of a pair, as many as a template needs.
    needed = thresholds.template_tiles
    pairs = np.partition(shared, needed - 1, axis=0)[needed - 1]
    clique = largest_clique(pairs <= thresholds.edge_distance, thresholds.clique_steps)
    if len(clique.members) < thresholds.min_clique:
        return None
    middle = medoid(pairs, clique.members)
    others = [member for member in clique.members if member != middle]
    agreeing = (shared[:, middle, others] <= thresholds.edge_distance).sum(axis=1)
    common = np.asarray(2 * agreeing >= len(others), dtype=np.bool_)
    return Template(clique, middle, common) if common.sum() >= needed else None


def match_template(
    picture: NDArray[np.uint8],
    tiles: NDArray[np.bool_],
    candidates: tuple[Candidate, ...],
    training: TrainingPixels,
    thresholds: Thresholds,
) -> tuple[TrainingMatch, int] | None:
    """The training picture that shows the template in the same place.

    Args:
        picture: (side, side, 3) uint8 medoid of the template.
        tiles: (16,) bool of the template.
        candidates: Training pictures, one of each component.
        training: Gives their pixels.
        thresholds: Distance and ratio of a match, contrast, tiles.

    Returns:
        The match and its number of tiles: all tiles of the template in which the training picture has contrast, at
        least `template_tiles`, the largest of them within `match_distance`, and clearly nearer than in the candidate
        that is next on those tiles. None otherwise.
    """
    if not candidates:
        return None
    stack = np.stack([training(candidate.node) for candidate in candidates])
    distances = tile_distances(picture[None], stack)[:, 0]
    common = tiles[:, None] & (tile_contrasts(stack) >= thresholds.template_contrast)
    enough = common.sum(axis=0) >= thresholds.template_tiles
    over = np.where(enough, np.where(common, distances, 0).max(axis=0), np.inf)
    best = int(np.argmin(over))
    if not over[best] <= thresholds.match_distance:
        return None
    on_these = distances[common[:, best]].max(axis=0)
    others = [i for i, other in enumerate(candidates) if other.component != candidates[best].component]
    second = float(on_these[others].min()) if others else math.inf
    first = float(on_these[best])
    if distance_ratio(np.array([first]), np.array([second]))[0] > thresholds.match_ratio:
        return None
    found = candidates[best]
    match = TrainingMatch(found.node, found.component, MatchedBy.TEMPLATE, first, second)
    return match, int(common[:, best].sum())
