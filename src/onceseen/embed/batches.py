"""Batches of a fixed size, the last one padded, with a way out when memory or one picture fails.

    37 inputs, batch size 16:   [0..15] [16..31] [32..36 + 11 x a repeat of 36]

A model's last bits depend on the batch's size, so every call has the same size and a picture's embedding does not
depend on how many are left in its shard. A batch that fails is cut in two until the failing pictures are alone; for
want of memory, the size of the calls is halved as well.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.failures import FailureReason, SampleError
from onceseen.embed.spec import BadRowsError, Embedder, InferenceError

_LOG = logging.getLogger(__name__)

Embedded = NDArray[np.float32] | SampleError
"""What becomes of one input: a vector (d,), or the error that it alone meets."""


def embed_padded(embedder: Embedder, inputs: Sequence[NDArray[Any]], batch_size: int) -> list[Embedded]:
    """Embeds inputs in batches of a fixed size.

    Cost: ceil(n / batch_size) calls of the model. Where one picture of a batch fails, 2 log2(batch_size) more; where
    all fail, 2 batch_size more.

    Args:
        embedder: The model.
        inputs: Model inputs, as `embedder.preprocess` makes them.
        batch_size: Pictures a call; a call for fewer is padded with repeats of the last one.

    Returns:
        For each input, in order: its vector (d,) float32 unit L2, or a `SampleError` with reason INFER_ERROR. Only
        pictures that fail alone get an error; those beside them keep their vectors.

    Raises:
        ValueError: If batch_size is not positive.
        DeviceError: If the GPU itself has failed.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected a positive number of pictures")
    results: list[Embedded] = []
    for start in range(0, len(inputs), batch_size):
        results += _embed_range(embedder, inputs[start : start + batch_size], batch_size)
    return results


def _embed_range(embedder: Embedder, inputs: Sequence[NDArray[Any]], size: int) -> list[Embedded]:
    """Embeds at most `size` inputs in calls of exactly `size`, fewer where memory does not do."""
    try:
        vectors = embedder.embed(_pad(inputs, size))
    except BadRowsError as error:
        bad = set(error.rows)
        return [_failed(error, i) if i in bad else error.vectors[i] for i in range(len(inputs))]
    except InferenceError as error:
        failure = InferenceError(str(error), out_of_memory=error.out_of_memory)
    except MemoryError as error:
        failure = InferenceError(f"MemoryError: {error}", out_of_memory=True)
    else:
        return [vectors[i] for i in range(len(inputs))]
    # Out here, and by a copy without a traceback: its frames would keep what the failed call had in memory.
    return _retry(embedder, inputs, size, failure)


def _retry(
    embedder: Embedder, inputs: Sequence[NDArray[Any]], size: int, failure: InferenceError
) -> list[Embedded]:
    if failure.out_of_memory and size > 1:
        half = (size + 1) // 2
        _LOG.warning("out of memory with a batch of %d pictures, trying %d: %s", size, half, failure)
        return [
            done
            for start in range(0, len(inputs), half)
            for done in _embed_range(embedder, inputs[start : start + half], half)
        ]
    if len(inputs) == 1:
        return [SampleError(FailureReason.INFER_ERROR, str(failure))]
    half = (len(inputs) + 1) // 2
    return [*_embed_range(embedder, inputs[:half], size), *_embed_range(embedder, inputs[half:], size)]


def _pad(inputs: Sequence[NDArray[Any]], size: int) -> NDArray[Any]:
    return np.stack([*inputs, *[inputs[-1]] * (size - len(inputs))])


def _failed(error: BadRowsError, row: int) -> SampleError:
    values = error.vectors[row]
    found = "not finite" if not np.isfinite(values).all() else "zero"
    return SampleError(
        FailureReason.INFER_ERROR, f"the model's embedding of this picture is {found} ({len(values)}-d)"
    )
