"""The keep order: which picture of a component is best.

Best first means, where crawls were appended to each other, that all pictures of an older one come before those of a
newer one; then, in this order:

1. containment: the least foreign content (borders, overlays, interface) and the least missing content (not a crop of
   another), as measured by the verified alignments with the other pictures, averaged over them, so that one bad pair
   does not decide;
2. effective resolution (real detail, not pixel count: an upscaled copy never beats its original);
3. bytes per pixel (the less compressed; among files of equal pixels the smallest);
4. a field of the sample's json or parquet row, where `keep.prefer` names one;
5. sample_id, in UTF-8 byte order.

By pixel count alone, letterboxed copies and screenshots win over their originals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from onceseen.core.ids import name_order

CONTAINMENT_STEP = 0.01
"""Differences of containment under this are noise; a small watermark covers from 1.5 % on."""
SHARPNESS_STEP = 0.15
"""Relative differences of effective resolution under this are noise of its estimate."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the keep order knows of one sample.

    Attributes:
        node: Node id.
        head: Head of its exact class.
        sample_id: Its id.
        flaw: Mean over the class's verified edges of foreign plus missing share; 0 without edges.
        sharpness: Effective resolution, in pixels along the diagonal.
        bytes_per_pixel: Encoded bytes a pixel.
        preference: Value of `keep.prefer`, empty if there is none.
        crawl: Which crawl it is of, the oldest being 0: what an older one has chosen stands.
    """

    node: int
    head: int
    sample_id: str
    flaw: float
    sharpness: float
    bytes_per_pixel: float
    preference: str = ""
    crawl: int = 0


OrderKey = tuple[int, int, int, float, tuple[int, float, bytes], bytes]


def order_key(candidate: Candidate, *, small_first: bool = False, smallest: bool = False) -> OrderKey:
    """Sort key, smallest best. A total order, since sample ids are unique.

    Args:
        candidate: The sample.
        small_first: Whether small preferred values are better (`keep.prefer: -field`).
        smallest: Whether fewer bytes per pixel are better: so among files of equal pixels.
    """
    return (
        candidate.crawl,
        math.floor(candidate.flaw / CONTAINMENT_STEP + 0.5),
        -_log_step(candidate.sharpness),
        round(candidate.bytes_per_pixel, 6) * (1 if smallest else -1),
        _preference_key(candidate.preference, small_first),
        name_order(candidate.sample_id),
    )


def _log_step(sharpness: float) -> int:
    return math.floor(math.log(max(sharpness, 1.0)) / math.log1p(SHARPNESS_STEP) + 0.5)


def _preference_key(value: str, small_first: bool) -> tuple[int, float, bytes]:
    """Numbers before text before nothing; numbers large first, text ascending, both turned by `small_first`."""
    if not value:
        return (2, 0.0, b"")
    try:
        number = float(value)
    except ValueError:
        text = name_order(value)
        return (1, 0.0, bytes(255 - b for b in text) if small_first else text)
    if math.isnan(number):
        return (2, 0.0, b"")
    return (0, number if small_first else -number, b"")


def group_weight(copies: int, kept: int, alpha: float) -> float:
    """Weight of each kept row of a group such that the group's total is copies^(1 - alpha).

    Args:
        copies: Samples in the group.
        kept: Rows of it that are kept.
        alpha: 1 counts each picture once, 0 as often as it occurred.
    """
    return round(float(copies ** (1.0 - alpha)) / kept, 6)
