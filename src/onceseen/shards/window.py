"""A window that slides over a file: sequential reads, views without copies, seeks over what nobody wants.

Tar members are small and many, so a system call for each header would cost more than the bytes. The window
holds one stretch of the file; a view beyond its end slides it forward, the bytes still needed moving to its
front.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

_DIRECT = 16 << 20
CAPACITY = 1 << 20  # the second-level cache's size or less: measurably faster than 4 MiB


def _nothing() -> None:
    """What is called before a slide where nobody needs to know."""


class Window:
    """Views of a seekable stream, in ascending order of offset.

    Views are valid until the next call of `view`: whoever keeps bytes copies them, or sets `before_slide` to
    be told before the bytes under earlier views are overwritten. Memory: `capacity`, or the longest single
    view.

    Attributes:
        size: Bytes in the file.
        buffer: The bytes held, from `start` on; longer than `stop - start` where the file has ended.
        start: Offset of the first byte held.
        stop: Offset after the last byte held.
        hold: Offset from which a slide must keep bytes, where it is before the view asked for.
        bytes_read: Bytes read from the stream so far.
        before_slide: Called before bytes that are held are overwritten.
    """

    def __init__(self, stream: BinaryIO, capacity: int = CAPACITY) -> None:
        """Starts before the first byte.

        Args:
            stream: Open and seekable, at any position.
            capacity: Bytes held, and read at a time.
        """
        self._stream = stream
        self._capacity = capacity
        self.size = stream.seek(0, os.SEEK_END)
        self.buffer = memoryview(bytearray(min(capacity, max(self.size, 1))))
        self._position = -1  # of the stream; unknown
        self.start = 0
        self.stop = 0
        self.hold = 0
        self.bytes_read = 0
        self.before_slide: Callable[[], None] = _nothing

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes [offset, offset + size), fewer where the file ends.

        Raises:
            OSError: If the stream cannot be read.
            ValueError: If `offset` was left behind.
        """
        end = offset + size
        if end > self.stop and self.stop < self.size:
            self._slide(offset, end)
        if offset < self.start:
            raise ValueError(f"offset {offset} was left behind; the window begins at {self.start}")
        return self.buffer[
            offset - self.start : end - self.start if end < self.stop else self.stop - self.start
        ]

    def take(self, offset: int, size: int) -> bytes:
        """A copy of the bytes [offset, offset + size), fewer where the file ends. Raises as `view` does.

        Many bytes are read past the window, which would hold them a second time.
        """
        begin = offset - self.start
        if begin >= 0 and offset + size <= self.stop:
            return self.buffer[begin : begin + size].tobytes()
        if size > _DIRECT:
            return self._take_past(offset, size)
        return self.view(offset, size).tobytes()

    def _take_past(self, offset: int, size: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) < min(size, self.size - offset):
            raise OSError(
                f"the file ends at byte {offset + len(data)}, its size was {self.size} when it was opened"
            )
        self._position = offset + len(data)
        self.bytes_read += len(data)
        return data

    def _slide(self, offset: int, end: int) -> None:
        self.before_slide()
        first = min(offset, self.hold)
        if first < self.start:
            raise ValueError(f"offset {first} was left behind; the window begins at {self.start}")
        kept = max(0, self.stop - first)
        needed = max(self._capacity, end - first)
        if kept and first == self.start and needed <= len(self.buffer):
            pass  # only the free tail is filled
        else:
            tail = self.buffer[first - self.start : self.stop - self.start] if kept else b""
            if len(self.buffer) < needed or len(self.buffer) > max(needed, self._capacity):
                buffer = memoryview(bytearray(min(needed, max(self.size - first, 1))))
                buffer[:kept] = tail
                self.buffer = buffer
            else:
                self.buffer[:kept] = bytes(tail)  # the two may overlap
            self.start = first
        self.stop = first + kept
        self._fill()

    def _fill(self) -> None:
        if self._position != self.stop:
            self._stream.seek(self.stop)
        while self.stop < self.size and self.stop - self.start < len(self.buffer):
            free = self.buffer[self.stop - self.start :]
            count = self._stream.readinto(free)  # type: ignore[attr-defined]
            if not count:
                raise OSError(
                    f"the file ends at byte {self.stop}, its size was {self.size} when it was opened"
                )
            self.stop += count
            self.bytes_read += count
        self._position = self.stop
