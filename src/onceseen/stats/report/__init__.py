"""report.html: one file that a person opens from disk to see what a run found, and whether to trust it."""

from __future__ import annotations

import posixpath

from onceseen.core.files import write_bytes
from onceseen.core.layout import RunLayout
from onceseen.stats.lookup import read_run, require_verdicts
from onceseen.stats.report import sections
from onceseen.stats.report.cards import icons
from onceseen.stats.report.gather import ReportData, gather
from onceseen.stats.report.groups import groups_section
from onceseen.stats.report.markup import Markup, join, page, tag
from onceseen.stats.report.thumbnails import Pictures, load_thumbnails

__all__ = ["render", "write_report"]

REPRESENTATIVE_SIDE = 192
MEMBER_SIDES = ((160, 160), (400, 144), (10**9, 120))
"""Longest side of the other pictures by how many there are, so that the page stays under about 3 MB."""

_SECTIONS = (
    ("overview", "Overview"),
    ("copies", "Copies"),
    ("groups", "Groups"),
    ("near", "Closest calls"),
    ("captions", "Captions"),
    ("failures", "Failures"),
    ("provenance", "Provenance"),
)


def write_report(layout: RunLayout) -> str:
    """Writes RUN/report.html from the tables of a finished run, reading pictures from the shards again.

    The page loads nothing from anywhere, and depends on the run's tables and sources alone. At most 50 groups
    of 12 members are shown: some 700 pictures, decoded one at a time.

    Returns:
        The path of the report.

    Raises:
        ValueError: If RUN is not a finished run.
    """
    run = read_run(layout)
    require_verdicts(layout, run)
    data = gather(layout, run)
    pictures = load_thumbnails(layout, run, wanted_sides(data))
    path = layout.report()
    write_bytes(path, render(layout, data, pictures).encode("utf-8"))
    return path


def wanted_sides(data: ReportData) -> dict[str, int]:
    """Samples that the page shows, with the longest side of their thumbnails."""
    heads = [shown.group.representative.sample_id for shown in data.groups]
    others = [row.sample_id for shown in data.groups for row in shown.shown]
    others += [sample_id for near in (*data.contained, *data.doubtful) for sample_id in near.pair.ids]
    side = next(side for most, side in MEMBER_SIDES if len(set(others)) <= most)
    return {**dict.fromkeys(others, side), **dict.fromkeys(heads, REPRESENTATIVE_SIDE)}


def render(layout: RunLayout, data: ReportData, pictures: Pictures) -> str:
    """The page as text; a function of its arguments."""
    name = posixpath.basename(layout.root.replace("\\", "/").rstrip("/")) or "run"
    body = [
        sections.overview(data),
        sections.copies_section(data),
        groups_section(data, pictures),
        sections.near_section(data, pictures),
        sections.captions_section(data),
        sections.failures_section(data),
        sections.provenance_section(data),
    ]
    return page(f"Onceseen: {name}", shell("What the run found", name, _SECTIONS, join(body)))


def shell(title: str, name: str, anchors: tuple[tuple[str, str], ...], body: Markup) -> Markup:
    """Header with the way to each section, the sections, and where to read on."""
    links = [tag("a", words, href=f"#{anchor}") for anchor, words in anchors]
    header = tag(
        "header",
        tag("p", "Onceseen", class_="brand"),
        tag("h1", title),
        tag("p", "Run ", tag("code", name), class_="quiet"),
        tag("nav", join(links), aria_label="Sections"),
    )
    skip = tag("a", "Skip to the numbers", href="#main", class_="skip")
    said = tag("p", "", id="said", role="status", class_="spoken")
    return join([skip, icons(), header, tag("main", body, id="main"), said])
