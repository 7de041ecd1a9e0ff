"""Charts as inline SVG: no library, readable in light and dark, with the numbers as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onceseen.stats.report.figures import count, plural
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.plot import FOOT, LEFT, RIGHT, TOP, WIDTH, bar, base, chart, line, text

_FLOOR = 0.6  # the count at the foot of the log axis, so that a bar of 1 is seen


def bin_copies(histogram: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """Bins of equal width on a log2 axis: 1, 2, 3-4, 5-8, ...

    >>> bin_copies({1: 10, 2: 3, 3: 1, 4: 1, 9: 1})
    [(1, 1, 10), (2, 2, 3), (3, 4, 2), (5, 8, 0), (9, 16, 1)]
    """
    if not histogram:
        return []
    last = max(0, math.ceil(math.log2(max(histogram))))
    bins = []
    for power in range(last + 1):
        low, high = (2 ** (power - 1) + 1 if power else 1), 2**power
        bins.append((low, high, sum(n for copies, n in histogram.items() if low <= copies <= high)))
    return bins


def copies_chart(histogram: Mapping[int, int]) -> Markup:
    """Kept pictures by their number of copies, both axes logarithmic."""
    bins = bin_copies(histogram)
    if not bins:
        return tag("p", "No picture was kept.", class_="quiet")
    top = 10 ** max(1, math.ceil(math.log10(max(n for _, _, n in bins) + 1)))
    step = (WIDTH - LEFT - RIGHT) / len(bins)
    parts = [_grid(top)]
    for i, (low, high, number) in enumerate(bins):
        label = str(low) if low == high else f"{count(low)}–{count(high)}"
        parts.append(_bar(LEFT + i * step, step, number, label, top))
    summary = "; ".join(f"{label_of(low, high)}: {count(n)}" for low, high, n in bins)
    return chart(
        parts,
        "copies of the picture (log scale)",
        "kept pictures (log scale)",
        f"Kept pictures by number of copies. {summary}",
    )


def label_of(low: int, high: int) -> str:
    """A bin in words."""
    return plural(low, "copy") if low == high else f"{count(low)} to {count(high)} copies"


def bars(rows: Sequence[tuple[str, int, str]], whole: int) -> Markup:
    """Horizontal bars: label, number, and a class for the colour, as a share of the whole."""
    items = []
    for label, number, css in rows:
        width = 100 * number / whole if whole else 0
        track = tag(
            "span", tag("i", class_=css, style=f"width:{width:.2f}%"), class_="track", aria_hidden="true"
        )
        items.append(tag("li", tag("span", label), track, tag("b", count(number))))
    return tag("ul", join(items), class_="bars")


def _y(number: float, top: float) -> float:
    span = math.log10(top) - math.log10(_FLOOR)
    return TOP + (FOOT - TOP) * (math.log10(top) - math.log10(max(number, _FLOOR))) / span


def _grid(top: int) -> Markup:
    lines = []
    for power in range(round(math.log10(top)) + 1):
        y = _y(10**power, top)
        lines.append(line((LEFT, y), (WIDTH - RIGHT, y), "grid"))
        lines.append(text(LEFT - 8, y + 4, count(10**power), "tick end"))
    return join([*lines, base()])


def _bar(x: float, step: float, number: int, label: str, top: int) -> Markup:
    head = _y(number, top)
    middle = x + step / 2
    parts = [text(middle, FOOT + 18, label, "tick")]
    if number:
        parts.append(
            bar(middle, min(56.0, step * 0.72), head, "bar", f"{label}: {plural(number, 'picture')}")
        )
        parts.append(text(middle, head - 6, count(number), "value"))
    return join(parts)
