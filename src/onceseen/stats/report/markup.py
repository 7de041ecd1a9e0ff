"""HTML that is escaped by construction: text becomes markup only through `tag`.

Captions, names and details come from the web and are hostile input. Only `Markup` values are put into a page
as they are, and only this module makes them (`tag`, `join`, `trusted`); every other string is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from importlib import resources

_VOID = frozenset({"img", "meta", "br", "hr"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")

Attribute = str | int | float | bool | None


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


Child = str | int | None


def escape(text: str) -> Markup:
    """Escapes a text for content and attributes; control characters and lone surrogates become U+FFFD."""
    return Markup(html.escape(_CONTROL.sub("\ufffd", text), quote=True))


def trusted(text: str) -> Markup:
    """Declares a text of this package (style sheet, script) to be markup; never for data."""
    return Markup(text)


def join(children: Iterable[Child]) -> Markup:
    """Joins children, escaping what is not markup; None is left out."""
    return Markup("".join(c if isinstance(c, Markup) else escape(str(c)) for c in children if c is not None))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element.

    `class_` is `class`, `_` in other attribute names is `-`; True is a bare attribute, None is none.

    >>> tag("p", "a < b", class_="x")
    '<p class="x">a &lt; b</p>'
    """
    parts = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{escape(str(value))}"')
    opening = f"<{name}{''.join(parts)}>"
    return Markup(opening if name in _VOID else f"{opening}{join(children)}</{name}>")


def page(title: str, body: Markup) -> str:
    """A whole document: style and script inside, and a policy under which it can load nothing."""
    style, script = _asset("style.css"), _asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", trusted(style)),
    )
    content = tag("body", body, tag("script", trusted(script)))
    return "<!doctype html>\n" + tag("html", head, content, lang="en") + "\n"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
