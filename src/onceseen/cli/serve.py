"""Answer over HTTP whether a picture is a direct duplicate of a training picture.

POST /check takes one picture (the body itself, or a form), POST /check/batch several; GET /healthz, /metrics
(Prometheus), /docs and /openapi.json say the rest. RUN is a finished run of `onceseen dedup`; its index is built in
RUN/index the first time, and memory-mapped. Nothing of a query is stored unless --keep-queries asks for it.

Needs the extra `serve`: pip install 'onceseen[serve]'.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from onceseen.cli.arguments import add_settings

EPILOG = """\
examples:
  onceseen serve --reference run
  curl --data-binary @answer.png -H 'content-type: image/png' http://127.0.0.1:8000/check
  curl -F images=@one.png -F images=@two.jpg http://127.0.0.1:8000/check/batch
  ONCESEEN_TOKEN=... onceseen serve --reference run --host 0.0.0.0

A token is read from --token-file, else from the environment variable ONCESEEN_TOKEN, and sent by clients as
`Authorization: Bearer TOKEN`. Put TLS in front of an address that others can reach.
"""
_MODULES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--reference", required=True, metavar="RUN", help="a finished run, of onceseen dedup")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: %(default)s; 0: any)")
    parser.add_argument("--token-file", default="", metavar="FILE", help="file with the bearer token")
    parser.add_argument(
        "--insecure", action="store_true", help="listen on a public address without a token all the same"
    )
    parser.add_argument(
        "--index", default=None, metavar="DIR", help="local directory for the index (default: RUN/index)"
    )
    add_settings(parser, above="RUN", example="scan.looks=2 or embed.device=cpu")
    _add_limits(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-mb", type=float, default=16, help="MB of one picture (default: %(default)s)")
    limits.add_argument(
        "--max-pixels", type=int, default=50_000_000, help="pixels of one picture (default: %(default)s)"
    )
    limits.add_argument("--max-images", type=int, default=32, help="pictures a batch (default: %(default)s)")
    limits.add_argument(
        "--queue",
        type=int,
        default=64,
        help="requests at a time, further ones get 429 (default: %(default)s)",
    )
    limits.add_argument(
        "--timeout", type=float, default=30, help="seconds that an answer may take (default: %(default)s)"
    )
    limits.add_argument(
        "--body-timeout", type=float, default=15, help="seconds that a body may take (default: %(default)s)"
    )
    limits.add_argument(
        "--keep-queries", default="", metavar="DIR", help="keep every query and its answer in this directory"
    )


def run(args: argparse.Namespace) -> int:
    """Opens the reference and serves until stopped.

    Returns:
        0.

    Raises:
        ValueError: If the extra is missing, or an argument does not fit.
    """
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is not installed; pip install 'onceseen[serve]'")
    from onceseen.reference import Reference
    from onceseen.serve.app import create_app
    from onceseen.serve.server import make_server
    from onceseen.serve.settings import ServeSettings

    settings = ServeSettings(
        host=args.host,
        port=args.port,
        token=_token(args.token_file),
        insecure=args.insecure,
        max_bytes=int(args.max_mb * 1e6),
        max_images=args.max_images,
        queue=args.queue,
        body_timeout_s=args.body_timeout,
        timeout_s=args.timeout,
        keep_queries=args.keep_queries,
    )
    pixels = [] if any(o.startswith("read.max_pixels") for o in args.overrides) else [args.max_pixels]
    reference = Reference.open(
        args.reference,
        config=args.config,
        overrides=[*(f"read.max_pixels={n}" for n in pixels), *args.overrides],
        index=args.index,
        progress=not args.quiet,
    )
    server = make_server(create_app(reference, settings), settings)
    with _listening(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"{len(reference):,} samples of {args.reference}: http://{shown}:{port}/docs", flush=True)
        with _asked_to_stop():
            server.run(sockets=[listener])
    print("onceseen serve: stopped", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C end a server well: uvicorn raises them again once it has stopped."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port in use is told in one line.

    Raises:
        ValueError: If the address cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=128)
        # Only where the protocol is named does asyncio switch Nagle's algorithm off: 40 ms a request.
        return socket.socket(family, listener.type, socket.IPPROTO_TCP, fileno=listener.detach())
    except OSError as error:
        raise ValueError(
            f"--host {host} --port {port} cannot be listened on: {error.strerror or error}; choose another port"
        ) from error


def _token(path: str) -> str:
    """The token of a file, else of the environment; empty: none.

    Raises:
        ValueError: If the file cannot be read or is empty.
    """
    if not path:
        return os.environ.get("ONCESEEN_TOKEN", "")
    from onceseen.core.files import read_bytes

    try:
        token = read_bytes(path).decode("ascii", "replace").strip()
    except OSError as error:
        raise ValueError(f"--token-file {path} cannot be read: {error}") from error
    if not token:
        raise ValueError(f"--token-file {path} is empty; expected the token")
    return token
