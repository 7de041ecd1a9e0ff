"""An object of s3:// as a stream: read by ranges that grow, written in parts, published only when whole."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import Any, cast

from onceseen.core.s3_client import ATTEMPTS, REPLACED, error_code, s3_client, s3_errors, split_path

PART_BYTES = 16 << 20
"""Bytes of one part of a large upload. S3 allows 10,000 parts: 160 GB a file."""
_SKIP_BYTES = 256 << 10
"""A gap up to this is read and thrown away: cheaper than another request."""
_AHEAD_MOST = 64 << 20


class Download(io.RawIOBase):
    """An object read by ranges.

    A range is taken as a stream, so its length costs no memory. It grows while reading goes on from where the last
    one ended (a tar of 1 GB: some 20 requests) and starts small after a seek (a picture out of a tar: one request).
    Every range names the version that the first one found, so a file that is replaced meanwhile is an error.
    """

    def __init__(self, path: str, read_ahead: int) -> None:
        """Asks for the first `read_ahead` bytes, and so for the size.

        Raises:
            FileNotFoundError: If there is no such object.
            OSError: If it cannot be read.
        """
        super().__init__()
        self._path = path
        self._bucket, self._key = split_path(path)
        self._least = max(1, read_ahead)
        self._ahead = self._least
        self._position = 0
        self._body: Any = None
        self._body_at = 0
        self._body_end = 0
        self._etag = ""
        self._size = 0
        self._open(0, self._least)

    def _open(self, start: int, length: int) -> None:
        """Requests [start, start + length) of the object."""
        self._drop()
        version: Mapping[str, str] = {"IfMatch": self._etag} if self._etag else {}
        wanted = f"bytes={start}-{start + length - 1}"
        with s3_errors(self._path):
            try:
                answer = s3_client().get_object(Bucket=self._bucket, Key=self._key, Range=wanted, **version)
            except Exception as error:
                if error_code(error) in ("InvalidRange", "416") and start == 0:
                    return  # an empty object
                if error_code(error) in REPLACED:
                    raise OSError(f"{self._path} was replaced while it was read: run again") from error
                raise
        self._etag = answer["ETag"]
        self._size = int(answer["ContentRange"].rpartition("/")[2])
        self._body = answer["Body"]
        self._body_at, self._body_end = start, start + answer["ContentLength"]

    def _drop(self) -> None:
        if self._body is not None:
            if self._body_at < self._body_end <= self._body_at + _SKIP_BYTES:
                with contextlib.suppress(Exception):
                    self._body.read()  # so that the connection can be used again
            self._body.close()
        self._body = None

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Offset of the next byte read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves; the next read asks for what it needs."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        """Fills as much of the buffer as the open range gives.

        Raises:
            OSError: If the object cannot be read, after some attempts, or was replaced.
        """
        view = memoryview(buffer).cast("B")
        if not len(view) or self._position >= self._size:
            return 0
        for attempt in range(ATTEMPTS):
            try:
                data = self._read_some(len(view))
            except _broken_streams() as error:
                self._drop()
                if attempt + 1 == ATTEMPTS:
                    raise OSError(
                        f"{self._path}: reading broke off at byte {self._position}: {error}"
                    ) from error
            else:
                view[: len(data)] = data
                self._position += len(data)
                return len(data)
        return 0

    def _read_some(self, size: int) -> bytes:
        gap = self._position - self._body_at
        within = self._body is not None and 0 <= gap <= _SKIP_BYTES and self._position < self._body_end
        if within and gap:
            self._body.read(gap)
        elif not within:
            goes_on = self._position == self._body_end
            self._ahead = min(4 * self._ahead, _AHEAD_MOST) if goes_on else self._least
            self._open(self._position, max(size, self._ahead))
        self._body_at = self._position
        data = cast(bytes, self._body.read(min(size, self._body_end - self._position)))
        if not data:
            raise EOFError("the connection ended")
        self._body_at += len(data)
        return data

    def readall(self) -> bytes:
        """The rest, in one range."""
        self._ahead = max(self._ahead, self._size - self._position)
        parts = []
        while chunk := self.read(max(1, min(PART_BYTES, self._size - self._position))):
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        """Lets the connection go."""
        if not self.closed and self.__dict__.get("_body") is not None:
            self._drop()
        super().close()


class Upload(io.RawIOBase):
    """A new object; only `finish` makes it appear, so that a stream that is closed or forgotten publishes nothing."""

    def __init__(self, path: str) -> None:
        """Sends nothing yet."""
        super().__init__()
        self._path = path
        self._bucket, self._key = split_path(path)
        self._buffer = bytearray()
        self._written = 0
        self._upload = ""
        self._parts: list[dict[str, object]] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._written

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Takes bytes; every 16 MiB of them go out as a part."""
        view = memoryview(data).cast("B")
        self._buffer += view
        self._written += len(view)
        while len(self._buffer) >= PART_BYTES:
            part = bytes(memoryview(self._buffer)[:PART_BYTES])
            del self._buffer[:PART_BYTES]
            self._send(part)
        return len(view)

    def _send(self, part: bytes) -> None:
        with s3_errors(self._path):
            client = s3_client()
            if not self._upload:
                self._upload = client.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
            number = len(self._parts) + 1
            answer = client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload, PartNumber=number, Body=part
            )
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})

    def finish(self) -> None:
        """Makes the object appear."""
        if not self._upload:
            with s3_errors(self._path):
                s3_client().put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        with s3_errors(self._path):
            s3_client().complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload,
                MultipartUpload={"Parts": self._parts},
            )

    def abort(self) -> None:
        """Gives the parts up; what is left where that fails, `remove_unfinished` finds."""
        self._buffer.clear()
        if self._upload:
            with contextlib.suppress(Exception):
                s3_client().abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload)


def _broken_streams() -> tuple[type[BaseException], ...]:
    """What a connection that breaks while a body is read ends in."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ReadTimeoutError
    from urllib3.exceptions import HTTPError

    return (HTTPClientError, IncompleteReadError, ReadTimeoutError, HTTPError, EOFError, ConnectionError)
