"""report.html of a scan: each query beside the reference picture that it was found to be."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from onceseen.core.config import PipelineConfig
from onceseen.core.files import read_table, write_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.detect import Finding
from onceseen.stats.lookup import RunRecord, read_run
from onceseen.stats.report import shell
from onceseen.stats.report.cards import badge, copyable, coverage, facts, picture, stored_notes
from onceseen.stats.report.figures import NONE, count, fraction, plural, share
from onceseen.stats.report.markup import Markup, join, page, tag
from onceseen.stats.report.parts import section, table, tiles
from onceseen.stats.report.thumbnails import Pictures, load_thumbnails

SHOWN = 120
"""Pairs shown of each finding: some 480 pictures, about 3 MB."""

_SIDE = 160
_SECTIONS = (
    ("overview", "Overview"),
    ("duplicates", "Duplicates"),
    ("near", "Near"),
    ("splits", "Splits"),
    ("made", "How this was made"),
)
_COLUMNS = (
    *("query_id", "verdict", "reference_id", "representative_id", "copies", "kind", "cosine", "pdq_distance"),
    *("score", "coverage_query", "coverage_reference", "transform", "reference_verdict"),
)


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What the page is made of.

    Attributes:
        layout: The scan.
        reference: The run searched.
        shards: The query set.
        config: The scan's.
        summary: Content of summary.json.
    """

    layout: RunLayout
    reference: RunLayout
    shards: tuple[Shard, ...]
    config: PipelineConfig
    summary: Mapping[str, Any]


