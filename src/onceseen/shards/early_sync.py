"""Forces a growing file to disk while it is still being written, so that the fsync at its end is short.

Without it a rewrite first fills the page cache while the disk idles, then waits for the disk while the processor
idles. The calls release the interpreter lock.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO, Self

_SYNC_BYTES = 24 << 20


class EarlySync:
    """Writes to a stream and syncs behind it, one sync at a time; leave it (`with`) before the stream is closed.

    It gives no guarantee of its own: whoever opened the stream still syncs it at its end.

    Attributes:
        written: Bytes written so far.
    """

    def __init__(self, output: BinaryIO, *, fsync: bool) -> None:
        """Starts.

        Args:
            output: Where the bytes go.
            fsync: Whether the file will be synced at its end. Files that are not of this machine have no such call.
        """
        self.written = 0
        self._output = output
        self._descriptor = _descriptor(output) if fsync else None
        self._unsynced = 0
        self._pool = ThreadPoolExecutor(1, "onceseen-sync")
        self._running: Future[None] | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Writes bytes.

        Raises:
            OSError: If they cannot be written, or an earlier sync failed.
        """
        self._output.write(data)
        self.written += len(data)
        self._unsynced += len(data)
        if self._descriptor is None or self._unsynced < _SYNC_BYTES:
            return
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        self._unsynced = 0
        self._output.flush()
        self._running = self._pool.submit(os.fdatasync, self._descriptor)

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits for the sync under way.

        Raises:
            OSError: If it failed, and no other error is on its way.
        """
        self._pool.shutdown(wait=True)
        if kind is None and self._running is not None:
            self._running.result()


def _descriptor(output: BinaryIO) -> int | None:
    """The file descriptor of a file of this machine."""
    try:
        return output.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return None
