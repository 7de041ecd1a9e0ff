"""Whatever is sent, the server says clearly what it thinks of it, and goes on answering."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.conftest import Planted
from detector.test_reference import copy_of
from onceseen import Reference
from onceseen.core.failures import FailureReason
from onceseen.planted.imaging import encode_jpeg
from onceseen.planted.pages import blank_picture
from onceseen.serve.app import create_app
from onceseen.serve.settings import ServeSettings

LIMIT = 100_000
ERRORS = {*map(str, FailureReason), "bad_form", "no_image", "too_large", "too_many"}
ERRORS |= {"unsupported_type", "unsupported_encoding"}
STATUSES = {200, 413, 415, 422}
TYPES = (
    "",
    "image/png",
    "image/jpeg",
    "application/octet-stream",
    "multipart/form-data; boundary=b",
    "text/html",
)
# The pictures of a function-scoped fixture are the same for all examples.
PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def client(reference: Reference) -> Iterator[TestClient]:
    with TestClient(create_app(reference, ServeSettings(max_bytes=LIMIT, max_images=4))) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(planted: Planted) -> list[bytes]:
    """Small files of several formats."""
    photo = planted.known()[0]
    made = [copy_of(photo, name) for name in ("jpeg30", "webp", "jpeg50")]
    return [encode_jpeg(blank_picture(1), 80).data, *(data for data in made if len(data) < LIMIT)]


def said(client: TestClient, path: str, body: bytes, kind: str) -> str:
    """Sends a body; what the answer is, after a look at its form."""
    headers = {"content-type": kind} if kind else {}
    answer = client.post(path, content=body, headers=headers)
    content = answer.json()
    assert answer.status_code in STATUSES, content
    assert client.get("/healthz").json()["status"] == "ok"
    if answer.status_code == 200:
        checks = content["checks"] if path.endswith("batch") else [content]
        assert {check["finding"] for check in checks} <= {"duplicate", "near", "clear", "failed"}
        return "answered"
    assert content["error"] in ERRORS
    assert content["detail"]
    return str(content["error"])


@PROPERTY
@given(st.binary(max_size=300), st.sampled_from(TYPES), st.sampled_from(("/check", "/check/batch")))
def test_random_bytes(client: TestClient, body: bytes, kind: str, path: str) -> None:
    assert said(client, path, body, kind) != "answered"


@PROPERTY
@given(st.data())
def test_damaged_pictures(client: TestClient, pictures: list[bytes], data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(pictures)))
    for _ in range(data.draw(st.integers(0, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    said(client, "/check", bytes(body[: cut if cut % 2 else len(body)]), "")


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


@PROPERTY
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 16), st.integers(0, 6))
def test_promises_of_pixels(client: TestClient, width: int, height: int, depth: int, colour: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(bytes(50_000))
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    error = said(client, "/check", png, "image/png")
    if width * height > 200_000_000:
        assert error in ("decompression_bomb", "decode_error", "truncated_image")


@PROPERTY
@given(
    st.lists(
        st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.booleans()), min_size=0, max_size=6
    ),
    st.booleans(),
)
def test_forms_of_all_kinds(
    client: TestClient, pictures: list[bytes], parts: list[tuple[bytes, bytes, bool]], whole: bool
) -> None:
    body = b""
    for head, data, good in parts:
        shown = b'content-disposition: form-data; name="images"; filename="a.jpg"' if good else head
        body += b"--b\r\n" + shown + b"\r\n\r\n" + (pictures[0] if good else data) + b"\r\n"
    said(client, "/check/batch", body + (b"--b--\r\n" if whole else b""), "multipart/form-data; boundary=b")


@PROPERTY
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60),
    st.dictionaries(
        st.from_regex(r"[a-z-]{1,20}", fullmatch=True),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200),
        max_size=5,
    ),
)
def test_headers_of_all_kinds(client: TestClient, kind: str, headers: dict[str, str]) -> None:
    kept = {name: value for name, value in headers.items() if name not in ("content-length", "host")}
    answer = client.post("/check", content=b"no picture", headers={**kept, "content-type": kind})
    assert answer.status_code in (400, *STATUSES)
    assert set(answer.json()) == {"error", "detail"}
