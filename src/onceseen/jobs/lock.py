"""One command a run directory at a time, by a lock that does not outlive a crashed holder.

On a local file system the lock is the operating system's (`flock`): it ends with its process. Elsewhere it is a small
file that the holder refreshes; one that has not been refreshed for ten minutes is taken over, and so is one whose
process is gone, where that was on this machine. It is made by a call that fails where the file is there already, which
s3:// and hdfs:// decide themselves, so that of several commands one gets it; on gs:// two that start within the same
second may both. Two holders of one run would waste work and could fail, but every file appears whole, and two that
were given the same input and config write the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

from onceseen.core.files import (
    create_new,
    is_local,
    make_directory,
    read_bytes_if_there,
    remove_files,
    write_bytes,
)
from onceseen.core.layout import RunLayout

REFRESH_S = 60.0
STALE_S = 600.0
_TRIES = 3
_log = logging.getLogger(__name__)


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
    _acquire(path)
    stop = threading.Event()

    def refresh() -> None:
        while not stop.wait(REFRESH_S):
            try:
                if not _is_mine(path):
                    _log.error("%s was taken over by another command: two now work on this run", path)
                    return
                write_bytes(path, _holder())
            except OSError as error:  # the next round may do better; others wait for ten minutes
                _log.warning("%s could not be refreshed: %s", path, error)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):  # it grows stale by itself
            if _is_mine(path):
                remove_files([path])


def _acquire(path: str) -> None:
    """Makes the lock file, after removing one that nobody refreshes any more.

    Raises:
        LockHeldError: If somebody refreshes it, or was faster.
    """
    text = b""
    for _ in range(_TRIES):
        if create_new(path, _holder()):
            return
        found = read_bytes_if_there(path)
        if found is None:
            continue
        text = found
        if time.time() - _time_of(text) < STALE_S and not _is_gone(text):
            break
        remove_files([path])
    raise LockHeldError(
        f"{_held(path, text)}; if that command was killed, its lock is free {STALE_S / 60:.0f} minutes after its last "
        "sign of life"
    )


def _is_gone(text: bytes) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    try:
        holder = json.loads(text)
        if holder["host"] != socket.gethostname():
            return False
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    return False


def _time_of(text: bytes) -> float:
    """When the lock was last refreshed; now, where it does not say: then nobody takes it over."""
    try:
        return float(json.loads(text)["time"])
    except (ValueError, KeyError, TypeError):
        return time.time()


def _is_mine(path: str) -> bool:
    try:
        holder = json.loads(read_bytes_if_there(path) or b"{}")
    except ValueError:
        return False
    return (holder.get("host"), holder.get("pid")) == (socket.gethostname(), os.getpid())
