"""Parts of a page that every section is made of."""

from __future__ import annotations

from collections.abc import Sequence

from onceseen.stats.report.markup import Markup, join, tag


def section(anchor: str, title: str, lead: str | Markup, *body: Markup | None) -> Markup:
    """A titled section with a sentence on what it shows."""
    heading = tag("h2", title, id=f"{anchor}-title")
    return tag(
        "section", heading, tag("p", lead, class_="lead"), *body, id=anchor, aria_labelledby=f"{anchor}-title"
    )


def tiles(rows: Sequence[tuple[str, str, str]]) -> Markup:
    """Big numbers: label, number, and a line below."""
    items = [
        tag("div", tag("dt", label), tag("dd", number), tag("small", below)) for label, number, below in rows
    ]
    return tag("dl", join(items), class_="tiles")


def details(title: str, *body: Markup) -> Markup:
    """Something folded away."""
    return tag("details", tag("summary", title), *body)


def table(
    header: Sequence[str], rows: Sequence[Sequence[str | Markup | None]], numeric: Sequence[int] = ()
) -> Markup:
    """A table; `numeric` columns are set to the right."""
    css = ["num" if i in numeric else None for i in range(len(header))]
    head = tag(
        "tr", join([tag("th", name, scope="col", class_=c) for name, c in zip(header, css, strict=True)])
    )
    lines = [tag("tr", join([tag("td", v, class_=c) for v, c in zip(row, css, strict=True)])) for row in rows]
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", join(lines))), class_="scroll", tabindex="0"
    )
