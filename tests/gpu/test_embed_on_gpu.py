"""Models on a GPU: near the CPU's embeddings, in the precision asked for, and with a way out when memory is short."""

from __future__ import annotations

import logging
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gpu.conftest import DEVICE
from onceseen.core.config import EmbedConfig
from onceseen.core.failures import SampleError
from onceseen.embed import Embedder, embed_padded, load_embedder
from onceseen.embed.torch_device import TorchForward
from onceseen.embed.vectors import unit_rows

PICTURES = np.random.default_rng(7).integers(0, 256, (9, 40, 60, 3), dtype=np.uint8)
SIDE = 64
COPIES = 512
BATCH = 32
MARGIN_BYTES = 150 << 20


def _load(**fields: Any) -> Embedder:
    loaded = load_embedder(EmbedConfig(threads=1, **fields))
    assert loaded is not None
    return loaded


def _cosines(one: Embedder, other: Embedder) -> NDArray[np.float64]:
    batch = np.stack([one.preprocess(p) for p in PICTURES])
    return (one.embed(batch).astype(np.float64) * other.embed(batch)).sum(axis=1)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("fp16", 0.999), ("bf16", 0.99)])
def test_openclip_is_near_the_cpus(clip: dict[str, str], precision: str, least: float) -> None:
    on_gpu, on_cpu = _load(device=DEVICE, precision=precision, **clip), _load(device="cpu", **clip)
    assert on_gpu.device == DEVICE
    assert on_gpu.spec.weights_hash == on_cpu.spec.weights_hash
    assert _cosines(on_gpu, on_cpu).min() > least
    batch = np.stack([on_gpu.preprocess(p) for p in PICTURES])
    np.testing.assert_array_equal(on_gpu.embed(batch), on_gpu.embed(batch))


def test_auto_takes_the_gpu_in_fp16_and_says_so(
    clip: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "onceseen.embed"):
        embedder = _load(**clip)
    assert embedder.device == DEVICE
    assert embedder.runs_on.startswith(f"{DEVICE} (")
    assert embedder.runs_on.endswith(" in fp16")
    assert f"runs on {embedder.runs_on} (embed.device: auto)" in caplog.text


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "bf16"])
def test_the_model_computes_in_the_precision_asked_for(precision: str) -> None:
    import torch

    expected = {"auto": torch.float16, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    seen = []
    layer = torch.nn.Linear(8, 4).to(DEVICE)

    def model(x: Any) -> Any:
        y = layer(x)
        seen.append((x.device.type, y.dtype, torch.is_inference_mode_enabled()))
        return y

    forward = TorchForward(model, EmbedConfig(precision=precision), DEVICE)
    out = forward(np.ones((3, 8), dtype=np.float32))
    assert seen == [(DEVICE, expected[precision], True)]
    assert out.dtype == np.float32
    assert out.shape == (3, 4)


def test_batches_go_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    real, pinned = torch.Tensor.pin_memory, []

    def pin(tensor: Any) -> Any:
        pinned.append(real(tensor))
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    forward = TorchForward(lambda x: x * 2, EmbedConfig(precision="fp32"), DEVICE)
    np.testing.assert_array_equal(forward(batch), batch * 2)
    assert [p.is_pinned() for p in pinned] == [True]


def test_copies_beside_the_model_mix_nothing_up() -> None:
    """Two threads, as extract has; each batch's copy overlaps another's pass through the model.

    Small integers, whose products and sums are exact, so that no kernel's order of addition shows.
    """
    import torch

    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.integers(-1, 2, (2_048, 2_048)).astype(np.float32)).to(DEVICE)
    forward = TorchForward(lambda x: (x @ weights).relu() @ weights, EmbedConfig(precision="fp32"), DEVICE)
    batches = [rng.integers(-3, 4, (256, 2_048)).astype(np.float32) for _ in range(24)]
    alone = [forward(b) for b in batches]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(forward, batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def _hungry(sizes: list[int]) -> Any:
    """An embedder whose activations take 2 x 25 MB a picture on the device."""

    def model(x: Any) -> Any:
        wide = x.repeat(1, COPIES, 1, 1)
        wide = wide * 2
        sizes.append(len(x))  # reached where the batch fits
        return wide.view(len(x), COPIES, 3, -1).mean(dim=3).view(len(x), -1)[:, :6]

    forward = TorchForward(model, EmbedConfig(precision="fp32"), DEVICE)
    return types.SimpleNamespace(embed=lambda batch: unit_rows(forward(batch), None))


def _limit_memory(more: int) -> None:
    import torch

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / total)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    inputs = list(np.random.default_rng(1).random((BATCH + 3, 3, SIDE, SIDE)).astype(np.float32))
    sizes: list[int] = []
    embedder = _hungry(sizes)
    _limit_memory(MARGIN_BYTES)
    found = embed_padded(embedder, inputs, BATCH)
    means = np.stack(inputs).mean(axis=(2, 3), dtype=np.float64)
    expected = np.concatenate([means, means], axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)  # type: ignore[arg-type]
    assert sizes
    assert 1 <= max(sizes) <= 4  # 8 pictures would take 400 MB


def test_a_picture_that_never_fits_is_a_dead_letter_and_the_device_goes_on() -> None:
    inputs = [np.full((3, SIDE, SIDE), 0.5, np.float32)] * 3
    embedder = _hungry([])
    _limit_memory(4 << 20)
    for one in embed_padded(embedder, inputs, 2):
        assert isinstance(one, SampleError)
        assert "out of memory" in one.detail
    _limit_memory(1 << 30)
    assert not any(isinstance(one, SampleError) for one in embed_padded(embedder, inputs, 2))


def test_the_bundled_onnx_model_is_near_the_cpus() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA: install onnxruntime-gpu in place of onnxruntime")
    on_gpu, on_cpu = _load(device=DEVICE), _load(device="cpu")
    assert on_gpu.device == DEVICE
    assert _cosines(on_gpu, on_cpu).min() > 0.9999
