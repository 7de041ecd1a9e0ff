from __future__ import annotations

import numpy as np
import pytest

from onceseen.neighbors.classes import exact_classes
from onceseen.neighbors.packing import MEMBER, PAIR


def _members(rows: list[tuple[bytes, int, bytes]]) -> np.ndarray:
    return np.array(rows, dtype=MEMBER)


def test_members_hang_on_the_smallest_node() -> None:
    stars = exact_classes(_members([(b"h1", 9, b"x"), (b"h2", 1, b"y"), (b"h1", 4, b"x"), (b"h1", 7, b"z")]))
    assert stars.tolist() == [(7, 4, False), (9, 4, True)]


def test_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    rows = [(bytes([n % 7 + 1]) * 16, n, bytes([n % 2 + 1])) for n in range(100)]
    expected = exact_classes(_members(rows))
    assert len(expected) == 93
    for _ in range(3):
        assert np.array_equal(exact_classes(_members([rows[i] for i in rng.permutation(100)])), expected)


def test_hashes_that_end_in_zero_bytes_are_kept_apart() -> None:
    """NumPy strips trailing zero bytes of S16; equality must still be that of the padded 16 bytes."""
    stars = exact_classes(_members([(b"a" + b"\0" * 15, 0, b""), (b"a" + b"\0" * 14 + b"\1", 1, b"")]))
    assert len(stars) == 0


def test_a_wrong_record_is_refused() -> None:
    with pytest.raises(TypeError, match="expected"):
        exact_classes(np.zeros(2, dtype=PAIR))
