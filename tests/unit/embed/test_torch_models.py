"""Torch models, on the CPU, with tiny networks of seeded weights that the tests save themselves."""

from __future__ import annotations

import json
import logging
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onceseen.core.config import EmbedConfig
from onceseen.core.failures import FailureReason, SampleError
from onceseen.embed import Embedder, check_device, describe_embedder, embed_padded, load_embedder
from onceseen.embed.torch_device import TorchForward
from onceseen.embed.vectors import unit_rows
from tiny_clip import TINY_CLIP, save_tiny_clip, seeded

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'onceseen[openclip]'")

PICTURES = np.random.default_rng(7).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)


def _load(model: str, **fields: Any) -> Embedder:
    loaded = load_embedder(EmbedConfig(model=model, threads=1, **{"device": "cpu", **fields}))
    assert loaded is not None
    return loaded


def _batch(embedder: Embedder) -> Any:
    return np.stack([embedder.preprocess(p) for p in PICTURES])


def _check_contract(embedder: Embedder) -> None:
    batch = _batch(embedder)
    vectors = embedder.embed(batch)
    assert vectors.shape == (len(batch), embedder.spec.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    for _ in range(3):  # torch may compile a script anew after its first calls
        np.testing.assert_array_equal(embedder.embed(batch), vectors)
    alone = np.concatenate([embedder.embed(batch[i : i + 1]) for i in range(len(batch))])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


@pytest.fixture
def script(tmp_path: Path) -> tuple[str, Any]:
    """A scripted network of two convolutions, 10-d, and the network itself."""
    network = seeded(
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(8, 10, 3, stride=2),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
        )
    )
    path = tmp_path / "tiny.torchscript.pt"
    torch.jit.script(network).save(str(path))
    return str(path), network


def test_torchscript_file(script: tuple[str, Any]) -> None:
    path, network = script
    embedder = _load(f"torchscript:{path}", image_size=32)
    _check_contract(embedder)
    with torch.inference_mode():
        raw = network(torch.from_numpy(_batch(embedder))).numpy().astype(np.float64)
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(_batch(embedder)), expected, atol=1e-5)
    assert embedder.spec == describe_embedder(
        EmbedConfig(model=f"torchscript:{path}", image_size=32, device="cuda")
    )
    assert embedder.spec.name == "torchscript:tiny.torchscript.pt"


def test_precision_is_part_of_the_specification(script: tuple[str, Any]) -> None:
    exact = _load(f"torchscript:{script[0]}", image_size=32, precision="fp32")
    rough = _load(f"torchscript:{script[0]}", image_size=32, precision="bf16")
    assert exact.spec != rough.spec
    a, b = exact.embed(_batch(exact)), rough.embed(_batch(rough))
    assert (a * b).sum(axis=1).min() > 0.999
    assert not np.array_equal(a, b)


def test_torchscript_mistakes_are_refused(script: tuple[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not a model")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": f"torchscript:{script[0]}"}, "embed.image_size is 0"),
        ({"model": f"torchscript:{tmp_path}/missing.pt", "image_size": 32}, "cannot be read"),
        ({"model": f"torchscript:{text}", "image_size": 32}, "is not a TorchScript file"),
        ({"model": f"torchscript:{script[0]}", "image_size": 2}, "cannot embed a picture of 2 pixels"),
    ]
    for fields, message in cases:
        with pytest.raises(ValueError, match=message):
            describe_embedder(EmbedConfig(**fields))


