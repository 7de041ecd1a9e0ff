"""Exact classes: samples with equal pixels (equal bytes have them too) are contracted to one node.

A class of 100,000 copies then costs one vector and n - 1 star rows instead of 5 * 10^9 pairs. The head of a class is
its smallest node id; every other member gets one star row to it.
"""

from __future__ import annotations

import numpy as np

from onceseen.neighbors.packing import MEMBER, STAR, Records


def exact_classes(members: Records) -> Records:
    """Star rows of all exact classes among the members.

    Args:
        members: (n,) array of `MEMBER`, any order.

    Returns:
        Array of `STAR`, sorted by node: one row for each member that is not the head of its class. O(n log n).
    """
    if members.dtype != MEMBER:
        raise TypeError(f"members have dtype {members.dtype}; expected {MEMBER}")
    ordered = members[np.lexsort((members["node"], members["hash"]))]
    starts = np.ones(len(ordered), dtype=bool)
    starts[1:] = ordered["hash"][1:] != ordered["hash"][:-1]
    head_at = np.maximum.accumulate(np.where(starts, np.arange(len(ordered)), 0))
    stars = np.empty(int((~starts).sum()), dtype=STAR)
    stars["node"] = ordered["node"][~starts]
    stars["head"] = ordered["node"][head_at[~starts]]
    stars["bytes"] = ordered["sha"][~starts] == ordered["sha"][head_at[~starts]]
    return stars[np.argsort(stars["node"], kind="stable")]
