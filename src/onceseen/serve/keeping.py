"""Queries and answers on disk, only where the user asked for it (`--keep-queries DIR`)."""

from __future__ import annotations

import hashlib
import threading

from onceseen.core.files import join, make_directory, write_bytes, write_json
from onceseen.reference import Check


class QueryKeeper:
    """Writes each query by its SHA-256, with its answer beside it; equal queries are one file."""

    def __init__(self, directory: str) -> None:
        """Makes the directory.

        Raises:
            ValueError: If it cannot be made or written.
        """
        self._directory = directory
        self._lock = threading.Lock()
        try:
            make_directory(directory)
            write_bytes(join(directory, ".probe"), b"")
        except OSError as error:
            raise ValueError(f"--keep-queries {directory} cannot be written: {error}") from error

    def keep(self, query: bytes, check: Check) -> None:
        """Keeps one."""
        name = hashlib.sha256(query).hexdigest()
        with self._lock:
            write_bytes(join(self._directory, f"{name}.query"), query)
            write_json(join(self._directory, f"{name}.json"), check.to_json())
