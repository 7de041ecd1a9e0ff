"""Files of s3://, by boto3, with the settings of Beam's S3 options (`--s3_endpoint_url` and so on).

Beam's own S3 filesystem makes a client, and so a connection, for every call; reads 16 MiB for each seek; needs three
requests for a small file and cannot write an empty one; completes a half-written upload when its stream is closed by
an error, or merely forgotten; and takes a missing bucket for an empty one. Here a file is one request to write (two
and its parts above 16 MiB) and appears when the block ends without an error, never earlier: S3 shows no object before
its upload is completed. So nothing is written under temporary names and nothing renamed, which S3 cannot do.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from onceseen.core.remote import StoredFile
from onceseen.core.s3_client import MISSING, REPLACED, error_code, s3_client, s3_errors, split_path
from onceseen.core.s3_streams import Download, Upload

_AHEAD_BYTES = 1 << 20
"""Enough after a seek: ranges grow by themselves."""
_BATCH = 1_000
"""Names in one request to delete."""


@dataclass(frozen=True, slots=True)
class S3Files:
    """The objects of s3:// paths; see `RemoteFiles`."""

    def open_read(self, path: str, read_ahead: int) -> BinaryIO:
        """Opens an object by its first request, which also brings its first bytes."""
        return io.BufferedReader(Download(path, min(read_ahead, _AHEAD_BYTES)), 64 << 10)

    @contextlib.contextmanager
    def write(self, path: str) -> Iterator[BinaryIO]:
        """An object that is there when the block has ended without an error. Memory: a part or two."""
        upload = Upload(path)
        try:
            yield cast(BinaryIO, upload)
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    def create_new(self, path: str, data: bytes) -> bool:
        """Writes by S3's conditional request: of several at once, one succeeds."""
        bucket, key = split_path(path)
        with s3_errors(path):
            try:
                s3_client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
            except Exception as error:
                if error_code(error) in REPLACED:
                    return False
                raise
        return True

    def exists(self, path: str) -> bool:
        """Whether the object is there: one request."""
        return self.find(path) is not None

    def find(self, path: str) -> StoredFile | None:
        """Looks one object up: one request."""
        bucket, key = split_path(path)
        with s3_errors(path):
            try:
                head = s3_client().head_object(Bucket=bucket, Key=key)
            except Exception as error:
                if error_code(error) in MISSING:
                    return None
                raise
        return StoredFile(path, head["ContentLength"], head["ETag"])

    def list_under(self, directory: str) -> Iterator[StoredFile]:
        """Lists by prefix: a request for every thousand objects."""
        bucket, key = split_path(directory)
        prefix = f"{key.rstrip('/')}/" if key else ""
        with s3_errors(directory):
            for page in s3_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield StoredFile(f"s3://{bucket}/{entry['Key']}", entry["Size"], entry["ETag"])

    def occupied(self, path: str) -> bool:
        """Whether the object is there, or any under its name and a slash."""
        bucket, key = split_path(path)
        if self.find(path) is not None:
            return True
        with s3_errors(path):
            page = s3_client().list_objects_v2(Bucket=bucket, Prefix=f"{key.rstrip('/')}/", MaxKeys=1)
        return bool(page.get("KeyCount"))

    def remove_files(self, paths: Sequence[str]) -> None:
        """Removes objects, a thousand a request."""
        by_bucket: dict[str, list[str]] = {}
        for path in paths:
            bucket, key = split_path(path)
            by_bucket.setdefault(bucket, []).append(key)
        for bucket, keys in by_bucket.items():
            for start in range(0, len(keys), _BATCH):
                batch = [{"Key": key} for key in keys[start : start + _BATCH]]
                with s3_errors(paths[0]):
                    answer = s3_client().delete_objects(
                        Bucket=bucket, Delete={"Objects": batch, "Quiet": True}
                    )
                for failed in answer.get("Errors", ()):
                    raise OSError(f"s3://{bucket}/{failed['Key']} cannot be removed: {failed['Message']}")

    def make_directory(self, path: str) -> None:
        """There are no directories."""

    def remove_unfinished(self, directory: str) -> int:
        """Aborts uploads that nobody will complete: their parts are paid for until then."""
        bucket, key = split_path(directory)
        removed = 0
        with s3_errors(directory):
            client = s3_client()
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=f"{key.rstrip('/')}/"
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                removed += 1
        return removed
