"""The server: right answers, clear errors, nothing kept; one test over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from detector.conftest import Planted
from detector.test_reference import copy_of
from onceseen import Check, Reference
from onceseen.cli import main
from onceseen.detect import Finding
from onceseen.reference import SourceUnreachableError
from onceseen.serve.app import create_app
from onceseen.serve.batches import Batcher
from onceseen.serve.server import make_server
from onceseen.serve.settings import ServeSettings

SETTINGS = ServeSettings(max_bytes=2_000_000, max_images=4, body_timeout_s=1.0)


@pytest.fixture(scope="module")
def client(reference: Reference) -> Iterator[TestClient]:
    with TestClient(create_app(reference, SETTINGS)) as opened:
        yield opened


def _forms(pictures: Sequence[bytes], name: str = "images") -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(name, (f"{k}.jpg", picture, "image/jpeg")) for k, picture in enumerate(pictures)]


def _metric(client: TestClient, line: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(found.rsplit(" ", 1)[1]) for found in lines if found.startswith(line))


def test_answers_are_those_of_reference(planted: Planted, reference: Reference, client: TestClient) -> None:
    queries = [copy_of(planted.known()[1], "crop10"), planted.unknown()[0].read_bytes()]
    expected = [check.to_json() for check in reference.check(queries)]
    for query, answer in zip(queries, expected, strict=True):
        for sent in (
            client.post("/check", content=query),
            client.post("/check", content=query, headers={"content-type": "image/jpeg"}),
            client.post("/check", files=_forms([query], "image")),
        ):
            assert (sent.status_code, sent.json()) == (200, answer)
    several = client.post("/check/batch", files=_forms([*queries, b"broken"]))
    assert several.status_code == 200
    *good, broken = several.json()["checks"]
    assert good == expected
    assert (broken["finding"], broken["reason"]) == ("failed", "unknown_format")
    assert {answer["finding"] for answer in expected} == {"duplicate", "clear"}


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"", {}, 422, "empty_image"),
        (b"no picture", {}, 415, "unknown_format"),
        (b"{}", {"content-type": "application/json"}, 415, "unsupported_type"),
        (b"x", {"content-type": "image/png", "content-encoding": "gzip"}, 415, "unsupported_encoding"),
        (b"x" * 2_000_001, {}, 413, "too_large"),
        (_png(20_000, 20_000), {}, 413, "decompression_bomb"),
        (_png(300, 200)[:-40], {}, 422, "truncated_image"),
        (b"x", {"content-type": "multipart/form-data"}, 422, "bad_form"),
        (b"x", {"content-type": "multipart/form-data; boundary=b"}, 422, "bad_form"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(
    client: TestClient, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    answer = client.post("/check", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "detail"}


def test_forms_are_counted_and_measured(client: TestClient) -> None:
    assert client.post("/check", files=_forms([b"1", b"2"])).json()["error"] == "too_many"
    assert client.post("/check/batch", files=_forms([b"1"] * 5)).json()["error"] == "too_many"
    assert client.post("/check/batch", files=_forms([b"1" * 2_000_001, b"2"])).status_code == 413
    assert client.post("/check/batch", content=b"x").json()["error"] == "unsupported_type"
    assert client.post("/check", files={"text": (None, b"no file")}).json()["error"] == "no_image"
    assert client.get("/check").json()["error"] == "method_not_allowed"
    assert client.get("/nothing").json()["error"] == "not_found"


def test_the_rest_of_the_api(client: TestClient, reference: Reference) -> None:
    health = client.get("/healthz").json()
    assert (health["status"], health["samples"]) == ("ok", len(reference))
    description = client.get("/openapi.json").json()
    assert {"/check", "/check/batch", "/healthz", "/metrics"} == set(description["paths"])
    operation = description["paths"]["/check"]["post"]
    assert set(operation["requestBody"]["content"]) >= {"image/*", "multipart/form-data"}
    assert {"200", "413", "415", "422", "429", "504"} <= set(operation["responses"])
    page = client.get("/docs").text
    assert "CheckAnswer" in page
    assert "coverage_query" in page
    assert "http" not in page.replace("http://json-schema", ""), "no address, so no network"
    before = _metric(client, 'onceseen_requests_total{endpoint="/check",status="415"}')
    client.post("/check", content=b"no picture")
    assert _metric(client, 'onceseen_requests_total{endpoint="/check",status="415"}') == before + 1
    assert _metric(client, "onceseen_reference_samples") == len(reference)


def test_a_token_guards_all_but_health_and_docs(reference: Reference) -> None:
    with TestClient(create_app(reference, replace(SETTINGS, token="s3cret"))) as guarded:  # noqa: S106
        for path in ("/healthz", "/docs", "/openapi.json"):
            assert guarded.get(path).status_code == 200
        for given in ({}, {"authorization": "Bearer s3cre"}, {"authorization": "Basic s3cret"}):
            assert guarded.get("/metrics", headers=given).status_code == 401
            refused = guarded.post("/check", content=b"x", headers=given)
            assert (refused.status_code, refused.json()["error"]) == (401, "unauthorized")
        right = {"authorization": "Bearer s3cret"}
        assert guarded.post("/check", content=b"x", headers=right).status_code == 415


def test_a_public_address_needs_a_token() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        with pytest.raises(ValueError, match="token"):
            ServeSettings(host=host)
        ServeSettings(host=host, token="t")  # noqa: S106
        ServeSettings(host=host, insecure=True)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        ServeSettings(host=host)
    for wrong in (
        {"queue": 0},
        {"held_bytes": 5},
        {"timeout_s": 0},
        {"port": 70_000},
        {"token": "a b"},
        {"window_s": 2},
    ):
        with pytest.raises(ValueError, match="expected"):
            ServeSettings(**wrong)  # type: ignore[arg-type]


def test_wrong_usage_is_one_line(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONCESEEN_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for flags, expected in (
            (("--reference", str(tmp_path)), "run.json"),
            (("--reference", str(planted.run), "--host", "0.0.0.0"), "--insecure"),
            (("--reference", str(planted.run), "--token-file", str(tmp_path / "no")), "cannot be read"),
            (
                ("--reference", str(planted.run), "--port", str(taken.getsockname()[1])),
                "cannot be listened on",
            ),
        ):
            assert main(["serve", *flags, "--quiet"]) == 2
            (line,) = [text for text in capsys.readouterr().err.splitlines() if "onceseen serve:" in text]
            assert expected in line


class _Slow:
    """A reference whose answers wait until they are let go; the limits are the subject here, not the answers."""

    config = SETTINGS

    def __init__(self, real: Reference) -> None:
        self._real = real
        self.config = real.config  # type: ignore[assignment]
        self.go = threading.Event()
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return len(self._real)

    def warm_up(self) -> None:
        self._real.warm_up()

    def check(self, pictures: Sequence[bytes]) -> list[Check]:
        self.sizes.append(len(pictures))
        self.go.wait(10)
        if b"unreachable" in pictures:
            raise SourceUnreachableError("a.tar cannot be read; set verify.local_features=false")
        if b"bug" in pictures:
            raise RuntimeError("a bug")
        return [Check(Finding.CLEAR)] * len(pictures)


def test_requests_are_batched_bounded_and_timed(reference: Reference) -> None:
    slow = _Slow(reference)
    settings = replace(SETTINGS, queue=6, workers=1, batch=4, timeout_s=0.8)
    with TestClient(create_app(slow, settings)) as client, ThreadPoolExecutor(8) as pool:  # type: ignore[arg-type]
        requests = [pool.submit(client.post, "/check", content=b"x") for _ in range(6)]
        deadline = time.monotonic() + 5
        while _metric(client, "onceseen_requests_open ") < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = client.post("/check", content=b"x")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        answers = [request.result() for request in requests]
        assert {a.status_code for a in answers} == {504}
        slow.go.set()
        assert client.post("/check", content=b"x").json()["finding"] == "clear"
        assert max(slow.sizes) > 1, "requests were checked together"
        broken = {"unreachable": (503, "source_unreachable"), "bug": (500, "internal")}
        for body, (status, error) in broken.items():
            answer = client.post("/check", content=body.encode())
            assert (answer.status_code, answer.json()["error"]) == (status, error)
        together = [pool.submit(client.post, "/check", content=b) for b in (b"bug", b"x", b"unreachable")]
        assert [t.result().status_code for t in together] == [500, 200, 503], "one that fails fails alone"
        assert _metric(client, "onceseen_requests_open ") == 0


def test_bodies_in_memory_are_bounded_over_all_requests(reference: Reference) -> None:
    slow = _Slow(reference)
    settings = replace(SETTINGS, max_bytes=2_000, max_form_bytes=3_000, held_bytes=5_000, timeout_s=5)
    with TestClient(create_app(slow, settings)) as client, ThreadPoolExecutor(4) as pool:  # type: ignore[arg-type]
        held = [pool.submit(client.post, "/check", content=b"x" * 2_000) for _ in range(2)]
        deadline = time.monotonic() + 5
        while sum(slow.sizes) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = client.post("/check", content=b"x" * 2_000)
        assert (refused.status_code, refused.json()["error"]) == (429, "busy")
        slow.go.set()
        assert [request.result().status_code for request in held] == [200, 200]
        assert client.post("/check", content=b"x" * 2_000).status_code == 200, "they are given back"
        form = client.post("/check/batch", files=_forms([b"1" * 1_500, b"2" * 1_500]))
        assert (form.status_code, form.json()["error"]) == (413, "too_large")


def test_a_picture_whose_check_raises_fails_alone() -> None:
    def check(pictures: Sequence[bytes]) -> list[Check]:
        if b"bad" in pictures:
            raise RuntimeError("bad")
        return [Check(Finding.CLEAR)] * len(pictures)

    async def run() -> list[Any]:
        sizes: list[int] = []
        batcher = Batcher(check, 8, 0.05, 1, sizes.append)
        batcher.start()
        found = await asyncio.gather(
            *(batcher.submit([picture]) for picture in (b"a", b"bad", b"b")), return_exceptions=True
        )
        await batcher.stop()
        return [*found, sizes]

    first, bad, last, sizes = asyncio.run(run())
    assert first == last == [Check(Finding.CLEAR)]
    assert isinstance(bad, RuntimeError)
    assert sizes == [3]


def test_queries_are_kept_only_where_it_was_asked_for(
    planted: Planted, reference: Reference, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query = copy_of(planted.known()[0], "jpeg50")
    with caplog.at_level(logging.DEBUG):
        with TestClient(create_app(reference, SETTINGS)) as client:
            client.post("/check", content=query)
        kept = replace(SETTINGS, keep_queries=str(tmp_path / "kept"))
        with TestClient(create_app(reference, kept)) as client:
            answer = client.post("/check", content=query).json()
    (file,) = (tmp_path / "kept").glob("*.query")
    assert file.read_bytes() == query
    assert json.loads(file.with_suffix(".json").read_text()) == answer
    assert answer["match"]["reference_id"] not in caplog.text
    assert list(planted.run.rglob("*.query")) == []


def test_the_command_serves_until_it_is_stopped_and_finishes_what_is_under_way(planted: Planted) -> None:
    command = [sys.executable, "-m", "onceseen", "serve", "--reference", str(planted.run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        query = copy_of(planted.known()[2], "crop10")
        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(httpx.post, f"{url}/check", content=query, timeout=30) for _ in range(4)]
            while 'finding="duplicate"' not in httpx.get(f"{url}/metrics", timeout=30).text:
                time.sleep(0.01)
            server.terminate()
            assert {a.result().json()["finding"] for a in answers} == {"duplicate"}
        _, said = server.communicate(timeout=20)
    assert server.returncode == 0
    assert said.rstrip().endswith("onceseen serve: stopped")


@pytest.fixture(scope="module")
def address(reference: Reference) -> Iterator[tuple[str, int]]:
    """A real server on a real socket, with short time-outs."""
    settings = replace(SETTINGS, port=0, body_timeout_s=0.5)
    server = make_server(create_app(reference, settings), settings)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield listener.getsockname()
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive(), "it stops when asked"


def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    """What comes back for bytes sent as they are, until the server hangs up or resets."""
    out = b""
    with socket.create_connection(address, timeout=8) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while more := connection.recv(65_536):
                out += more
        except ConnectionError:
            return out
    return out


def test_a_real_server_bears_slow_huge_and_broken_requests(
    planted: Planted, address: tuple[str, int]
) -> None:
    head = b"POST /check HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\n"
    slow = talk(address, head + b"content-length: 50\r\n\r\n", b"only this")
    assert slow.startswith(b"HTTP/1.1 408")
    assert b'"slow_body"' in slow
    assert talk(address, b"POST /check HTTP/1.1\r\nhost: x\r\n") == b"", "no head in time: hung up"
    assert talk(address, b"") == b""
    huge = talk(address, head + b"content-length: 99999999999\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 413")
    long = talk(address, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000)
    assert long.startswith(b"HTTP/1.1 400")
    assert b'"bad_request"' in long
    for garbage in (b"\x16\x03\x01 tls\r\n\r\n", b"GET\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n"):
        assert talk(address, garbage).startswith(b"HTTP/1.1 400")
    chunked = head + b"transfer-encoding: chunked\r\n\r\n"
    assert talk(address, chunked, b"zz\r\n").startswith(b"HTTP/1.1 4")
    endless = talk(address, chunked, *[b"20000\r\n" + b"x" * 0x20000 + b"\r\n"] * 16)
    assert endless.startswith(b"HTTP/1.1 413") or not endless, "a reset may overtake the answer"
    url = f"http://{address[0]}:{address[1]}"
    query = planted.known()[0].read_bytes()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.post(f"{url}/check", content=query), range(16)))
    assert {(a.status_code, a.json()["finding"]) for a in answers} == {(200, "duplicate")}
