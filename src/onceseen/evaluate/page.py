"""stats/evaluate.html: the figures, and every wrong drop as a pair of pictures."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from onceseen.core.layout import RunLayout
from onceseen.evaluate.measures import Rate
from onceseen.evaluate.recall import CopyRecall, TransformRecall
from onceseen.evaluate.removal import InPlace, Removal
from onceseen.evaluate.truth import Truth
from onceseen.stats.lookup import PairRow, RunRecord, VerdictRow, find_pairs
from onceseen.stats.report import shell
from onceseen.stats.report.cards import badge, copyable, facts, pair_facts, picture, stored_notes
from onceseen.stats.report.figures import NONE, count, fraction, plural
from onceseen.stats.report.markup import Markup, join, page, tag
from onceseen.stats.report.parts import section, table, tiles
from onceseen.stats.report.thumbnails import Pictures, load_thumbnails

MAX_SHOWN = 100
SIDE = 192

_SECTIONS = (
    ("figures", "Figures"),
    ("wrong", "Wrong drops"),
    ("in-place", "In place of originals"),
    ("transforms", "By transform"),
)


def render_evaluation(
    layout: RunLayout, run: RunRecord, truth: Truth, removal: Removal, copies: CopyRecall
) -> str:
    """The page as text. At most 100 wrong drops and 100 displaced originals are shown as pictures."""
    wrong, in_place = removal.wrong[:MAX_SHOWN], removal.in_place[:MAX_SHOWN]
    rows = [*wrong, *(entry.original for entry in in_place)]
    pictures = load_thumbnails(
        layout, run, {i: SIDE for row in rows for i in (row.sample_id, row.representative_id)}
    )
    evidence = find_pairs(layout, {row.evidence for row in rows if row.evidence is not None})
    name = posixpath.basename(layout.root.replace("\\", "/").rstrip("/")) or "run"
    body = [
        _figures(truth, removal, copies),
        _wrong_section(removal.wrong, wrong, evidence, truth, pictures),
        _in_place_section(removal, in_place, evidence, truth, pictures),
        _transforms(copies),
    ]
    return page(f"Onceseen evaluation: {name}", shell("Against known copies", name, _SECTIONS, join(body)))


def _figures(truth: Truth, removal: Removal, copies: CopyRecall) -> Markup:
    judged = removal.dropped - removal.decided - removal.unlabelled
    recall, ap = copies.overall.verified, copies.overall.micro_ap
    numbers = [
        (
            "Wrong drops",
            count(len(removal.wrong)),
            f"of {count(judged)} drops with labels; {_interval(len(removal.wrong), judged)}",
        ),
        (
            "Redundant removed",
            fraction(removal.macro_share),
            f"mean over {plural(removal.sources, 'source')} with copies",
        ),
        (
            "Copies found",
            fraction(recall.value),
            f"{count(recall.hits)} of {count(recall.total)} from their originals",
        ),
        ("micro-AP", fraction(ap), "one ranking of all scored pairs"),
        ("In place of originals", count(len(removal.in_place)), "originals dropped for an altered copy"),
    ]
    gaps = []
    if truth.unknown_files:
        gaps.append(f"{plural(len(truth.unknown_files), 'file')} of the manifest not in the run.")
    if truth.unlabelled:
        gaps.append(f"{plural(len(truth.unlabelled), 'sample')} of the run not in the manifest.")
    if removal.lost_sources:
        gaps.append(f"{plural(len(removal.lost_sources), 'source')} without a kept sample.")
    notes = tag("div", " ".join(gaps), class_="note") if gaps else None
    return section(
        "figures", "Figures", f"{count(len(truth.labels))} labelled samples.", tiles(numbers), notes
    )


def _interval(hits: int, total: int) -> str:
    ends = Rate(hits, total).interval
    return NONE if ends is None else f"95% interval {ends[0]:.4f} to {ends[1]:.4f}"


def _wrong_section(
    every: Sequence[VerdictRow],
    shown: Sequence[VerdictRow],
    evidence: Mapping[tuple[str, str], PairRow],
    truth: Truth,
    pictures: Pictures,
) -> Markup:
    if not every:
        return section(
            "wrong", "Wrong drops", "None: every dropped sample shares a source with the one kept for it."
        )
    lead = (
        f"{plural(len(every), 'sample')} dropped for a picture without a common source; {len(shown)} shown."
    )
    cards = [_card(row, evidence, truth, pictures) for row in shown]
    return section(
        "wrong", "Wrong drops", lead, stored_notes(pictures), tag("ul", join(cards), class_="grid pairs")
    )


def _in_place_section(
    removal: Removal,
    shown: Sequence[InPlace],
    evidence: Mapping[tuple[str, str], PairRow],
    truth: Truth,
    pictures: Pictures,
) -> Markup:
    title = "Kept in place of its original"
    same = removal.identical_in_place
    equal = f" {plural(same, 'original')} dropped for a sample of equal pixels: no fault." if same else ""
    if not removal.in_place:
        return section(
            "in-place", title, "None: no altered copy was kept while its original was dropped." + equal
        )
    rows = [(tag("code", name), count(n)) for name, n in removal.in_place_by.items()]
    cards = [_card(entry.original, evidence, truth, pictures) for entry in shown]
    body = (table(("Transform of the kept copy", "Originals dropped"), rows, (1,)), tag("h3", "Pictures"))
    lead = f"{plural(len(removal.in_place), 'original')} dropped while an altered copy was kept.{equal}"
    return section("in-place", title, lead, *body, tag("ul", join(cards), class_="grid pairs"))


def _card(
    row: VerdictRow, evidence: Mapping[tuple[str, str], PairRow], truth: Truth, pictures: Pictures
) -> Markup:
    sides = [
        tag(
            "div",
            picture(sample_id, pictures),
            tag("p", f"{words}: {truth.transform(sample_id)}", class_="side"),
            copyable(sample_id),
            facts([("source", ", ".join(sorted(truth.sources(sample_id))))]),
        )
        for sample_id, words in ((row.sample_id, "dropped"), (row.representative_id, "kept"))
    ]
    pair = evidence.get(row.evidence or ("", ""))
    numbers = pair_facts(pair) if pair is not None else facts([("score", fraction(row.score))])
    head = tag("p", badge(row.kind), class_="badges")
    return tag("li", tag("div", join(sides), class_="sides"), head, numbers, class_="card pair")


def _transforms(copies: CopyRecall) -> Markup:
    rows = [_transform_row(row) for row in (copies.overall, *copies.by_transform)]
    lead = (
        "Pairs of a copy and its original: joined (under one representative, or verified) and verified directly. "
        "Pairs that were never compared count as missed. A part is a collage or the like, which need not be found."
    )
    header = ("Transform", "Pairs", "Joined", "Verified", "95% interval", "Not compared", "micro-AP")
    return section("transforms", "Copies found, by transform", lead, table(header, rows, (1, 2, 3, 4, 5, 6)))


def _transform_row(row: TransformRecall) -> tuple[Markup | str, ...]:
    ends = row.verified.interval
    return (
        tag("span", tag("code", row.transform), None if row.whole else " part"),
        count(row.verified.total),
        fraction(row.joined.value),
        fraction(row.verified.value),
        NONE if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}",
        count(row.verified.total - row.scored),
        fraction(row.micro_ap),
    )
