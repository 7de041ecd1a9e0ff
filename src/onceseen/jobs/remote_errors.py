"""What a remote runner says of a failed job, in a line; and whether trying again makes sense."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

_OUR_CODE = "Error received from SDK harness"
"""What job servers put before an exception that was raised in a worker: it would be raised again."""
_TRACEBACK = "Traceback (most recent call last):"
_JAVA_FRAME = "\n\tat "
_UNSEEN = "No client connected within timeout"
"""What Beam's job servers say, after three minutes, of a worker that could not set a step up."""
_MOST_CHARACTERS = 600
_READER = "wait_until_finish_read"
"""Beam's name of the thread that reads a job server's messages."""
_READER_SECONDS = 5.0
_CONNECT_SECONDS = 5.0


def lost_workers(text: str) -> bool:
    """Whether a job failed for want of its workers (killed, out of memory, unreachable), not by an error in them.

    Args:
        text: All that a job server says of the failure.
    """
    return _OUR_CODE not in text and _TRACEBACK not in text


def short_cause(text: str) -> str:
    """The line of a runner's stack traces that names the cause.

    Args:
        text: Java's stack trace, with Python's in it where an exception was raised in a worker.

    Returns:
        Python's exception, else the first line; at most 600 characters.
    """
    _, raised, python = text.rpartition(_TRACEBACK)
    lines = [
        line.strip() for line in python.splitlines() if line.strip() and not (raised and line[0].isspace())
    ]
    cause = (lines[0] if lines else "it gave no cause")[:_MOST_CHARACTERS]
    if _UNSEEN in cause:
        cause += " (a Python worker could not begin; its log says why, for example other versions than here)"
    return cause


def unreachable(endpoint: str) -> str:
    """Why nothing answers at HOST:PORT; empty: something does. Waits at most some seconds."""
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        return str(error)
    return ""


def server_error(error: Exception) -> str:
    """What a call to a job server ended in: the status and its words, in a line."""
    code, details = (
        getattr(error, name, str)() for name in ("code", "details")
    )  # `str`: not every error has them
    return " ".join(f"{getattr(code, 'name', code)} {details}".split()) or type(error).__name__


@contextlib.contextmanager
def no_traces() -> Iterator[None]:
    """Keeps Beam from printing stack traces of what is raised with the job's failure anyway.

    These are Java's, which it logs, and that of the thread in which it reads a job server's messages.
    """
    root = logging.getLogger()  # Beam logs a job server's messages there
    usual = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if raised.thread is None or raised.thread.name != _READER:
            usual(raised)

    root.addFilter(_is_no_java_trace)
    threading.excepthook = hook
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if thread.name == _READER:
                thread.join(_READER_SECONDS)
        threading.excepthook = usual
        root.removeFilter(_is_no_java_trace)


def _is_no_java_trace(record: logging.LogRecord) -> bool:
    return _JAVA_FRAME not in record.getMessage()
