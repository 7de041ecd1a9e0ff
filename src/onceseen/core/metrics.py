"""Metric names live in one namespace. Counters are for progress: results always come from files.

Only Beam's workers have anybody to report to; in a process without Beam nothing is counted, and Beam is not imported.
"""

from __future__ import annotations

import sys
from typing import Any

NAMESPACE = "onceseen"


class _Unheard:
    """A counter or distribution where nobody listens."""

    def inc(self, n: int = 1) -> None:
        """Counts nothing."""

    def update(self, value: int) -> None:
        """Keeps nothing."""


def counter(name: str) -> Any:  # noqa: ANN401 - Beam's delegate, or nobody
    """A counter in Onceseen's namespace."""
    if "apache_beam" not in sys.modules:
        return _Unheard()
    from apache_beam.metrics import Metrics

    return Metrics.counter(NAMESPACE, name)


def distribution(name: str) -> Any:  # noqa: ANN401 - Beam's delegate, or nobody
    """A distribution in Onceseen's namespace."""
    if "apache_beam" not in sys.modules:
        return _Unheard()
    from apache_beam.metrics import Metrics

    return Metrics.distribution(NAMESPACE, name)
