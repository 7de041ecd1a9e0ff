"""How much large work goes on at a time in one process, whatever its number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets work in while the weights inside fit a limit; what alone is over the limit goes in when nobody else is.

    No order is kept among those who wait: what comes out must not depend on it. Whoever is inside must not ask again.
    """

    def __init__(self, limit: int) -> None:
        """Starts empty.

        Args:
            limit: Sum of the weights inside, in any unit.

        Raises:
            ValueError: If it is not positive.
        """
        if limit <= 0:
            raise ValueError(f"the limit of a gate is {limit}; expected a positive number")
        self._limit = limit
        self._inside = 0
        self._free = threading.Condition()

    @contextmanager
    def hold(self, weight: int) -> Iterator[None]:
        """Waits until there is room for `weight`, and takes it until the block ends."""
        with self._free:
            self._free.wait_for(lambda: self._inside == 0 or self._inside + weight <= self._limit)
            self._inside += weight
        try:
            yield
        finally:
            with self._free:
                self._inside -= weight
                self._free.notify_all()
