"""A request's body as pictures, held in memory only and within limits of bytes and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from onceseen.serve.problems import Problem
from onceseen.serve.settings import ServeSettings

_FORM = "multipart/form-data"
_RAW = ("image/", "application/octet-stream", "application/dicom")
_HEADER_ROOM = 1_024
"""Bytes of a part's headers and boundary that do not count as the picture's."""


class Held:
    """Bytes of bodies that are in memory, over all requests; used on one event loop."""

    def __init__(self, limit: int) -> None:
        """Starts empty."""
        self._limit = limit
        self._bytes = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's share: a function that takes so many bytes more, given back when the block ends.

        Raises:
            Problem: 429, from that function, where there is no room.
        """
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self._bytes + count > self._limit:
                headers = {"retry-after": "1", "connection": "close"}
                raise Problem(429, "busy", "other requests' pictures fill the memory for them", headers)
            mine += count
            self._bytes += count

        try:
            yield take
        finally:
            self._bytes -= mine


async def read_pictures(
    request: Request, settings: ServeSettings, count: int, take: Callable[[int], None]
) -> list[bytes]:
    """The pictures of a request: its raw body, or the parts of a form that are files.

    Args:
        request: Unread.
        settings: Bytes and time.
        count: Pictures at most.
        take: Called with the bytes that each piece of the body takes; see `Held`.

    Raises:
        Problem: 408 slow, 413 too large, 415 another type, 422 no picture or a broken form, 429 no room.
    """
    limit = settings.max_bytes
    kind, options = _content_type(request)
    if kind != _FORM and count > 1:
        raise Problem(415, "unsupported_type", f"the body is {kind or 'of no type'}; expected {_FORM}")
    if kind not in ("", _FORM) and not kind.startswith(_RAW):
        raise Problem(415, "unsupported_type", f"the body is {kind}; expected image/*, {_FORM} or no type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_encoding", "the body is compressed; send it as it is")
    whole = min((limit + _HEADER_ROOM) * count, settings.max_form_bytes) if kind == _FORM else limit
    body = await _read(request, whole, settings.body_timeout_s, take)
    if kind != _FORM:
        return [body]
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Problem(422, "bad_form", f"{_FORM} without a boundary")
    return _files(body, boundary, limit, count)


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    return kind.decode("latin-1").lower(), options


async def _read(request: Request, limit: int, timeout_s: float, take: Callable[[int], None]) -> bytes:
    """The body, at most `limit` bytes of it, in time."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise _too_large(limit)
                take(len(chunk))
                body += chunk
    except TimeoutError as error:
        raise Problem(
            408, "slow_body", f"the body took more than {timeout_s:g} s", {"connection": "close"}
        ) from error
    except ClientDisconnect as error:
        raise Problem(400, "disconnected", "the client left before the body was complete") from error
    return bytes(body)


def _too_large(limit: int) -> Problem:
    # what is left of the body is not read, so the connection cannot be used again
    return Problem(413, "too_large", f"the body is over {limit:,} bytes", {"connection": "close"})


class _Parts:
    """Collects the parts of a form that have a file's name, or an image's type."""

    def __init__(self, count: int) -> None:
        self.files: list[bytearray] = []
        self._count = count
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._wanted = False

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._more,
            "on_header_end": self._header,
            "on_headers_finished": self._decide,
            "on_part_data": self._data,
        }

    def _begin(self) -> None:
        self._headers, self._wanted = {}, False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _decide(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b"").decode("latin-1"))
        kind = self._headers.get(b"content-type", b"").lower()
        self._wanted = b"filename" in options or kind.startswith(b"image/")
        if self._wanted:
            if len(self.files) == self._count:
                raise Problem(413, "too_many", f"the form holds more than {self._count} pictures")
            self.files.append(bytearray())

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self.files[-1] += data[start:end]


def _files(body: bytes, boundary: bytes, limit: int, count: int) -> list[bytes]:
    parts = _Parts(count)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem(422, "bad_form", f"the form is broken: {error}") from error
    if not parts.files:
        raise Problem(422, "no_image", "the form holds no file; send a picture as a part with a filename")
    if max(map(len, parts.files)) > limit:
        raise _too_large(limit)
    return [bytes(file) for file in parts.files]
