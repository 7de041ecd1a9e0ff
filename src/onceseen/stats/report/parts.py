"""Parts of a page that every section is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onceseen.core.config import PipelineConfig
from onceseen.core.config_io import config_to_mapping
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


def check(good: bool, words: str) -> Markup:
    """A sentence on whether the result can be trusted; an item of a list of class `checks`."""
    mark = tag("span", "✓" if good else "!", aria_hidden="true", class_="mark")
    spoken = tag("span", "Good: " if good else "Look at this: ", class_="spoken")
    return tag("li", mark, tag("span", spoken, words), class_="good" if good else "look")


def mapping_table(values: Mapping[str, Any]) -> Markup:
    """Names and values as they are configured, in the order of the names."""
    rows = [(tag("code", str(key)), tag("code", _plain(values[key]))) for key in sorted(values)]
    return table(("Name", "Value"), rows) if rows else tag("p", "Nothing recorded.", class_="quiet")


def configuration(config: PipelineConfig) -> Markup:
    """All sections of a configuration that a result depends on, folded out."""
    sections = config_to_mapping(config)
    del sections["runner"]  # where it ran: no result depends on it, so the page must not either
    return join([join([tag("h4", name), mapping_table(sections[name])]) for name in sections])


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value) or "(none)"
    return "(none)" if value in ("", None) else str(value)
