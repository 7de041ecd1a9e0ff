"""Wilson's score interval of a share, the one that every rate of this package is given with."""

from __future__ import annotations

import math
from typing import NamedTuple

Z_95 = 1.959963984540054
"""Standard normal quantile at .975: two-sided 95%."""


class Interval(NamedTuple):
    """Lower and upper end of a share, both in [0, 1]."""

    low: float
    high: float


def wilson(hits: int, tried: int, z: float = Z_95) -> Interval:
    """Wilson score interval (Wilson, 1927): sound for few trials and for shares near 0 and 1.

    Args:
        hits: Successes.
        tried: Trials.
        z: Standard normal quantile of the confidence.

    Returns:
        The interval; (0, 1) without a trial, as nothing is known then.

    Raises:
        ValueError: If hits is not between 0 and tried.

    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if not 0 <= hits <= tried:
        raise ValueError(f"{hits} hits of {tried} trials; expected 0 <= hits <= trials")
    if not tried:
        return Interval(0.0, 1.0)
    share = hits / tried
    middle = (share + z**2 / (2 * tried)) / (1 + z**2 / tried)
    half = z / (1 + z**2 / tried) * math.sqrt(share * (1 - share) / tried + z**2 / (4 * tried * tried))
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == tried else min(1.0, middle + half)
    return Interval(low, high)
