"""The ground of a chart as inline SVG: its area, an axis of shares, words, lines and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onceseen.stats.report.figures import percent
from onceseen.stats.report.markup import Markup, join, tag

WIDTH, HEIGHT = 760, 296
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 42, 46
FOOT = HEIGHT - BOTTOM
"""Where values of 0 are."""

_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_TICKS = 5


@dataclass(frozen=True, slots=True)
class ShareAxis:
    """A linear vertical axis from 0 to a share.

    Attributes:
        top: Share at the head of the area.
    """

    top: float

    @classmethod
    def over(cls, most: float) -> ShareAxis:
        """The smallest round axis that holds a share."""
        return cls(next((top for top in _TOPS if most <= top), 1.0))

    def y(self, value: float) -> float:
        """Where a share is."""
        return FOOT - (FOOT - TOP) * min(value, self.top) / self.top

    def grid(self) -> Markup:
        """Lines with their shares."""
        lines = []
        for i in range(1, _TICKS + 1):
            value = self.top * i / _TICKS
            lines.append(line((LEFT, self.y(value)), (WIDTH - RIGHT, self.y(value)), "grid"))
            lines.append(text(LEFT - 8, self.y(value) + 4, percent(value), "tick end"))
        return join([*lines, text(LEFT - 8, FOOT + 4, "0%", "tick end"), base()])


def base() -> Markup:
    """The line at the foot of the area."""
    return line((LEFT, FOOT), (WIDTH - RIGHT, FOOT), "base")


def text(x: float, y: float, words: str, css: str) -> Markup:
    """Words at a place."""
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", class_=css)


def line(start: tuple[float, float], end: tuple[float, float], css: str) -> Markup:
    """A straight line."""
    (x1, y1), (x2, y2) = start, end
    return tag("line", x1=f"{x1:.1f}", x2=f"{x2:.1f}", y1=f"{y1:.1f}", y2=f"{y2:.1f}", class_=css)


def bar(middle: float, width: float, head: float, css: str, title: str) -> Markup:
    """A bar from the foot up, with words on hovering."""
    return tag(
        "rect",
        tag("title", title),
        x=f"{middle - width / 2:.1f}",
        y=f"{head:.1f}",
        width=f"{width:.1f}",
        height=f"{FOOT - head:.1f}",
        rx=3,
        class_=css,
    )


def steps(edges: Sequence[float], heights: Sequence[float]) -> list[tuple[float, float]]:
    """Corners of a line that has one height between each two edges."""
    return [
        point
        for left, right, y in zip(edges, edges[1:], heights, strict=False)
        for point in ((left, y), (right, y))
    ]


def outline(points: Sequence[tuple[float, float]], css: str, *, closed: bool = False) -> Markup:
    """A line through points, or an area inside them."""
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("Z" if closed else "")
    return tag("path", d=path, class_=css)


def chart(parts: Sequence[Markup], across: str, upward: str, summary: str) -> Markup:
    """The whole chart.

    Args:
        parts: What is drawn, in order.
        across: What the horizontal axis means.
        upward: What the vertical axis means.
        summary: The chart in words, for who does not see it.
    """
    names = [
        text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, across, "axis"),
        text(LEFT, 12, upward, "axis start"),
    ]
    return tag(
        "svg",
        join([*parts, *names]),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=summary,
        class_="chart",
    )