def test_a_device_that_is_not_there_is_refused(script: tuple[str, Any]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for config, message in (
        (EmbedConfig(model=f"torchscript:{script[0]}", image_size=32, device="cuda"), "finds no usable GPU"),
        (EmbedConfig(model=f"torchscript:{script[0]}", image_size=32, precision="fp16"), "runs on the CPU"),
    ):
        for function in (load_embedder, check_device):
            with pytest.raises(ValueError, match=message):
                function(config)


def test_auto_says_what_it_took(script: tuple[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "onceseen.embed"):
        embedder = _load(f"torchscript:{script[0]}", image_size=32, device="auto")
    precision = "fp16" if embedder.device == "cuda" else "fp32"
    assert f"runs on {embedder.runs_on} (embed.device: auto)" in caplog.text
    assert embedder.runs_on.startswith(embedder.device)
    assert embedder.runs_on.endswith(f" in {precision}")


class _Small(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Gives its input back; above `capacity` rows it raises torch's own out-of-memory error, as a GPU would."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.sizes: list[int] = []
        self.activations: list[Any] = []
        self.held: list[int] = []

    def forward(self, x: Any) -> Any:
        self.held.append(sum(activation() is not None for activation in self.activations))
        self.sizes.append(len(x))
        assert torch.is_inference_mode_enabled()
        activation = x * 2
        self.activations.append(weakref.ref(activation))
        if len(x) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return activation


def _small_embedder(module: _Small) -> Any:
    forward = TorchForward(module, EmbedConfig(), "cpu")
    return types.SimpleNamespace(embed=lambda batch: unit_rows(forward(batch), None))


def test_torch_out_of_memory_halves_the_batch_with_nothing_held_back() -> None:
    inputs = list(np.random.default_rng(3).normal(size=(11, 6)).astype(np.float32))
    module = _Small(capacity=2)
    found = embed_padded(_small_embedder(module), inputs, 8)
    expected = np.stack(inputs) / np.linalg.norm(np.stack(inputs), axis=1, keepdims=True)
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-6)  # type: ignore[arg-type]
    assert module.sizes == [8, 4, 2, 2, 4, 2, 2, 8, 4, 2, 2]
    assert max(module.held) == 0  # no failed call's activations are alive when a smaller batch is tried


def test_torch_out_of_memory_of_one_picture_is_a_dead_letter() -> None:
    found = embed_padded(_small_embedder(_Small(capacity=0)), [np.ones(3, np.float32)] * 3, 2)
    for one in found:
        assert isinstance(one, SampleError)
        assert one.reason is FailureReason.INFER_ERROR
        assert "OutOfMemoryError" in one.detail


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Any, Path]:
    """open_clip with a tiny architecture registered, and its checkpoint on disk."""
    pytest.importorskip("open_clip", reason="open_clip is not installed: the openclip extra")
    return save_tiny_clip(tmp_path)


def test_openclip_with_a_local_checkpoint(clip: tuple[Any, Path]) -> None:
    model, checkpoint = clip
    config = EmbedConfig(model="openclip:tiny-vit-8", pretrained=str(checkpoint), device="cpu")
    embedder = _load(config.model, pretrained=config.pretrained)
    _check_contract(embedder)
    assert embedder.preprocess(PICTURES[0]).shape == (3, 32, 32)
    assert embedder.spec == describe_embedder(config)
    assert embedder.spec.dimensions == 24
    with torch.inference_mode():
        expected = model.encode_image(torch.from_numpy(_batch(embedder)), normalize=True).numpy()
    np.testing.assert_allclose(embedder.embed(_batch(embedder)), expected, atol=1e-5)


def test_openclip_from_a_folder(clip: tuple[Any, Path], tmp_path: Path) -> None:
    _, checkpoint = clip
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_CLIP, "preprocess_cfg": {}}))
    model = f"openclip:local-dir:{folder}"
    with pytest.raises(ValueError, match="holds 0 checkpoints"):
        describe_embedder(EmbedConfig(model=model))
    (folder / "weights.pth").write_bytes(checkpoint.read_bytes())
    embedder = _load(model)
    named = _load("openclip:tiny-vit-8", pretrained=str(checkpoint))
    assert embedder.spec.weights_hash == named.spec.weights_hash
    np.testing.assert_array_equal(embedder.embed(_batch(embedder)), named.embed(_batch(named)))


def test_openclip_mistakes_are_refused(clip: tuple[Any, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, other)
    cases = [
        ("openclip:tiny-vit-9", "", "knows no architecture 'tiny-vit-9'; did you mean tiny-vit-8"),
        ("openclip:tiny-vit-8", "", "embed.pretrained is ''"),
        ("openclip:ViT-B-32", "laion2b_s34b_b79", "or one of: .*laion2b_s34b_b79k"),
        ("openclip:tiny-vit-8", str(other), "does not load as openclip:tiny-vit-8"),
        (f"openclip:local-dir:{tmp_path}/missing", "", "its configuration cannot be read"),
    ]
    for model, pretrained, message in cases:
        with pytest.raises(ValueError, match=message):
            load_embedder(EmbedConfig(model=model, pretrained=pretrained, device="cpu"))
