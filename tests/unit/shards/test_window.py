"""The window over a file: what it holds, whatever the size of a member."""

from __future__ import annotations

import io

import numpy as np
import pytest

from onceseen.shards.window import CAPACITY, Window

DATA = np.random.default_rng(5).bytes(20_000_000)


def test_a_long_stretch_is_taken_past_the_window() -> None:
    window = Window(io.BytesIO(DATA))
    assert window.take(100, 1_000) == DATA[100:1_100]
    held = len(window.buffer)
    assert window.take(1_200, 18_000_000) == DATA[1_200:18_001_200]
    assert len(window.buffer) == held <= CAPACITY, "the window does not grow for what is copied anyway"
    window.hold = 18_001_200
    assert window.take(18_001_200, 5_000_000) == DATA[18_001_200:], "fewer bytes where the file ends"
    assert window.view(19_999_000, 1_000).tobytes() == DATA[19_999_000:]


def test_a_file_that_became_shorter_is_told() -> None:
    stream = io.BytesIO(DATA)
    window = Window(stream)
    stream.truncate(10_000_000)
    with pytest.raises(OSError, match="the file ends at byte 10000000"):
        window.take(1_000, 18_000_000)
