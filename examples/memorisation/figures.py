"""Figures: rate against copies, rate against presentations, and pictures beside what models made of their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .analysis import PictureResult
from .results import Found

matplotlib.use("Agg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
matplotlib.rcParams["svg.hashsalt"] = "onceseen"  # ids of an SVG's parts: the same in, the same out
_COLOURS = {
    "A": "#b3261e",
    "B": "#1a56a8",
    "C": "#2a8a57",
    "D": "#8a5a00",
    "exact": "#7a4fa3",
    "max_copies": "#c2568f",
    "weights": "#4a7d86",
}
_LABELS = {
    "A": "A  duplicated",
    "B": "B  deduplicated, refilled",
    "C": "C  deduplicated, same epochs",
    "D": "D  deduplicated, same steps",
    "exact": "exact copies removed, refilled",
    "max_copies": "two copies kept, refilled",
    "weights": "weighted by copies^.5, refilled",
}
_MARKERS = {"A": "o", "B": "s", "C": "^", "D": "v", "exact": "D", "max_copies": "P", "weights": "X"}
_SAVE = {"dpi": 80, "bbox_inches": "tight"}


_OUTCOMES = {
    "matched": "share of generations that show the picture",
    "memorised": "share of pictures memorised",
}
_COUNTS_SHOWN = 2
_LABELLED = 0.02


def draw(found: Found, directory: Path) -> None:
    """Writes the figures of an experiment."""
    for outcome, words in _OUTCOMES.items():
        rows = found.summary[outcome]["rates"]
        rate_by_copies(rows, directory / f"{outcome}_by_copies.svg", words)
        rate_by_presentations(rows, directory / f"{outcome}_by_presentations.svg", words)
    by_key = {(r.arm, r.picture): r for r in found.results if (r.part, r.seed) == ("main", 0)}
    pairs = [
        (r, by_key["B", name]) for (arm, name), r in by_key.items() if arm == "A" and ("B", name) in by_key
    ]
    shown = []
    for copies in sorted({a.copies for a, _ in pairs}, reverse=True):
        shown += [pair for pair in pairs if pair[0].copies == copies][:_COUNTS_SHOWN]
    if shown:
        examples(shown, found.examples, found.generations, directory / "examples.png")


def rate_by_copies(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Rate of each arm against the copies in arm A, with intervals; both of `analysis.rates`."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    arms = [arm for arm in _COLOURS if any(row["arm"] == arm for row in rows)]
    for i, arm in enumerate(arms):
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["copies"])
        shift = 1.05 ** (i - (len(arms) - 1) / 2)
        x = np.array([row["copies"] for row in mine]) * shift
        _line(axes, arm, x, mine)
    axes.set_xscale("log")
    ticks = sorted({row["copies"] for row in rows})
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("copies of the picture in the duplicated set (A)")
    _finish(axes, title)
    _save(figure, path)


def rate_by_presentations(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Rate of each arm and count against how often its pictures were trained on."""
    figure, axes = plt.subplots(figsize=(7.2, 4.4))
    for arm in _COLOURS:
        mine = [row for row in rows if row["arm"] == arm]
        if mine:
            _points(axes, arm, np.array([row["presentations"] for row in mine]), mine)
    axes.set_xscale("log")
    ticks = (100, 200, 500, 1_000, 2_000, 5_000)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("times that a picture was trained on (its copies together)")
    _finish(axes, title)
    _save(figure, path)


def examples(
    shown: Sequence[tuple[PictureResult, PictureResult]],
    training: Mapping[str, NDArray[np.uint8]],
    generations: Mapping[tuple[str, str], NDArray[np.uint8]],
    path: Path,
    columns: int = 5,
) -> None:
    """Training pictures, and the first generations of their captions by two arms.

    Args:
        shown: The same picture in arm A and arm B.
        training: Pictures (32, 32, 3) by name.
        generations: (per_prompt, 32, 32, 3) by (arm, picture).
        path: PNG to write.
        columns: Generations shown of each arm.
    """
    width = 1 + 2 * columns
    figure, axes = plt.subplots(len(shown), width, figsize=(width * 0.62, len(shown) * 0.72))
    for line, pair in zip(np.atleast_2d(axes), shown, strict=True):
        cells = [training[pair[0].picture]]
        for result in pair:
            cells += list(generations[result.arm, result.picture][:columns])
        for axis, pixels in zip(line, cells, strict=True):
            axis.imshow(pixels, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        words = f"{pair[0].copies} ×"
        line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=8)
        for result, place in zip(pair, (1, 1 + columns), strict=True):
            line[place].set_title(
                f"{result.arm}: {result.matched} of {result.generations}", fontsize=7, loc="left", pad=2
            )
    figure.subplots_adjust(wspace=0.04, hspace=0.35)
    _save(figure, path)


def _line(axes: Axes, arm: str, x: NDArray[np.float64], rows: Sequence[Mapping[str, Any]]) -> None:
    y = np.array([row["mean"] for row in rows])
    low, high = (np.array([row[name] for row in rows]) for name in ("low", "high"))
    style = "-" if arm in ("A", "B") else "--"
    axes.errorbar(
        x,
        y,
        yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)],
        color=_COLOURS[arm],
        marker=_MARKERS[arm],
        linestyle=style,
        linewidth=2 if arm in ("A", "B") else 1.1,
        markersize=5,
        capsize=2,
        elinewidth=1,
        label=_LABELS[arm],
    )


def _points(axes: Axes, arm: str, x: NDArray[np.float64], rows: Sequence[Mapping[str, Any]]) -> None:
    y = np.array([row["mean"] for row in rows])
    axes.scatter(x, y, color=_COLOURS[arm], marker=_MARKERS[arm], s=42, label=_LABELS[arm], alpha=0.85)
    for row, here, rate in zip(rows, x, y, strict=True):
        if rate < _LABELLED:
            continue  # most arms' counts lie on top of each other there
        axes.annotate(
            str(row["cell"]),
            (here, rate),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
            color="#555",
        )


def _finish(axes: Axes, title: str) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(title)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _save(figure: Any, path: Path) -> None:  # noqa: ANN401 - matplotlib's figure
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None}, **_SAVE)
    plt.close(figure)
