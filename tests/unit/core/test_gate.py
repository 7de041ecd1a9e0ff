"""The gate: weights inside never exceed the limit, and whoever is over it still gets in, alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from onceseen.core.gate import Gate


def test_weights_inside_stay_under_the_limit() -> None:
    gate, lock = Gate(10), threading.Lock()
    inside: list[int] = []
    seen: list[list[int]] = []

    def work(weight: int) -> None:
        with gate.hold(weight):
            with lock:
                inside.append(weight)
                seen.append(list(inside))
            time.sleep(0.001)
            with lock:
                inside.remove(weight)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 25, 2, 5, 1, 10, 6] * 10))
    assert len(seen) == 80
    assert all(sum(weights) <= 10 or weights == [25] for weights in seen)
    assert max(map(len, seen)) > 1, "they did not all wait for each other"


def test_an_error_inside_gives_the_room_back() -> None:
    gate = Gate(1)
    with pytest.raises(KeyError), gate.hold(1):
        raise KeyError
    with gate.hold(1):
        pass


def test_a_gate_that_lets_nothing_in_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        Gate(0)
