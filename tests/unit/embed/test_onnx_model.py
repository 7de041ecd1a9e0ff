from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onceseen.core.config import EmbedConfig
from onceseen.embed import Embedder, check_device, describe_embedder, load_embedder

PICTURE = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _load(model: str, **fields: Any) -> Embedder:
    loaded = load_embedder(EmbedConfig(model=model, threads=1, **{"device": "cpu", **fields}))
    assert loaded is not None
    return loaded


def _expected(values: np.ndarray, axes: tuple[int, int]) -> np.ndarray:  # type: ignore[type-arg]
    raw = np.concatenate([values.mean(axes), values.max(axes)]).astype(np.float64)
    return raw / np.linalg.norm(raw)


def test_uint8_channels_last_gets_raw_pixels(tiny_onnx: Callable[..., str]) -> None:
    embedder = _load(f"onnx:{tiny_onnx(['n', 16, 16, 3], 'UINT8')}")
    one = embedder.preprocess(PICTURE)
    assert one.shape == (16, 16, 3)
    assert one.dtype == np.uint8
    vectors = embedder.embed(np.stack([one, one]))
    assert vectors.shape == (2, 6) == (2, embedder.spec.dimensions)
    np.testing.assert_allclose(vectors[1], _expected(one.astype(np.float64), (0, 1)), atol=1e-6)


def test_float_channels_first_gets_scaled_pixels(tiny_onnx: Callable[..., str]) -> None:
    embedder = _load(f"onnx:{tiny_onnx(['n', 3, 16, 16])}")
    one = embedder.preprocess(PICTURE)
    assert one.shape == (3, 16, 16)
    assert one.dtype == np.float32
    np.testing.assert_allclose(
        embedder.embed(one[None])[0], _expected(one.astype(np.float64), (1, 2)), atol=1e-5
    )
    assert embedder.spec.name == "onnx:tiny.onnx"
    assert "NCHW" in embedder.spec.preprocessing


def test_a_model_of_fixed_batch_one_is_run_one_by_one(tiny_onnx: Callable[..., str]) -> None:
    free = _load(f"onnx:{tiny_onnx(['n', 3, 16, 16], name='free.onnx')}")
    for fixed in (1, 2):
        held = _load(f"onnx:{tiny_onnx([fixed, 3, 16, 16], name=f'fixed{fixed}.onnx')}")
        batch = np.stack([held.preprocess(np.roll(PICTURE, i, axis=2) // (i + 1)) for i in range(5)])
        np.testing.assert_allclose(held.embed(batch), free.embed(batch), atol=1e-6)


def test_a_free_side_takes_image_size(tiny_onnx: Callable[..., str]) -> None:
    path = tiny_onnx(["n", 3, "h", "w"])
    assert _load(f"onnx:{path}", image_size=24).preprocess(PICTURE).shape == (3, 24, 24)
    with pytest.raises(ValueError, match=r"give its side in embed.image_size"):
        _load(f"onnx:{path}")


def test_what_is_no_image_model_is_refused_with_what_was_found(
    tiny_onnx: Callable[..., str], tmp_path: Path
) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    cases = {
        str(tmp_path / "missing.onnx"): "embed.model: .*missing.onnx cannot be read",
        str(text): "is not an ONNX model",
        tiny_onnx(["n", 3, 16, 16], name="two.onnx", inputs=2): "expected one image input .* more0",
        tiny_onnx(["n", 3, 16, 24], name="oblong.onnx"): "must be a square",
        tiny_onnx(["n", 4, 16, 16], name="rgba.onnx"): "three colour channels",
        tiny_onnx(["n", 3, 16, 16], "DOUBLE", name="double.onnx"): "its type must be one of",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            describe_embedder(EmbedConfig(model=f"onnx:{path}"))


def test_wrong_options_are_refused(tiny_onnx: Callable[..., str]) -> None:
    path = tiny_onnx(["n", 3, 16, 16])
    with pytest.raises(ValueError, match=r"embed.image_size is 224, but .* takes 16"):
        _load(f"onnx:{path}", image_size=224)
    with pytest.raises(ValueError, match="has its precision built in"):
        _load(f"onnx:{path}", precision="fp16")


def test_cuda_is_never_replaced_by_the_cpu_in_silence() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    config = EmbedConfig(device="cuda")
    for function in (load_embedder, check_device):
        with pytest.raises(ValueError, match="install onnxruntime-gpu"):
            function(config)
    assert describe_embedder(config) == describe_embedder(EmbedConfig())  # the workers may have a GPU


def test_none_has_no_model() -> None:
    assert load_embedder(EmbedConfig(model="none")) is None
    assert describe_embedder(EmbedConfig(model="none")) is None
    check_device(EmbedConfig(model="none", device="cuda"))
