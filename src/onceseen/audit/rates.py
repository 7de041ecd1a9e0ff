"""Rates with intervals: by the number of copies, by the clique that is asked for, and of a score against the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onceseen.core.intervals import Interval, wilson

__all__ = [
    "Interval",
    "Rate",
    "auc",
    "bin_of",
    "clique_curve",
    "rate",
    "rates_by_copies",
    "tpr_at_fpr",
    "wilson",
]

_A = TypeVar("_A")
_B = TypeVar("_B")
_MANTISSAS = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95% Wilson score interval.

    Attributes:
        hits: Successes.
        tried: Trials.
        interval: (0, 1) without a trial.
    """

    hits: int
    tried: int
    interval: Interval


def rate(hits: int, tried: int) -> Rate:
    """A rate with its interval.

    Raises:
        ValueError: If hits is not between 0 and tried.
    """
    return Rate(hits, tried, wilson(hits, tried))


def bin_of(copies: int) -> tuple[int, int]:
    """The bin of a number of copies, both ends included: 0 (caption unknown), 1, 2, 3 to 4, 5 to 8, 9 to 16, ...

    Raises:
        ValueError: If copies is negative.

    >>> [bin_of(n) for n in (0, 1, 2, 3, 8, 9)]
    [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16)]
    """
    if copies < 0:
        raise ValueError(f"{copies} copies; expected 0 (unknown) or more")
    if copies <= 1:
        return copies, copies
    high: int = 1 << (copies - 1).bit_length()
    return high // 2 + 1, high


def rates_by_copies(copies: Sequence[int], hits: Sequence[bool]) -> list[tuple[int, int, Rate]]:
    """Rate of each bin that holds a prompt.

    Args:
        copies: Copies in training of each prompt's picture.
        hits: Whether each prompt is memorised.

    Returns:
        (low, high, rate) by ascending bins.

    Raises:
        ValueError: If the two differ in length, or on negative copies.
    """
    counted: dict[tuple[int, int], list[int]] = {}
    for number, hit in _together(copies, hits, "copies", "hits"):
        of_bin = counted.setdefault(bin_of(int(number)), [0, 0])
        of_bin[0] += bool(hit)
        of_bin[1] += 1
    return [(low, high, rate(*counted[low, high])) for low, high in sorted(counted)]


def clique_curve(
    cliques: Sequence[int], matches: Sequence[bool], generations: Sequence[int]
) -> list[tuple[int, Rate]]:
    """Share of prompts with a matching clique of at least so many generations.

    A prompt with fewer generations than a size could not have shown such a clique: it is no trial of that size.

    Args:
        cliques: Size of each prompt's largest clique.
        matches: Whether its medoid matches a training picture.
        generations: Usable generations of each prompt.

    Returns:
        (least size, rate) for the sizes 1 to 10, then about ten a decade, up to the most generations of a prompt.

    Raises:
        ValueError: If the three differ in length.
    """
    _together(cliques, generations, "cliques", "generations")
    _together(cliques, matches, "cliques", "matches")
    found = []
    for size in _curve_sizes(max(generations, default=0)):
        able = [i for i, number in enumerate(generations) if number >= size]
        hits = sum(1 for i in able if matches[i] and cliques[i] >= size)
        found.append((size, rate(hits, len(able))))
    return found


def _curve_sizes(most: int) -> list[int]:
    sizes = list(range(1, 10))
    decade = 1
    while sizes[-1] < most:
        sizes += [mantissa * decade for mantissa in _MANTISSAS]
        decade *= 10
    return [size for size in sizes if size <= most]


def auc(scores: Sequence[float], truth: Sequence[bool]) -> float | None:
    """Area under the ROC curve: chance that a true one scores over a false one, ties counting half.

    Args:
        scores: Higher for what is more likely true; finite or infinite.
        truth: What is true.

    Returns:
        A value in [0, 1]; None without a true or without a false one.

    Raises:
        ValueError: If the two differ in length, or a score is NaN.
    """
    true, false = _split(scores, truth)
    if not len(true) or not len(false):
        return None
    below = np.searchsorted(false, true, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(false, true, side="right").sum(dtype=np.int64)
    return int(below + not_above) / (2 * len(true) * len(false))


def tpr_at_fpr(scores: Sequence[float], truth: Sequence[bool], fpr: float = 0.01) -> float | None:
    """Largest share of the true ones over a threshold that at most `fpr` of the false ones reach.

    Args:
        scores: As in `auc`; those of one score are over a threshold together.
        truth: What is true.
        fpr: Largest share of false ones, in [0, 1].

    Returns:
        A value in [0, 1]; None without a true or without a false one.

    Raises:
        ValueError: As `auc`, and if `fpr` is no share.
    """
    true, false = _split(scores, truth)
    if not 0 <= fpr <= 1:
        raise ValueError(f"false positive rate {fpr}; expected a share in [0, 1]")
    if not len(true) or not len(false):
        return None
    thresholds = np.unique(true)
    false_over = len(false) - np.searchsorted(false, thresholds, side="left")
    true_over = len(true) - np.searchsorted(true, thresholds, side="left")
    allowed = true_over[false_over / len(false) <= fpr]
    return int(allowed.max(initial=0)) / len(true)


def _split(scores: Sequence[float], truth: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the true and of the false ones, each ascending."""
    _together(scores, truth, "scores", "truth")
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is NaN; expected numbers that can be ordered")
    is_true = np.asarray(truth, dtype=np.bool_)
    return np.sort(values[is_true]), np.sort(values[~is_true])


def _together(first: Sequence[_A], second: Sequence[_B], one: str, other: str) -> list[tuple[_A, _B]]:
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} {one} and {len(second)} {other}; expected one of each for every prompt"
        )
    return list(zip(first, second, strict=True))
