"""A server on this machine that speaks the API of Google Cloud Storage, for tests of gs:// paths."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def cloud_storage(monkeypatch: pytest.MonkeyPatch, bucket: str = "bucket") -> Iterator[None]:
    """Runs the server with one bucket; Google's clients and Beam's filesystem go there, without credentials.

    Skips the test where the server or the clients are not installed.
    """
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator")
    pytest.importorskip("google.cloud.storage", reason="needs onceseen[gcp]")
    from apache_beam.internal.gcp import auth

    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(
        auth._Credentials, "_credentials_init", True
    )  # there are none: Beam would look for 30 s
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket)
    server.start()
    try:
        yield
    finally:
        server.stop()


def upload(directory: Path, prefix: str, bucket: str = "bucket") -> None:
    """Copies the files of a directory into the bucket."""
    from google.cloud import storage

    target = storage.Client.create_anonymous_client().bucket(bucket)
    for path in sorted(directory.iterdir()):
        target.blob(f"{prefix}/{path.name}").upload_from_filename(path)


def download(prefix: str, bucket: str = "bucket") -> dict[str, bytes]:
    """The objects under a prefix, by the rest of their names."""
    from google.cloud import storage

    found = storage.Client.create_anonymous_client().list_blobs(bucket, prefix=f"{prefix}/")
    return {blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes() for blob in found}
