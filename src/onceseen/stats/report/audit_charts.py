"""Charts of an audit: rate by copies, rate by least clique, distances to the nearest training picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from onceseen.stats.report.figures import NONE, count, percent, plural, share
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.parts import details, table
from onceseen.stats.report.plot import (
    FOOT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    ShareAxis,
    bar,
    chart,
    line,
    outline,
    steps,
    text,
)

Rate = Mapping[str, Any]
"""As summary.json has it: hits, tried, low, high."""

_SPACE = WIDTH - LEFT - RIGHT
_LINES = (
    ("generation_to_train", "generations", ""),
    ("train_to_train", "training pictures, to the others", "second"),
    ("held_out_to_train", "held-out pictures", "third"),
)
"""Histograms of summary.json, their names, and the class of their line."""


def rate_words(rate: Rate) -> str:
    """A rate with its interval.

    >>> rate_words({"hits": 1, "tried": 4, "low": 0.0456, "high": 0.6994})
    '25%, interval 4.6% to 69.9%'
    """
    found = share(rate["hits"], rate["tried"])
    return f"{found}, interval {percent(rate['low'])} to {percent(rate['high'])}"


def bin_words(copies: Sequence[int]) -> str:
    """A bin of copies in words.

    >>> [bin_words(b) for b in ([0, 0], [1, 1], [3, 4])]
    ['caption not in training', '1 copy (control)', '3 to 4 copies']
    """
    low, high = copies
    if high <= 1:
        return "1 copy (control)" if high else "caption not in training"
    return plural(low, "copy") if low == high else f"{count(low)} to {count(high)} copies"


def rate_by_copies(bins: Sequence[Rate]) -> Markup:
    """Share of memorised prompts by the copies of their picture in training, with 95% intervals.

    Args:
        bins: `by_copies` of summary.json.
    """
    if not bins:
        return tag("p", "No prompt has enough generations.", class_="quiet")
    axis = ShareAxis.over(max(each["high"] for each in bins))
    step = _SPACE / len(bins)
    parts = [axis.grid()]
    parts += [_rate_bar(each, LEFT + (i + 0.5) * step, step, axis) for i, each in enumerate(bins)]
    said = "; ".join(
        f"{bin_words(each['copies'])}: {count(each['hits'])} of {count(each['tried'])}, {rate_words(each)}"
        for each in bins
    )
    return join(
        [
            chart(
                parts,
                "copies in training of the prompt's picture (log scale)",
                "prompts memorised",
                f"Memorised prompts by copies. {said}",
            ),
            _rate_table("Copies", [(bin_words(each["copies"]), each) for each in bins]),
        ]
    )


def _rate_bar(rate: Rate, middle: float, step: float, axis: ShareAxis) -> Markup:
    low, high = rate["copies"]
    kind = "bar rate" if high > 1 else ("bar rate control" if high else "bar unknown")
    label = "caption unknown" if not high else (count(low) if low == high else f"{count(low)}–{count(high)}")
    width = min(56.0, step * 0.6)
    found = rate["hits"] / rate["tried"] if rate["tried"] else 0.0
    ends = [(middle, axis.y(rate[name])) for name in ("low", "high")]
    caps = [line((x - 6, y), (x + 6, y), "whisker") for x, y in ends]
    title = f"{bin_words(rate['copies'])}: {count(rate['hits'])} of {count(rate['tried'])} prompts, {rate_words(rate)}"
    return join(
        [
            bar(middle, width, axis.y(found), kind, title) if rate["hits"] else None,
            line(ends[0], ends[1], "whisker"),
            *caps,
            text(
                middle, axis.y(rate["high"]) - 7, f"{count(rate['hits'])} of {count(rate['tried'])}", "value"
            ),
            text(middle, FOOT + 18, "1 (control)" if high == 1 else label, "tick"),
        ]
    )


def rate_by_clique(curve: Sequence[Rate], asked: int) -> Markup:
    """Share of prompts that were memorised if another least clique were asked for, with 95% intervals.

    Args:
        curve: `clique_curve` of summary.json: rates with `min_clique`.
        asked: The least clique of this audit.
    """
    if not curve:
        return tag("p", "No prompt has a usable generation.", class_="quiet")
    here = next((each for each in curve if each["min_clique"] == asked), None)
    said = [f"At the {count(asked)} asked for: {rate_words(here)}."] if here else []
    said += [f"At {count(each['min_clique'])}: {rate_words(each)}." for each in (curve[0], curve[-1])]
    drawn = chart(
        _clique_curve(curve, asked),
        "generations that must be alike (least clique, log scale)",
        "prompts with such a clique that shows a training picture",
        f"Rate of memorised prompts by the least clique. {' '.join(said)}",
    )
    return join([drawn, _rate_table("Least clique", [(count(each["min_clique"]), each) for each in curve])])


def _clique_curve(curve: Sequence[Rate], asked: int) -> list[Markup]:
    sizes = [each["min_clique"] for each in curve]
    last = max(sizes[-1], asked, 2)
    axis = ShareAxis.over(max(each["high"] for each in curve))
    places = {
        size: LEFT + 20 + (_SPACE - 40) * math.log(size) / math.log(last) for size in (*sizes, asked, last)
    }
    edges = [*(places[size] for size in sizes), places[last] + 16]
    low, high = ([axis.y(each[name]) for each in curve] for name in ("low", "high"))
    rates = [axis.y(each["hits"] / each["tried"] if each["tried"] else 0.0) for each in curve]
    return [
        outline([*steps(edges, high), *reversed(steps(edges, low))], "band", closed=True),
        axis.grid(),
        outline(steps(edges, rates), "curve"),
        *(text(places[n], FOOT + 18, count(n), "tick") for n in sizes if n in _round_sizes(last)),
        _limit(places[asked], f"asked: {count(asked)}"),
    ]


def _round_sizes(last: int) -> set[int]:
    return {digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 3, 5)}


def distances(histogram: Mapping[str, Any], threshold: float) -> Markup:
    """How near the nearest training picture is to generations, to other training pictures, to held-out ones.

    Args:
        histogram: Of summary.json: `edges`, and counts, null where nothing was measured.
        threshold: The distance that counts as a match.
    """
    shown = [each for each in _LINES if histogram[each[0]] and sum(histogram[each[0]])]
    if not shown:
        return tag("p", "No distance could be measured.", class_="quiet")
    edges: list[float] = histogram["edges"]
    counts: list[list[int]] = [histogram[name] for name, _, _ in shown]
    last = max(i + 1 for numbers in counts for i, number in enumerate(numbers) if number)
    bins = min(len(edges) - 1, max(last, next(i for i, edge in enumerate(edges) if edge >= threshold)) + 1)
    names = [words for _, words, _ in shown]
    said = "; ".join(
        f"{words}: {count(sum(numbers))}, half of them under {_median(edges, numbers):.2f}"
        for words, numbers in zip(names, counts, strict=True)
    )
    rows = [
        (f"{edges[i]:.2f} to {edges[i + 1]:.2f}", *(count(numbers[i]) for numbers in counts))
        for i in range(bins)
    ]
    drawn = chart(
        _distance_lines(edges[: bins + 1], counts, [css for _, _, css in shown], threshold),
        "tiled distance to the nearest training picture",
        "share of each",
        f"Distances to the nearest training picture, matching up to {threshold:.3f}. {said}",
    )
    key = [tag("span", _swatch(css), words) for _, words, css in shown]
    numbers = table(("Distance", *names), rows, tuple(range(1, len(names) + 1)))
    return join([drawn, tag("p", join(key), class_="key"), details("As a table", numbers)])


def _distance_lines(
    edges: Sequence[float], counts: Sequence[Sequence[int]], css: Sequence[str], threshold: float
) -> list[Markup]:
    bins = len(edges) - 1
    shares = [[number / sum(numbers) for number in numbers[:bins]] for numbers in counts]
    axis = ShareAxis.over(max(max(values) for values in shares))
    places = [LEFT + _SPACE * edge / edges[-1] for edge in edges]
    every = max(1, math.ceil(bins / 8))
    lines = [
        outline(steps(places, [axis.y(v) for v in values]), f"curve {kind}")
        for values, kind in zip(shares, css, strict=True)
    ]
    ticks = [text(places[i], FOOT + 18, f"{edges[i]:.2f}", "tick") for i in range(0, bins + 1, every)]
    limit = _limit(LEFT + _SPACE * threshold / edges[-1], f"match: {threshold:.3f}")
    return [axis.grid(), *lines, *ticks, limit]


def _median(edges: Sequence[float], counts: Sequence[int]) -> float:
    """Upper edge of the bar that holds the middle one."""
    half = sum(counts) / 2
    return next(edges[i + 1] for i, below in enumerate(accumulate(counts)) if below >= half)


def _limit(x: float, words: str) -> Markup:
    side = "start" if x < WIDTH / 2 else "end"
    return join(
        [
            line((x, TOP), (x, FOOT), "limit"),
            text(x + (6 if side == "start" else -6), TOP - 8, words, f"limit-name {side}"),
        ]
    )


def _swatch(css: str) -> Markup:
    return tag(
        "svg", tag("path", d="M0 4 H30", class_=css), viewBox="0 0 30 8", class_="swatch", aria_hidden="true"
    )


def _rate_table(first: str, rows: Sequence[tuple[str, Rate]]) -> Markup:
    """The numbers of a chart of rates."""
    lines = [
        (
            name,
            count(rate["tried"]),
            count(rate["hits"]),
            share(rate["hits"], rate["tried"]),
            f"{percent(rate['low'])} to {percent(rate['high'])}" if rate["tried"] else NONE,
        )
        for name, rate in rows
    ]
    header = (first, "Prompts", "Memorised", "Rate", "95% interval")
    return details("As a table", table(header, lines, (1, 2, 3, 4)))
