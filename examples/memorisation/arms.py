"""The arms: which rows a model is trained on, how often, and for how long.

| arm | rows | steps |
| --- | --- | --- |
| A duplicated | the plan's 1,200 | all |
| B dedup, refilled | what Onceseen kept, and fresh pictures up to 1,200 | all: steps and epochs are those of A |
| C dedup, same epochs | what Onceseen kept | fewer: epochs are those of A |
| D dedup, same steps | what Onceseen kept | all: every row is seen more often than in A |
| exact | one row of each set of equal pixels, refilled | all |
| max_copies | at most two rows a picture, refilled | all |
| weights | what Onceseen kept, drawn by `weight` (copies^.5), refilled | all |

"Refilled": up to as many rows (for weights: as much weight) as A has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .dedup import Kept
from .pictures import shrink
from .plan import Plan

MAIN_ARMS = ("A", "B", "C", "D", "exact", "max_copies", "weights")
COMPARED = ("A", "B")
"""The main comparison: trained for all seeds and for the variants, and judged by all judges."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """One arm's rows.

    Attributes:
        pictures: (n, 32, 32, 3) uint8 RGB.
        captions: One a row.
        names: The picture that each row shows.
        weights: How often each is drawn, relative to the others.
        steps: Optimiser steps.
    """

    pictures: NDArray[np.uint8]
    captions: tuple[str, ...]
    names: tuple[str, ...]
    weights: NDArray[np.float64]
    steps: int

    def presentations(self, batch: int) -> dict[str, float]:
        """How often each picture is trained on."""
        seen: Counter[str] = Counter()
        share = self.weights / self.weights.sum() * self.steps * batch
        for name, times in zip(self.names, share.tolist(), strict=True):
            seen[name] += times
        return dict(seen)


def training_set(arm: str, plan: Plan, kept: Mapping[str, Kept], steps: int) -> TrainingSet:
    """The rows of one arm.

    Raises:
        ValueError: If there is no such arm, or too few fresh pictures to refill it.
    """
    whole = Kept(tuple(range(len(plan.rows))), (1.0,) * len(plan.rows))
    chosen = {"A": whole, "B": kept["dedup"], "C": kept["dedup"], "D": kept["dedup"]}.get(arm) or kept.get(
        arm
    )
    if chosen is None or arm not in MAIN_ARMS:
        raise ValueError(f"no arm {arm!r}: expected one of {', '.join(MAIN_ARMS)}")
    weights = list(chosen.weights) if arm == "weights" else [1.0] * len(chosen.rows)
    fresh = 0 if arm in ("A", "C", "D") else round(len(plan.rows) - sum(weights))
    if fresh > len(plan.fresh):
        raise ValueError(f"arm {arm} needs {fresh} fresh pictures, there are {len(plan.fresh)}")
    rows = [plan.rows[i] for i in chosen.rows]
    files = [(row.data, row.caption, row.picture) for row in rows]
    files += [(picture.data, picture.caption, picture.name) for picture in plan.fresh[:fresh]]
    return TrainingSet(
        np.stack([shrink(data) for data, _, _ in files]),
        tuple(caption for _, caption, _ in files),
        tuple(name for _, _, name in files),
        np.array(weights + [1.0] * fresh),
        round(steps * len(rows) / len(plan.rows)) if arm == "C" else steps,
    )
