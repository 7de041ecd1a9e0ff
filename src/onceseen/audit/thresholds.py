"""Thresholds from pictures that cannot have been memorised: held out, or training pictures against the others.

A distance means something only against how often pictures that are no copies reach it: at 32 pixels a third of
unrelated photographs have a neighbour within .15, the paper's threshold at 512 pixels. So the rate is set, not the
distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.audit.distances import cosines

_BLOCK = 1024
"""Rows of the cosine matrix at a time."""


@dataclass(frozen=True, slots=True)
class MatchThreshold:
    """A calibrated distance.

    Attributes:
        distance: Pictures match within it (<=).
        matched: Pictures tried that match at it.
        tried: Pictures tried.
        limited: Whether a larger distance would match more than the rate allows. If not, the ratio alone refused nearly
            all pictures tried, and the distance is the largest that any of them speaks for.
    """

    distance: float
    matched: int
    tried: int
    limited: bool = True


def distance_ratio(nearest: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Nearest / second: how much nearer the nearest picture is than the second-nearest distinct one.

    Args:
        nearest: (n,) finite distances.
        second: (n,) distances of the nearest picture of another component, at least `nearest`; inf if there is none.

    Returns:
        (n,) in [0, 1]: 0 without a second one, 1 where both are 0.
    """
    first = np.asarray(nearest, dtype=np.float64)
    other = np.asarray(second, dtype=np.float64)
    return np.divide(first, other, out=np.ones_like(first), where=other > 0)


def calibrate_distance(
    nearest: NDArray[np.floating], second: NDArray[np.floating], ratio: float, max_rate: float
) -> MatchThreshold:
    """The largest distance at which at most `max_rate` of the pictures match (distance and ratio).

    Distances are float32, and so is the threshold: just under the smallest distance that would match one too many.

    Args:
        nearest: (n,) tiled distances of pictures that are no copies to their nearest training picture.
        second: (n,) the same to the nearest picture of another component; inf if there is none.
        ratio: Largest nearest / second of a match.
        max_rate: Largest share that may match, in [0, 1).

    Raises:
        ValueError: Without pictures, on a bad rate, or if too many of them equal a training picture (distance 0).
    """
    _check_rate(max_rate)
    if not len(nearest) or len(nearest) != len(second):
        raise ValueError(
            f"{len(nearest)} nearest and {len(second)} second distances; expected one of each for every picture, "
            "and at least one picture: give --held-out pictures that can be read, or set audit.match_distance"
        )
    first = np.asarray(nearest, dtype=np.float32)
    allowed = _most(max_rate, len(first))
    eligible = np.sort(first[distance_ratio(first, np.asarray(second, dtype=np.float32)) <= ratio])
    limited = len(eligible) > allowed
    if limited:
        distance = np.nextafter(eligible[allowed], np.float32(-np.inf))
    else:
        # No distance is refused: take the largest that is seen, at least what the distance alone would allow.
        alone = np.nextafter(np.sort(first)[allowed], np.float32(-np.inf))
        distance = max([alone, *eligible[-1:]])
    if distance < 0:
        raise ValueError(
            f"more than {allowed} of {len(first)} pictures that should not be in the training set are equal to one of "
            "its pictures; take them out of --held-out, raise audit.max_rate or set audit.match_distance"
        )
    matched = int(np.searchsorted(eligible, distance, side="right"))
    return MatchThreshold(float(distance), matched, len(first), limited)


def calibrate_cosine(vectors: NDArray[np.floating], groups: NDArray[np.int64], max_rate: float) -> float:
    """The smallest cosine that at most `max_rate` of the pictures reach with a picture of another group.

    Args:
        vectors: (n, d) float embeddings of any length.
        groups: (n,) int64; pictures of one group show the same and are not compared.
        max_rate: Largest share, in [0, 1).

    Returns:
        A float32 cosine, for >=. Just over 1 if too many pictures of different groups have equal embeddings: then no
        two pictures are near. Cost: n^2 d float64 products, 1,024 rows at a time.

    Raises:
        ValueError: Without two groups, on a bad rate or on lengths that differ.
    """
    _check_rate(max_rate)
    if len(vectors) != len(groups) or len(np.unique(groups)) < 2:
        raise ValueError(
            f"{len(vectors)} vectors in {len(np.unique(groups))} groups; expected a group for each vector, and "
            "at least two: embed more pictures (audit.train_samples) or set audit.edge_cosine"
        )
    best = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found = cosines(vectors[rows], vectors)
        found[groups[rows, None] == groups[None, :]] = -np.inf
        best[rows] = found.max(axis=1)
    descending = np.sort(best)[::-1]
    return float(np.nextafter(descending[_most(max_rate, len(best))], np.float32(np.inf)))


def _most(max_rate: float, tried: int) -> int:
    """Largest number whose share of `tried` is at most `max_rate`, as that share is divided."""
    most = int(max_rate * tried)
    while (most + 1) / tried <= max_rate:
        most += 1
    while most / tried > max_rate:
        most -= 1
    return most


def _check_rate(max_rate: float) -> None:
    if not 0 <= max_rate < 1:
        raise ValueError(f"rate {max_rate}; expected a share in [0, 1) (audit.max_rate)")
