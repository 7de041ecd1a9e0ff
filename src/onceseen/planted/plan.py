"""What the demo plants: how many copies of which photograph, and by which transforms.

A plan is a list of `PlannedImage`, a function of the photographs' names and the config; nothing is decoded.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onceseen.planted.composites import COMPOSITES

ORIGINAL = "original"
EXACT = "exact"
RECAPTIONED = "recaptioned"
UNTOUCHED = frozenset({ORIGINAL, EXACT, RECAPTIONED})
"""Names in a manifest for the source's own bytes; every other copy has the name of a registered transform."""

_MIX: tuple[tuple[str, int], ...] = (
    ("exact", 16),
    ("recaptioned", 12),
    ("jpeg30", 4),
    ("jpeg50", 6),
    ("jpeg70", 6),
    ("jpeg90", 5),
    ("webp", 5),
    ("png", 4),
    ("resize_down", 8),
    ("resize_up", 6),
    ("crop10", 6),
    ("crop20", 4),
    ("crop30", 4),
    ("mirrored", 6),
    ("watermark", 5),
    ("logo", 3),
    ("letterbox", 5),
    ("pillarbox", 2),
)
_PROFILES: tuple[tuple[tuple[str, int], ...], ...] = (
    (("exact", 2), ("recaptioned", 1)),
    _MIX,
    tuple(pair for pair in _MIX if pair[0] not in UNTOUCHED),
    _MIX,
)
_COUNTS: tuple[tuple[int, int], ...] = (
    (40, 3),
    (32, 2),
    (24, 3),
    (16, 5),
    (12, 6),
    (8, 10),
    (6, 10),
    (4, 16),
    (3, 16),
    (2, 30),
)
_HALVES = (
    "animal-jaguar",
    "home-metro",
    "monument-fort-sumter",
    "music-america",
    "nature-camels",
    "nature-squirrel",
)


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What to plant.

    Attributes:
        seed: Chooses the sources, the transforms and the order of the samples.
        num_shards: Shards of nearly equal size.
        counts: (copies, how many sources have that many); copies include the original. Other photographs
            have one.
        halves: Names (without extension) of photographs that appear as two disjoint halves, never whole.
        blanks: Flat pictures, each of its own colour.
        blank_copies: Further exact copies of the first blank, a placeholder that many addresses give.
        pages: Pages of one template with different words.
        composites: (composite's name, how many).
        broken: Whether to add files that no decoder takes.
        failed_downloads: Rows of the sidecars without a sample.
    """

    seed: int = 0
    num_shards: int = 8
    counts: tuple[tuple[int, int], ...] = _COUNTS
    halves: tuple[str, ...] = _HALVES
    blanks: int = 16
    blank_copies: int = 3
    pages: int = 16
    composites: tuple[tuple[str, int], ...] = (("collage2", 3), ("collage4", 2), ("picture_in_picture", 2))
    broken: bool = True
    failed_downloads: int = 24

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if self.num_shards < 1:
            raise ValueError(f"num_shards: expected at least 1, got {self.num_shards}")
        for copies, sources in self.counts:
            if copies < 2 or sources < 0:
                raise ValueError(f"counts: expected at least 2 copies and 0 sources, got {(copies, sources)}")


@dataclass(frozen=True, slots=True)
class Photo:
    """A row of the licence table.

    Attributes:
        source_id: The file's name without its extension.
        file: The file's name.
        title: What the picture shows.
        author: Who took it.
        scene: Name of the subject where several photographs show it, else empty.
    """

    source_id: str
    file: str
    title: str
    author: str
    scene: str


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture to make.

    Attributes:
        sources: Photographs that it is made of: one, several for a composite, none for a drawn picture.
        transform: As in the manifest.
        source_ids: One manifest row each.
        number: Tells the pictures of one source from each other; for drawn ones, which of them it is.
    """

    sources: tuple[Photo, ...]
    transform: str
    source_ids: tuple[str, ...] = field(default=())
    number: int = 0


def read_photos(directory: Path) -> list[Photo]:
    """Read DIRECTORY/LICENSES.csv in the order of the file names.

    Raises:
        ValueError: the table or a picture that it names is missing.
    """
    table = directory / "LICENSES.csv"
    if not table.is_file():
        raise ValueError(
            f"--photos {directory}: expected a directory of photographs with a LICENSES.csv, none found"
        )
    with table.open(newline="", encoding="utf-8") as handle:
        rows = sorted(csv.DictReader(handle), key=lambda row: row["file"])
    missing = [row["file"] for row in rows if not (directory / row["file"]).is_file()]
    if missing:
        raise ValueError(
            f"--photos {directory}: {len(missing)} pictures of LICENSES.csv are missing, first {missing[0]}"
        )
    return [Photo(Path(r["file"]).stem, r["file"], r["title"], r["author"], r["scene"]) for r in rows]


def seeded(seed: int, *words: str | int) -> np.random.Generator:
    """A Generator for one purpose: the same for the same seed and words, whatever was drawn before."""
    return np.random.default_rng([seed, *(zlib.crc32(str(word).encode()) for word in words)])


def plan_images(photos: Sequence[Photo], config: DemoConfig) -> list[PlannedImage]:
    """List every picture of the demo, sources in order of name, drawn pictures last.

    Raises:
        ValueError: the config asks for more sources than there are photographs, or for unknown halves.
    """
    by_id = {photo.source_id: photo for photo in photos}
    unknown = [name for name in config.halves if name not in by_id]
    if unknown:
        raise ValueError(f"halves: expected names of photographs, got {unknown[0]!r}")
    whole = [photo for photo in photos if photo.source_id not in config.halves]
    copies = _assign_counts(whole, config)
    planned = []
    for photo in whole:
        planned.append(PlannedImage((photo,), ORIGINAL, (photo.source_id,)))
        planned.extend(_plan_copies(photo, copies[photo.source_id], config))
    for name in config.halves:
        for side in ("left_half", "right_half"):
            planned.append(PlannedImage((by_id[name],), side, (f"{name}#{side}",)))
    planned.extend(_plan_composites([p for p in whole if copies[p.source_id][0] >= 4], config))
    planned.extend(PlannedImage((), "blank", (f"blank-{i:02d}",), i) for i in range(config.blanks))
    planned.extend(PlannedImage((), "blank", ("blank-00",), 0) for _ in range(config.blank_copies))
    planned.extend(PlannedImage((), "page", (f"page-{i:02d}",), i) for i in range(config.pages))
    return planned


def _assign_counts(photos: Sequence[Photo], config: DemoConfig) -> dict[str, tuple[int, int]]:
    """Draw (copies, profile) for every photograph; those that are left over have one copy."""
    wanted = [count for count, sources in config.counts for _ in range(sources)]
    if len(wanted) > len(photos):
        raise ValueError(
            f"counts: expected at most {len(photos)} sources, the number of photographs, got {len(wanted)}"
        )
    order = seeded(config.seed, "counts").permutation(len(photos))
    assigned = {photo.source_id: (1, 0) for photo in photos}
    for rank, (count, place) in enumerate(zip(wanted, order, strict=False)):
        assigned[photos[int(place)].source_id] = (count, rank % len(_PROFILES))
    return assigned


def _plan_copies(photo: Photo, copies: tuple[int, int], config: DemoConfig) -> list[PlannedImage]:
    """The copies of one photograph beyond the original: transforms drawn by the weights of its profile."""
    count, profile = copies
    names = [name for name, _ in _PROFILES[profile]]
    weights = np.array([weight for _, weight in _PROFILES[profile]], dtype=np.float64)
    drawn = seeded(config.seed, "copies", photo.source_id).choice(names, count - 1, p=weights / weights.sum())
    return [PlannedImage((photo,), str(name), (photo.source_id,), i) for i, name in enumerate(drawn)]


def _plan_composites(photos: Sequence[Photo], config: DemoConfig) -> list[PlannedImage]:
    """Composites of photographs that have several copies anyhow; no photograph is used twice in one."""
    planned = []
    for name, number in config.composites:
        for i in range(number):
            needed = COMPOSITES[name].sources
            if needed > len(photos):
                raise ValueError(
                    f"composites: {name} needs {needed} photographs with 4 copies, got {len(photos)}"
                )
            chosen = seeded(config.seed, name, i).choice(len(photos), needed, replace=False)
            sources = tuple(photos[int(place)] for place in chosen)
            planned.append(PlannedImage(sources, name, tuple(photo.source_id for photo in sources), i))
    return planned
