from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.failures import FailureReason, SampleError
from onceseen.embed import DeviceError, EmbedderSpec, InferenceError, embed_padded
from onceseen.embed.spec import inference_error
from onceseen.embed.vectors import unit_rows

_SPEC = EmbedderSpec("fragile", "0" * 64, 2, "none", "none")


@dataclass
class _Fragile:
    """Embeds (2,) inputs as themselves; fails where told, as real models fail for memory or for one input."""

    capacity: int = 1_000
    poison: float = -1.0
    broken: bool = False
    sizes: list[int] = field(default_factory=list)
    device: str = "cpu"
    runs_on: str = "cpu"
    spec: EmbedderSpec = _SPEC

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        return rgb.reshape(-1)[:2].astype(np.float32)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        self.sizes.append(len(batch))
        if len(batch) > self.capacity:
            raise InferenceError("CUDA out of memory", out_of_memory=True)
        if self.broken or (batch[:, 0] == self.poison).any():
            raise InferenceError("kernel failed")
        return unit_rows(batch, None)


@dataclass
class _Broken(_Fragile):
    """Raises what it is told to."""

    error: Exception = field(default_factory=RuntimeError)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        raise self.error


def _inputs(count: int) -> list[NDArray[Any]]:
    return [np.array([i + 1, 1], dtype=np.float32) for i in range(count)]


def _assert_embedded(found: list[Any], bad: set[int]) -> None:
    for i, (vector, one) in enumerate(zip(found, _inputs(len(found)), strict=True)):
        if i in bad:
            assert isinstance(vector, SampleError)
            assert vector.reason is FailureReason.INFER_ERROR
            assert vector.detail
        else:
            np.testing.assert_allclose(vector, one / np.linalg.norm(one), atol=1e-6)


def test_every_call_has_the_same_size() -> None:
    model = _Fragile()
    _assert_embedded(embed_padded(model, _inputs(10), 4), set())
    assert model.sizes == [4, 4, 4]
    assert embed_padded(model, [], 4) == []


def test_out_of_memory_halves_down_to_what_fits() -> None:
    model = _Fragile(capacity=3)
    _assert_embedded(embed_padded(model, _inputs(10), 8), set())
    assert {s for s in model.sizes if s <= 3} == {2}


def test_pictures_that_do_not_fit_even_alone_are_failures() -> None:
    _assert_embedded(embed_padded(_Fragile(capacity=0), _inputs(5), 4), {0, 1, 2, 3, 4})


@pytest.mark.parametrize("at", [0, 3, 6])
def test_one_failing_picture_does_not_take_the_others_along(at: int) -> None:
    model = _Fragile(poison=at + 1.0)
    _assert_embedded(embed_padded(model, _inputs(7), 4), {at})
    assert set(model.sizes) == {4}  # the survivors' last bits do not change either


def test_a_broken_model_fails_every_picture_and_ends() -> None:
    model = _Fragile(broken=True)
    _assert_embedded(embed_padded(model, _inputs(8), 8), set(range(8)))
    assert len(model.sizes) < 2 * 8


def test_rows_without_direction_fail_alone() -> None:
    inputs = _inputs(6)
    inputs[1] = np.zeros(2, dtype=np.float32)
    inputs[4] = np.array([np.nan, 1], dtype=np.float32)
    model = _Fragile()
    found = embed_padded(model, inputs, 4)
    assert len(model.sizes) == 2
    _assert_embedded(found, {1, 4})


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        embed_padded(_Fragile(), _inputs(1), 0)


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[ONNXRuntimeError] : Failed to allocate memory for requested buffer"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("Available memory of 0 is smaller than requested bytes of 1024"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, memory: bool) -> None:
    wrapped = inference_error(error)
    assert isinstance(wrapped, InferenceError)
    assert wrapped.out_of_memory is memory


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: no kernel image is available for execution on the device",
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : CUDA failure 700: an illegal memory access was encountered",
    ],
)
def test_a_broken_device_is_no_pictures_fault(text: str) -> None:
    wrapped = inference_error(RuntimeError(text))
    assert isinstance(wrapped, DeviceError)
    with pytest.raises(DeviceError, match=r"the GPU failed: .*shards that are done stay done"):
        embed_padded(_Broken(error=wrapped), _inputs(4), 4)
