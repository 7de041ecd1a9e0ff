"""A web site on the loopback interface that serves pictures, and answers wrongly in the ways that sites do."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Answer:
    """What the site says to one path.

    Attributes:
        body: The bytes.
        status: HTTP status.
        headers: Further headers.
        fails_first: So many requests get status 503 before this answer.
        hangs: Whether nothing is sent until the site is closed.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fails_first: int = 0
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class PictureServer:
    """A running site.

    Attributes:
        root: Its URL without a slash at the end.
        requests: Requests so far, by path.
    """

    root: str
    requests: Counter[str]


@contextlib.contextmanager
def serve(answers: Mapping[str, Answer]) -> Iterator[PictureServer]:
    """Serve the answers, by path; every other path is 404."""
    requests: Counter[str] = Counter()
    counting = threading.Lock()
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path, Answer(b"not found", 404))
            with counting:
                requests[self.path] += 1
                turn = requests[self.path]
            if answer.hangs:
                closing.wait(60)
                return
            self.send_response(503 if turn <= answer.fails_first else answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield PictureServer(f"http://127.0.0.1:{server.server_address[1]}", requests)
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
