"""What a duplicated training set holds: which picture how often, and which copies are exact.

The main plan: 12 pictures at each of 2, 5, 10, 20 and 50 copies, 36 once, 120 others: 1,200 rows. From seed to seed
the pictures move on by one group, so that over eight seeds each picture would be in each of the eight groups of 12.
Of the copies of a picture half have its very bytes; the others are encoded again or slightly resized by turns. All have
its caption.

The plan of variants, for crops and captions at one count: 48 pictures, 12 in each of {whole, cropped} x {one caption,
a caption a copy}, 20 copies each, 240 others. At 10 copies and 720 others hardly any picture came back, in any cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onceseen.planted.imaging import encode_jpeg, scale_by
from onceseen.planted.shards import PlantedSample

from .pictures import Picture, Pictures, order

ROWS = 1_200
GROUP = 12
GROUPS = (50, 20, 10, 5, 2, 1, 1, 1)
"""Copies of the pictures in each group of 12."""

OTHERS = ROWS - GROUP * sum(GROUPS)
VARIANT_COUNT = 20
VARIANTS = ("whole, one caption", "whole, captions vary", "cropped, one caption", "cropped, captions vary")
_SHARD = 300
_WORDS = (
    "a photograph of {}",
    "{} in full",
    "picture: {}",
    "view of {}",
    "{}, original",
    "stock photo {}",
    "{} hd",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a training set.

    Attributes:
        picture: Name of the picture that it shows.
        caption: Its caption.
        copy: `original`, `exact`, `jpeg`, `resized` or `crop`.
        data: Its file.
    """

    picture: str
    caption: str
    copy: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A duplicated training set.

    Attributes:
        rows: Shuffled.
        copies: Of each audited picture.
        cells: Audited pictures by group: the count as text, or the variant.
        fresh: Pictures that are not in it, for refilling.
    """

    rows: tuple[Row, ...]
    copies: dict[str, int]
    cells: dict[str, str]
    fresh: tuple[Picture, ...]

    def shards(self) -> list[list[Row]]:
        """The rows by shard."""
        return [list(self.rows[i : i + _SHARD]) for i in range(0, len(self.rows), _SHARD)]


def main_plan(
    pictures: Pictures, seed: int, groups: Sequence[int] = GROUPS, group: int = GROUP, others: int = OTHERS
) -> Plan:
    """Pictures at different counts."""
    counts = copies_of(pictures, seed, groups, group)
    rows = [
        Row(picture.name, picture.caption, how, data)
        for picture in pictures.audited
        if picture.name in counts
        for how, data in _copies(picture, counts[picture.name])
    ]
    cells = {name: str(count) for name, count in counts.items()}
    return _filled(pictures, rows, counts, cells, others, seed)


def copies_of(
    pictures: Pictures, seed: int, groups: Sequence[int] = GROUPS, group: int = GROUP
) -> dict[str, int]:
    """Copies of each audited picture that takes part: groups of pictures move on by one from seed to seed."""
    chosen = pictures.audited[: group * len(groups)]
    return {p.name: groups[(i // group + seed) % len(groups)] for i, p in enumerate(chosen)}


def variants_plan(pictures: Pictures, seed: int) -> Plan:
    """Pictures at one count, whole or cropped, under one caption or several."""
    chosen = pictures.audited[: GROUP * len(VARIANTS)]
    cells = {p.name: VARIANTS[(i // GROUP + seed) % len(VARIANTS)] for i, p in enumerate(chosen)}
    rows = []
    for picture in chosen:
        cropped, varied = cells[picture.name].startswith("cropped"), cells[picture.name].endswith("vary")
        made = _crops(picture, VARIANT_COUNT) if cropped else _copies(picture, VARIANT_COUNT)
        for i, (how, data) in enumerate(made):
            caption = recaption(picture.caption, i) if varied else picture.caption
            rows.append(Row(picture.name, caption, how, data))
    counts = {picture.name: VARIANT_COUNT for picture in chosen}
    return _filled(pictures, rows, counts, cells, ROWS - len(rows), seed)


def recaption(caption: str, number: int) -> str:
    """Another caption of the same picture; the first is its own."""
    if number == 0:
        return caption
    words = _WORDS[(number - 1) % len(_WORDS)].format(caption)
    return words if number <= len(_WORDS) else f"{words} {number}"


def samples(rows: Sequence[Row]) -> list[PlantedSample]:
    """Rows as `planted.shards` writes them."""
    return [
        PlantedSample(row.caption, f"https://pictures.example/{row.picture}/{i}.jpg", row.data)
        for i, row in enumerate(rows)
    ]


def _filled(
    pictures: Pictures, rows: list[Row], counts: dict[str, int], cells: dict[str, str], others: int, seed: int
) -> Plan:
    dice = np.random.default_rng(seed)
    pool = [pictures.others[i] for i in dice.permutation(len(pictures.others))]
    rows = rows + [Row(p.name, p.caption, "original", p.data) for p in pool[:others]]
    return Plan(tuple(rows[i] for i in dice.permutation(len(rows))), counts, cells, tuple(pool[others:]))


def _copies(picture: Picture, count: int) -> list[tuple[str, bytes]]:
    """The original, exact copies up to half of all, then encoded again and resized by turns."""
    made = [("original", picture.data)]
    for i in range(1, count):
        if i % 2 == 0:
            made.append(("exact", picture.data))
        elif i % 4 == 1:
            made.append(("jpeg", encode_jpeg(picture.rgb, 60 + i * 7 % 33).data))
        else:
            made.append(("resized", encode_jpeg(scale_by(picture.rgb, 0.7 + i * 7 % 29 / 100), 92).data))
    return made


def _crops(picture: Picture, count: int) -> list[tuple[str, bytes]]:
    """The original, then crops that leave out 4 to 15 % of each side at places of their own."""
    height, width = picture.rgb.shape[:2]
    made = [("original", picture.data)]
    for i in range(1, count):
        seed = int.from_bytes(order(f"{picture.name} crop {i}")[:4], "big")
        dice = np.random.default_rng(seed)
        share = dice.uniform(0.85, 0.96)
        h, w = round(height * share), round(width * share)
        y, x = dice.integers(0, height - h + 1), dice.integers(0, width - w + 1)
        made.append(("crop", encode_jpeg(picture.rgb[y : y + h, x : x + w], 92).data))
    return made