@dataclass(slots=True)
class _Shown:
    """The pairs of one finding that the page shows, and how many there are."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    total: int = 0


def write_scan_report(report: ScanReport) -> str:
    """Writes OUT/report.html, reading pictures of both sides again. It loads nothing from anywhere.

    Returns:
        Its path.
    """
    shown = {finding: _Shown() for finding in (Finding.DUPLICATE, Finding.NEAR)}
    for shard in report.shards:
        found = read_table(report.layout.findings(shard.number), columns=list(_COLUMNS))
        for finding, these in shown.items():
            chosen = found.filter(pc.equal(found["verdict"], str(finding)))
            these.total += len(chosen)
            these.rows = sorted([*these.rows, *chosen.to_pylist()], key=_order)[:SHOWN]
    every = [row for these in shown.values() for row in these.rows]
    queries = load_thumbnails(
        report.layout,
        RunRecord(report.config, report.shards, {}, {}, {}),
        {row["query_id"]: _SIDE for row in every},
    )
    wanted = {row["reference_id"]: _SIDE for row in every if row["reference_id"]}
    references = load_thumbnails(report.reference, read_run(report.reference), wanted)
    body = join(
        [
            _overview(report),
            _pairs(
                "duplicates",
                "Duplicates of a reference picture",
                "Each was compared, pixel by pixel, with the picture beside it.",
                shown[Finding.DUPLICATE],
                (queries, references),
            ),
            _pairs(
                "near",
                "Near: look at these",
                "They share something with a reference picture, or may. Say what they are in a --decisions file "
                "(query_id,reference_id,same or different), which later scans take as well.",
                shown[Finding.NEAR],
                (queries, references),
            ),
            _splits(report),
            _made(report),
        ]
    )
    name = posixpath.basename(report.layout.root.rstrip("/")) or "scan"
    sections = [s for s in _SECTIONS if s[0] != "splits" or "splits" in report.summary]
    text = page(f"Onceseen scan: {name}", shell("What the queries are", name, tuple(sections), body))
    write_bytes(report.layout.report(), text.encode("utf-8"))
    return report.layout.report()


def _order(row: Mapping[str, Any]) -> tuple[int, float, str]:
    """The most repeated in training first, then the surest."""
    return -(row["copies"] or 0), -(row["score"] or 0.0), row["query_id"]


def _overview(report: ScanReport) -> Markup:
    s = report.summary
    read = max(1, s["read"])
    numbers = [
        ("Queries", count(s["read"]), f"in {plural(len(report.shards), 'shard')}"),
        ("Duplicates", count(s["duplicate"]), share(s["duplicate"], read) + " of the queries"),
        ("Near", count(s["near"]), "for a person to look at"),
        ("Clear", count(s["clear"]), share(s["clear"], read)),
        ("Failed", count(s["failed"]), "could not be judged"),
    ]
    kinds = [(badge(kind), count(n)) for kind, n in s["duplicates_by"].items()]
    transforms = [(tag("code", name), count(n)) for name, n in s["transforms"].items()]
    return tag(
        "section",
        tiles(numbers),
        tag(
            "p",
            f"{count(s['references_found'])} reference pictures were found. read = duplicate + near + clear + failed.",
            class_="lead",
        ),
        tag(
            "div",
            table(("Evidence", "Duplicates"), kinds, (1,)) if kinds else None,
            table(("Transform", "Duplicates"), transforms, (1,)) if transforms else None,
            class_="split",
        ),
        id="overview",
        aria_label="Overview",
    )


def _pairs(anchor: str, title: str, lead: str, shown: _Shown, pictures: tuple[Pictures, Pictures]) -> Markup:
    if not shown.rows:
        return section(anchor, title, "None.")
    left = shown.total - len(shown.rows)
    more = tag("p", f"and {count(left)} more, in flagged.parquet", class_="quiet") if left else None
    cards = [_card(row, pictures) for row in shown.rows]
    notes = [stored_notes(side) for side in pictures]
    return section(anchor, title, lead, *notes, tag("ul", join(cards), class_="grid pairs"), more)


def _card(row: Mapping[str, Any], pictures: tuple[Pictures, Pictures]) -> Markup:
    ids = row["query_id"], row["reference_id"]
    state = {"keep": "reference, kept", "drop": "reference, dropped there"}.get(
        row["reference_verdict"] or ""
    )
    sides = [
        tag("div", picture(one, side), tag("p", words, class_="side"), copyable(one))
        for one, side, words in zip(ids, pictures, ("query", state or "reference"), strict=True)
        if one
    ]
    distance = row["pdq_distance"]
    numbers = facts(
        [
            ("copies in the reference", None if row["copies"] is None else count(row["copies"])),
            ("score", fraction(row["score"])),
            ("cosine", fraction(row["cosine"])),
            ("PDQ distance", NONE if distance is None else f"{distance} of 256"),
            ("transform", row["transform"]),
            ("of the query in the reference", coverage(row["coverage_query"])),
            ("of the reference in the query", coverage(row["coverage_reference"])),
        ]
    )
    head = tag("p", badge(row["kind"] or ""), class_="badges")
    return tag("li", tag("div", join(sides), class_="sides"), head, numbers, class_="card pair")


def _splits(report: ScanReport) -> Markup | None:
    rows: Sequence[Mapping[str, Any]] | None = report.summary.get("splits")
    if rows is None:
        return None
    pairs = [
        (
            *(tag("code", row[name]) for name in ("evaluation", "training")),
            *(count(row[name]) for name in ("evaluation_read", "evaluation_duplicate", "evaluation_near")),
            count(row["training_components"]),
        )
        for row in rows
    ]
    training = [
        (tag("code", split), *(count(row[n]) for n in ("kept_before", "contaminated", "kept_after")))
        for split, row in report.summary["training"].items()
    ]
    return section(
        "splits",
        "Leaks, by pair of splits",
        "Whole components leave the training side; the evaluation side loses nothing.",
        table(
            ("Evaluation", "Training", "Read", "Duplicates", "Near", "Training components"),
            pairs,
            (2, 3, 4, 5),
        )
        if pairs
        else tag("p", "No picture of the evaluation side was found in training."),
        table(("Training split", "Kept before", "Contaminated", "Kept after"), training, (1, 2, 3)),
    )


def _made(report: ScanReport) -> Markup:
    scan, verify = report.config.scan, report.config.verify
    return section(
        "made",
        "How this was made",
        "The whole configuration is in run.json.",
        facts(
            [
                ("reference", tag("code", posixpath.basename(report.reference.root))),
                ("policy", scan.policy),
                ("duplicate from score", fraction(verify.min_score)),
                ("near from score", fraction(scan.least_score)),
                ("pictures read again a query, at most", str(scan.looks if verify.local_features else 0)),
            ]
        ),
    )
