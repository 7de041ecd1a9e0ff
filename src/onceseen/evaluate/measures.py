"""Wilson intervals and micro-averaged precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from onceseen.core.intervals import wilson


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95% Wilson score interval (Wilson, 1927).

    Attributes:
        hits: Successes.
        total: Trials.
    """

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        """The share; None without a trial."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper end.

        >>> [round(end, 4) for end in Rate(8, 10).interval]
        [0.4902, 0.9433]
        """
        return wilson(self.hits, self.total) if self.total else None

    def to_json(self) -> dict[str, object]:
        """Plain mapping, shares rounded to six decimals."""
        ends = self.interval
        return {
            "hits": self.hits,
            "total": self.total,
            "value": None if self.value is None else round(self.value, 6),
            "interval_95": None if ends is None else [round(end, 6) for end in ends],
        }


def average_precision(scored: Sequence[tuple[float, bool]], positives: int) -> float | None:
    """Micro-averaged precision of one ranking over all queries (DISC 2021, `micro-AP`).

    Pairs of one score are one step of the ranking, so that their order cannot matter.

    Args:
        scored: Score and whether it is a true pair.
        positives: True pairs in all; those never scored are missed.

    Returns:
        A value in [0, 1]; None if there is nothing to find.

    >>> round(average_precision([(0.9, True), (0.5, False), (0.4, True)], 4), 6)
    0.416667
    """
    if not positives:
        return None
    total = found = 0
    area = 0.0
    for _, step in groupby(sorted(scored, key=lambda pair: -pair[0]), key=lambda pair: pair[0]):
        hits = [is_true for _, is_true in step]
        total += len(hits)
        found += sum(hits)
        area += sum(hits) / positives * (found / total)
    return area
