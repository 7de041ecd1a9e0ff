"""The API as one page, out of its OpenAPI description: no script, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "pre{background:#8881;padding:.75rem;overflow:auto;font-size:.85rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.25rem .5rem;text-align:left;"
    "vertical-align:top}:root{color-scheme:light dark}"
)


def api_page(description: Mapping[str, Any]) -> str:
    """The page.

    Args:
        description: The app's OpenAPI description.
    """
    info = description["info"]
    body = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])}</p>",
    ]
    body.append("<p>The same for programs: <a href='openapi.json'>openapi.json</a></p>")
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            body += _operation(f"{method.upper()} {path}", operation)
    body.append("<h2>Schemas</h2>")
    for name, schema in sorted(description.get("components", {}).get("schemas", {}).items()):
        body.append(
            f"<h3 id='{escape(name)}'>{escape(name)}</h3><p>{escape(schema.get('description', ''))}</p>"
        )
        body += _fields(schema)
    head = f"<meta charset=utf-8><title>{escape(info['title'])}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>"


def _operation(name: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>{escape(name)}</h2><p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
    if "requestBody" in operation:
        types = ", ".join(operation["requestBody"]["content"])
        yield f"<p>Body: {escape(types)}</p>"
    yield "<table><tr><th>Status<th>Meaning<th>Body</tr>"
    for status, response in operation["responses"].items():
        kinds = " ".join(_type(c.get("schema", {})) for c in response.get("content", {}).values())
        yield f"<tr><td>{escape(status)}<td>{escape(response['description'])}<td>{kinds}</tr>"
    yield "</table>"


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "<table><tr><th>Field<th>Type<th>Meaning</tr>"
    for name, field in schema.get("properties", {}).items():
        yield f"<tr><td>{escape(name)}<td>{_type(field)}<td>{escape(field.get('description', ''))}</tr>"
    yield "</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words; a named schema as a link."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return escape(" | ".join(map(str, schema["enum"])))
    if "const" in schema:
        return escape(json.dumps(schema["const"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return escape(str(schema.get("type", "")))
