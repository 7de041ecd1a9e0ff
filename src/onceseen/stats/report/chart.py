"""Charts as inline SVG: no library, readable in light and dark, with the numbers as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onceseen.stats.report.figures import count, plural
from onceseen.stats.report.markup import Markup, join, tag

_WIDTH, _HEIGHT = 760, 296
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 42, 46
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
    step = (_WIDTH - _LEFT - _RIGHT) / len(bins)
    parts = [_grid(top)]
    for i, (low, high, number) in enumerate(bins):
        label = str(low) if low == high else f"{count(low)}–{count(high)}"
        parts.append(_bar(_LEFT + i * step, step, number, label, top))
    axis = _text(
        _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _HEIGHT - 6, "copies of the picture (log scale)", "axis"
    )
    title = _text(_LEFT, 12, "kept pictures (log scale)", "axis start")
    summary = "; ".join(f"{label_of(low, high)}: {count(n)}" for low, high, n in bins)
    return tag(
        "svg",
        join([*parts, axis, title]),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"Kept pictures by number of copies. {summary}",
        class_="chart",
    )


def label_of(low: int, high: int) -> str:
    """A bin in words."""
    return plural(low, "copy") if low == high else f"{count(low)} to {count(high)} copies"


def bars(rows: Sequence[tuple[str, int, str]], whole: int) -> Markup:
    """Horizontal bars: label, number, and a class for the colour, as a share of the whole."""
    items = []
    for label, number, css in rows:
        width = 100 * number / whole if whole else 0
        bar = tag(
            "span", tag("i", class_=css, style=f"width:{width:.2f}%"), class_="track", aria_hidden="true"
        )
        items.append(tag("li", tag("span", label), bar, tag("b", count(number))))
    return tag("ul", join(items), class_="bars")


def _y(number: float, top: float) -> float:
    span = math.log10(top) - math.log10(_FLOOR)
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (math.log10(top) - math.log10(max(number, _FLOOR))) / span


def _grid(top: int) -> Markup:
    lines = []
    for power in range(round(math.log10(top)) + 1):
        y = _y(10**power, top)
        lines.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", class_="grid"))
        lines.append(_text(_LEFT - 8, y + 4, count(10**power), "tick end"))
    foot = f"{_HEIGHT - _BOTTOM:.1f}"
    lines.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=foot, y2=foot, class_="base"))
    return join(lines)


def _bar(x: float, step: float, number: int, label: str, top: int) -> Markup:
    foot, head = _HEIGHT - _BOTTOM, _y(number, top)
    width = min(56.0, step * 0.72)
    middle = x + step / 2
    parts = [_text(middle, foot + 18, label, "tick")]
    if number:
        parts.append(
            tag(
                "rect",
                tag("title", f"{label}: {plural(number, 'picture')}"),
                x=f"{middle - width / 2:.1f}",
                y=f"{head:.1f}",
                width=f"{width:.1f}",
                height=f"{foot - head:.1f}",
                rx=3,
                class_="bar",
            )
        )
        parts.append(_text(middle, head - 6, count(number), "value"))
    return join(parts)


def _text(x: float, y: float, text: str, css: str) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=css)
