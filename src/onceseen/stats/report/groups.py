"""The biggest groups as pictures: what was kept, what was dropped for it, and on what evidence."""

from __future__ import annotations

from collections.abc import Sequence

from onceseen.stats.lookup import VerdictRow
from onceseen.stats.report.cards import copyable, facts, kept_badge, member_card, picture, stored_notes
from onceseen.stats.report.figures import count, plural
from onceseen.stats.report.gather import MAX_GROUPS, ReportData, ShownGroup
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.parts import details, section
from onceseen.stats.report.thumbnails import Pictures

MAX_REST_IDS = 200


def groups_section(data: ReportData, pictures: Pictures) -> Markup:
    """The biggest groups."""
    if not data.groups:
        return section("groups", "Largest groups", "No picture occurs twice.")
    total = sum(n for copies, n in data.summary["copies_histogram"].items() if int(copies) >= 2)
    shown = len(data.groups)
    which = f"All {shown}" if shown == total else f"The {min(shown, MAX_GROUPS)} largest of {count(total)}"
    lead = (
        f"{which} groups of two or more. Each dropped picture was compared with the kept one directly; those "
        "with the weakest evidence come first, since these are the ones to check."
    )
    cards = [_group(i, shown_group, data, pictures) for i, shown_group in enumerate(data.groups, 1)]
    return section("groups", "Largest groups", lead, stored_notes(pictures), join(cards))


def _group(number: int, shown: ShownGroup, data: ReportData, pictures: Pictures) -> Markup:
    head = shown.group.representative
    wider = head.component_size > head.copies
    known = data.copies.get(head.sample_id, {})
    caption = known.get("caption") or ""
    about = facts(
        [
            ("captions", _distinct(known.get("distinct_captions"))),
            ("domains", _distinct(known.get("url_domains"))),
            ("component", plural(head.component_size, "sample") if wider else None),
        ]
    )
    kept = tag(
        "div",
        picture(head.sample_id, pictures),
        tag("p", kept_badge(), class_="badges"),
        copyable(head.sample_id),
        tag("p", tag("bdi", caption), class_="legend", title=caption) if caption else None,
        about,
        class_="card representative",
    )
    members = [member_card(row, data.evidence.get(row.evidence or ("", "")), pictures) for row in shown.shown]
    rest = _id_list(f"+{count(len(shown.rest))} more", shown.rest)
    identical = _id_list(f"{plural(len(shown.identical), 'sample')} with identical bytes", shown.identical)
    grid = tag("ul", join(members), class_="grid") if members else None
    title = tag("h3", f"{plural(head.copies, 'copy')}", tag("span", f"group {number}", class_="quiet"))
    body = tag("div", kept, tag("div", grid, rest, identical), class_="group-body")
    return tag("article", title, body, class_="group" if members else "group compact")


def _distinct(number: int | None) -> str | None:
    return f"{count(number)} distinct" if number else None


def _id_list(title: str, rows: Sequence[VerdictRow]) -> Markup | None:
    """Ids folded away; none where there are none."""
    if not rows:
        return None
    ids = [tag("li", copyable(row.sample_id)) for row in rows[:MAX_REST_IDS]]
    over = len(rows) - MAX_REST_IDS
    more = tag("li", f"and {count(over)} more, in verdicts/") if over > 0 else None
    return details(title, tag("ul", join(ids), more, class_="ids"))
