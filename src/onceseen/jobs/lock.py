"""One command a run directory at a time, by a lock that does not outlive a crashed holder.

On a local file system the lock is the operating system's (`flock`): it ends with its process. Elsewhere it is a
small object that the holder refreshes; one that has not been refreshed for ten minutes is taken over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

from onceseen.core.files import exists, is_local, make_directory, read_bytes, remove, write_bytes
from onceseen.core.layout import RunLayout

REFRESH_S = 60.0
STALE_S = 600.0


class LockHeldError(RuntimeError):
    """Another command works on the run."""


@contextlib.contextmanager
def run_lock(layout: RunLayout) -> Iterator[None]:
    """Holds the run's lock for the length of the block.

    Raises:
        LockHeldError: If another command holds it, naming host and process.
    """
    with _local_lock(layout.lock()) if is_local(layout.root) else _remote_lock(layout.lock()):
        yield


def _holder() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}).encode()


def _held(path: str, text: bytes) -> LockHeldError:
    try:
        holder = json.loads(text)
        who = f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return LockHeldError(f"{path} is held by {who}: wait for it to end, or use another --output")


@contextlib.contextmanager
def _local_lock(path: str) -> Iterator[None]:
    make_directory(os.path.dirname(path))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _held(path, os.pread(descriptor, 4096, 0)) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _holder(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _remote_lock(path: str) -> Iterator[None]:
    if exists(path):
        text = read_bytes(path)
        try:
            age = time.time() - float(json.loads(text)["time"])
        except (ValueError, KeyError, TypeError):
            age = 0.0
        if age < STALE_S:
            raise _held(path, text)
    write_bytes(path, _holder())
    stop = threading.Event()

    def refresh() -> None:
        while not stop.wait(REFRESH_S):
            write_bytes(path, _holder())

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        remove(path)
