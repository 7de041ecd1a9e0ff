"""What an embedding model is to the rest: a specification, and two functions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "failed to allocate",
    "bad_alloc",
    "can't allocate",
    "alloc_failed",  # cuBLAS and cuDNN
    "is smaller than requested bytes",  # onnxruntime's arena at its limit
)
_DEVICE_LOST = ("cuda error", "cuda failure")  # torch's word and onnxruntime's


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What an embedding depends on. Features of two runs may be compared only where these are equal.

    Attributes:
        name: `embed.model`, without the directory of a file, and with the checkpoint's name for OpenCLIP.
        weights_hash: SHA-256 (hex) of the weights file; with `embed.reduce`, of both files' digests.
        dimensions: d of the embeddings, after the reduction.
        preprocessing: How pixels become the model's input, in words and numbers.
        library: Name and version of the library that runs the model.
    """

    name: str
    weights_hash: str
    dimensions: int
    preprocessing: str
    library: str

    def to_json(self) -> dict[str, Any]:
        """Plain fields, for run.json and the features' metadata."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> EmbedderSpec:
        """The inverse of `to_json`."""
        return cls(**fields)


class Embedder(Protocol):
    """A loaded model. Holds weights or a session, so it is never pickled: pickle the `EmbedConfig`.

    Attributes:
        spec: What the embeddings depend on.
        device: `cpu` or `cuda`: what `embed.device` came to.
        runs_on: The same in words, with the GPU's name and the precision; kept in the done marks.
    """

    spec: EmbedderSpec
    device: str
    runs_on: str

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """Makes one model input out of one picture; called from many threads at once.

        Args:
            rgb: (h, w, 3) uint8 RGB, any size.

        Returns:
            An array whose shape and dtype do not depend on the picture.
        """
        ...

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Embeds stacked inputs; may be called from several threads, and runs the model for one at a time.

        Args:
            batch: (n, ...) inputs, as `preprocess` makes them.

        Returns:
            (n, d) float32, finite, rows unit L2. Row i depends on input i alone, up to the last bits where n differs.

        Raises:
            InferenceError: If the model itself fails, for instance for want of memory.
            BadRowsError: If some rows came out without a finite direction; it carries the others.
            DeviceError: If the GPU itself has failed.
        """
        ...


class InferenceError(RuntimeError):
    """The model failed on a batch; the library's own error is the cause."""

    def __init__(self, message: str, *, out_of_memory: bool = False) -> None:
        """Keeps whether a smaller batch may succeed."""
        super().__init__(message)
        self.out_of_memory = out_of_memory


class BadRowsError(InferenceError):
    """Some rows of a batch are not finite, or zero.

    Attributes:
        rows: Their indices, ascending.
        vectors: (n, d) float32; the other rows are good.
    """

    def __init__(self, rows: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """Keeps the bad rows' indices and all vectors."""
        super().__init__(
            f"the model gave no finite, non-zero embedding for rows {list(rows)[:8]} of the batch"
        )
        self.rows = tuple(rows)
        self.vectors = vectors


class DeviceError(RuntimeError):
    """The GPU failed, and with it every later call in this process: no picture is to blame, so none is failed."""


def inference_error(error: Exception) -> InferenceError | DeviceError:
    """Wraps a library's error; every library words out-of-memory in its own way.

    Returns:
        A `DeviceError` where CUDA reports anything but want of memory: after an illegal access or a lost GPU each
        later call fails too, and a shard must be done again rather than have all its pictures failed.
    """
    text = f"{type(error).__name__}: {error}"
    lower = text.lower()
    memory = isinstance(error, MemoryError) or any(words in lower for words in _OUT_OF_MEMORY)
    if not memory and any(words in lower for words in _DEVICE_LOST):
        return DeviceError(
            f"the GPU failed: {text[:400]}; look at nvidia-smi and the system's log, and run again: shards that are "
            "done stay done"
        )
    return InferenceError(text[:400], out_of_memory=memory)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes, as hex."""
    return hashlib.sha256(data).hexdigest()
