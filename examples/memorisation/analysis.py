"""Rates with intervals, paired differences, and a permutation test, from one row a picture, arm and seed.

The unit is the picture in a seed: generations of one prompt are not independent. Intervals are bootstrap percentiles:
seeds are drawn with replacement, then pictures of each count within a drawn seed; a difference between two arms keeps
the pair of a picture together. With few seeds such intervals are rather too narrow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 5_000
PERMUTATIONS = 9_999


@dataclass(frozen=True, slots=True)
class PictureResult:
    """What one model gave for one audited picture.

    Attributes:
        part: `main` or `variants`.
        seed: Of plan and training.
        arm: Rows that the model was trained on.
        picture: Name.
        cell: Copies in arm A, as text, or the variant.
        copies: Copies in arm A.
        prompt: `kept`, or `dropped` for a caption that deduplication removed.
        presentations: How often the picture was trained on.
        generations: Generations.
        matched: Those that show the picture, by pixels.
        others: Those that show another picture that may be in training.
        clique: Largest clique.
        memorised: Whether a clique of `min_clique` shows it.
        median_distance: Of the generations to the picture, tiled.
        sscd: Generations that show it by the second judge; None where that was not asked.
        sscd_both: Those among them that match by pixels too.
        detector: Generations that the detector of `onceseen audit` calls duplicates of it; None as above.
        detector_both: Those among them that match by pixels too.
        audit: What `onceseen audit` said of the prompt; None as above.
    """

    part: str
    seed: int
    arm: str
    picture: str
    cell: str
    copies: int
    prompt: str
    presentations: float
    generations: int
    matched: int
    others: int
    clique: int
    memorised: bool
    median_distance: float
    sscd: int | None = None
    sscd_both: int | None = None
    detector: int | None = None
    detector_both: int | None = None
    audit: str | None = None

    @property
    def share(self) -> float:
        """Share of generations matched: the primary outcome."""
        return self.matched / self.generations


Outcome = Callable[[PictureResult], float]


def share(result: PictureResult) -> float:
    """Primary outcome."""
    return result.share


def memorised(result: PictureResult) -> float:
    """Second outcome."""
    return float(result.memorised)


def interval(groups: Mapping[tuple[int, str], NDArray[np.float64]], seed: int = 0) -> dict[str, float]:
    """Mean over cells of the pictures' means, with a 95 % interval.

    Args:
        groups: By (seed, cell): values of its pictures; every seed has the same cells.
        seed: Of the resampling.

    Returns:
        mean, low, high.
    """
    by_seed: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
    for (number, _), values in sorted(groups.items()):
        by_seed[number].append(values)
    seeds = list(by_seed.values())
    mean = float(np.mean(np.concatenate([np.concatenate(cells) for cells in seeds])))
    dice = np.random.default_rng(seed)
    found = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = [seeds[s] for s in dice.integers(0, len(seeds), len(seeds))]
        again = [cell[dice.integers(0, len(cell), len(cell))] for cells in drawn for cell in cells]
        found[i] = np.concatenate(again).mean()
    low, high = np.quantile(found, [0.025, 0.975])
    return {"mean": round(mean, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def rates(results: Sequence[PictureResult], outcome: Outcome) -> list[dict[str, Any]]:
    """One row for each arm and cell: pictures, seeds, presentations, rate with interval."""
    rows = []
    for (arm, cell, prompt), found in _grouped(results, lambda r: (r.arm, r.cell, r.prompt)).items():
        groups = {key: _values(v, outcome) for key, v in _grouped(found, lambda r: (r.seed, r.cell)).items()}
        rows.append(
            {
                "arm": arm,
                "cell": cell,
                "prompt": prompt,
                "copies": found[0].copies,
                "pictures": len(found),
                "seeds": len({r.seed for r in found}),
                "presentations": round(float(np.mean([r.presentations for r in found])), 1),
                **interval(groups),
            }
        )
    return sorted(rows, key=lambda row: (row["arm"], row["copies"], row["cell"], row["prompt"]))


def difference(
    results: Sequence[PictureResult], first: str, second: str, outcome: Outcome, *, duplicated: bool
) -> dict[str, Any] | None:
    """First arm's rate less the second's, on the same pictures of the same seeds.

    Args:
        results: Of one part.
        first: An arm.
        second: An arm.
        outcome: What is compared.
        duplicated: Whether the pictures with two copies or more count, or those with one.

    Returns:
        Both rates, the difference with its interval, and pairs; None where the arms share no seed.
    """
    chosen = [r for r in results if r.prompt == "kept" and (r.copies > 1) == duplicated]
    by_key = {(r.arm, r.seed, r.picture): r for r in chosen}
    pairs = [
        (r, by_key[second, r.seed, r.picture])
        for r in chosen
        if r.arm == first and (second, r.seed, r.picture) in by_key
    ]
    if not pairs:
        return None
    groups: dict[tuple[int, str], list[float]] = defaultdict(list)
    for a, b in pairs:
        groups[a.seed, a.cell].append(outcome(a) - outcome(b))
    return {
        "arms": [first, second],
        "pairs": len(pairs),
        "seeds": len({a.seed for a, _ in pairs}),
        first: round(float(np.mean([outcome(a) for a, _ in pairs])), 4),
        second: round(float(np.mean([outcome(b) for _, b in pairs])), 4),
        "difference": interval({key: np.array(values) for key, values in groups.items()}),
    }


def permutation_test(results: Sequence[PictureResult], arm: str, outcome: Outcome) -> dict[str, float]:
    """Whether pictures with more copies come back more often within an arm: counts are dealt anew within each seed.

    Returns:
        statistic: mean over seeds of Spearman's rank correlation of copies and outcome; p: one-sided, of
        `PERMUTATIONS`.
    """
    seeds = []
    for _, found in sorted(_grouped([r for r in results if r.arm == arm], lambda r: (r.seed,)).items()):
        copies = _ranks(np.array([r.copies for r in found], dtype=np.float64))
        seeds.append((copies, _ranks(_values(found, outcome))))
    observed = float(np.mean([_correlation(a, b) for a, b in seeds]))
    dice = np.random.default_rng(0)
    reached = sum(
        np.mean([_correlation(dice.permutation(a), b) for a, b in seeds]) >= observed - 1e-12
        for _ in range(PERMUTATIONS)
    )
    return {"statistic": round(observed, 4), "p": (1 + int(reached)) / (1 + PERMUTATIONS)}


def _grouped(
    results: Sequence[PictureResult], key: Callable[[PictureResult], tuple[Any, ...]]
) -> dict[tuple[Any, ...], list[PictureResult]]:
    groups: dict[tuple[Any, ...], list[PictureResult]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return dict(groups)


def _values(results: Sequence[PictureResult], outcome: Outcome) -> NDArray[np.float64]:
    return np.array([outcome(r) for r in results], dtype=np.float64)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; 0 where one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0
