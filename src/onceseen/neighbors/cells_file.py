"""Coarse cells as a file: centroids.npz of a run, reusable by another."""

from __future__ import annotations

import io

import numpy as np

from onceseen.core.files import open_read, write_bytes
from onceseen.neighbors.cells import Cells


def write_cells(path: str, cells: Cells) -> None:
    """Keeps cells as an .npz file, which says what they were trained on."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        centroids=cells.centroids,
        components=cells.components,
        trained_on=np.array(cells.trained_on, dtype=np.str_),
    )
    write_bytes(path, buffer.getvalue())


def read_cells(path: str) -> Cells:
    """Reads cells.

    Raises:
        ValueError: If the file is missing or is not one of cells.
    """
    try:
        with open_read(path) as stream, np.load(io.BytesIO(stream.read()), allow_pickle=False) as stored:
            trained_on = str(stored["trained_on"]) if "trained_on" in stored else ""
            centroids, components = (stored[name].astype(np.float32) for name in ("centroids", "components"))
            return Cells(centroids, components, trained_on)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is not a file of cells (.npz with centroids and components): {error}"
        ) from error
