"""What Prometheus is told: how many requests, of what outcome, how long, in what batches. Nothing of a query."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one app, in a registry of their own."""

    def __init__(self, samples: int, waiting: Callable[[], int]) -> None:
        """Makes them.

        Args:
            samples: Samples of the reference.
            waiting: How many pictures are in no batch yet.
        """
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "onceseen_requests",
            "Requests answered, by endpoint and status.",
            ("endpoint", "status"),
            registry=self.registry,
        )
        self.findings = Counter(
            "onceseen_pictures",
            "Pictures checked, by finding.",
            ("finding",),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "onceseen_request_seconds",
            "Time of a request, its body included.",
            ("endpoint",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "onceseen_batch_pictures",
            "Pictures checked together.",
            buckets=_SIZES,
            registry=self.registry,
        )
        self.open = Gauge(
            "onceseen_requests_open", "Requests that are read or worked on.", registry=self.registry
        )
        queue = Gauge("onceseen_pictures_waiting", "Pictures in no batch yet.", registry=self.registry)
        queue.set_function(waiting)
        Gauge("onceseen_reference_samples", "Samples of the reference.", registry=self.registry).set(samples)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
