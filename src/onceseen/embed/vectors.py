"""From a model's raw output to unit vectors: the optional reduction, then the L2 norm. Pure numpy."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.files import read_bytes
from onceseen.embed.spec import BadRowsError, sha256_hex


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A linear map to fewer dimensions, such as a PCA with or without whitening: (x - mean) @ matrix.

    Attributes:
        mean: (D,) float64.
        matrix: (D, d) float64, d <= D.
        digest: SHA-256 (hex) of the file.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    digest: str

    @property
    def dimensions(self) -> int:
        """d, the dimensions that are left."""
        return int(self.matrix.shape[1])


def load_reduction(path: str, dimensions: int) -> Reduction | None:
    """Reads `embed.reduce`, an .npz file with arrays `mean` (D,) and `matrix` (D, d).

    Args:
        path: The file; empty: no reduction.
        dimensions: D, the model's own dimensions.

    Raises:
        ValueError: If the file is missing, is no such .npz file, or does not fit the model.
    """
    if not path:
        return None
    data = read_model_file(path, "embed.reduce")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            mean, matrix = (np.asarray(arrays[name], dtype=np.float64) for name in ("mean", "matrix"))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(
            f"embed.reduce: {path} is not an .npz file with the arrays 'mean' (D,) and 'matrix' (D, d): {error}; "
            "write it with numpy.savez(path, mean=..., matrix=...)"
        ) from error
    if mean.shape != (dimensions,) or matrix.ndim != 2 or matrix.shape[0] != dimensions:
        raise ValueError(
            f"embed.reduce: {path} holds mean {mean.shape} and matrix {matrix.shape}, but the model gives {dimensions} "
            f"dimensions; expected mean ({dimensions},) and matrix ({dimensions}, d)"
        )
    if not 1 <= matrix.shape[1] <= dimensions or not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise ValueError(f"embed.reduce: {path} must be finite and keep 1 to {dimensions} dimensions")
    return Reduction(mean, matrix, sha256_hex(data))


def read_model_file(path: str, option: str) -> bytes:
    """The whole of a model's file, local or remote.

    Raises:
        ValueError: If it cannot be read; the message names the option that gave the path.
    """
    try:
        return read_bytes(path)
    except OSError as error:  # Beam's file systems raise subclasses of it too
        raise ValueError(
            f"{option}: {path} cannot be read ({error}); give the path of an existing file"
        ) from error


def unit_rows(raw: NDArray[Any], reduction: Reduction | None) -> NDArray[np.float32]:
    """Reduces and normalises a model's output.

    Each row is worked out by itself in float64, so that the result does not depend on the other rows.

    Args:
        raw: (n, ...) output, any float dtype; flattened to (n, D).
        reduction: The linear map, or None.

    Returns:
        (n, d) float32, rows unit L2.

    Raises:
        BadRowsError: If a row is not finite, or zero.
    """
    x = raw.reshape(len(raw), math.prod(raw.shape[1:])).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if reduction is not None:
            rows = [row @ reduction.matrix for row in x - reduction.mean]
            x = np.array(rows, dtype=np.float64).reshape(len(rows), reduction.dimensions)
        norms = np.sqrt((x * x).sum(axis=1, keepdims=True))
        good = np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)
        unit: NDArray[np.float32] = (x / norms).astype(np.float32)
    if not good.all():
        raise BadRowsError([int(i) for i in np.flatnonzero(~good)], unit)
    return unit


def weights_digest(weights_hash: str, reduction: Reduction | None) -> str:
    """The hash that the specification carries: of the weights, or of weights and reduction together."""
    return weights_hash if reduction is None else sha256_hex(f"{weights_hash}+{reduction.digest}".encode())
