"""Metric names live in one namespace. Counters are for progress: results always come from files."""

from __future__ import annotations

from apache_beam.metrics import Metrics

NAMESPACE = "onceseen"


def counter(name: str) -> Metrics.DelegatingCounter:
    """A counter in Onceseen's namespace."""
    return Metrics.counter(NAMESPACE, name)


def distribution(name: str) -> Metrics.DelegatingDistribution:
    """A distribution in Onceseen's namespace."""
    return Metrics.distribution(NAMESPACE, name)
