from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onceseen.core.config import EmbedConfig
from onceseen.embed import BadRowsError, EmbedderSpec, describe_embedder, load_embedder
from onceseen.embed.vectors import load_reduction, unit_rows

RNG = np.random.default_rng(11)


def _save(path: Path, **arrays: np.ndarray) -> str:  # type: ignore[type-arg]
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_reduction_comes_before_the_norm(tmp_path: Path) -> None:
    mean, matrix = RNG.normal(size=8), RNG.normal(size=(8, 3))
    reduction = load_reduction(_save(tmp_path / "r.npz", mean=mean, matrix=matrix), 8)
    raw = RNG.normal(size=(5, 8)).astype(np.float32)
    expected = (raw.astype(np.float64) - mean) @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(unit_rows(raw, reduction), expected, atol=1e-6)
    np.testing.assert_array_equal(unit_rows(raw, reduction)[2:3], unit_rows(raw[2:3], reduction))
    assert unit_rows(raw[:0], reduction).shape == (0, 3)


def test_bad_rows_carry_the_good_ones() -> None:
    raw = np.eye(4, dtype=np.float32)
    raw[1, 0] = np.nan
    raw[2] = 0
    with pytest.raises(BadRowsError) as caught:
        unit_rows(raw, None)
    assert caught.value.rows == (1, 2)
    np.testing.assert_array_equal(caught.value.vectors[[0, 3]], np.eye(4)[[0, 3]])


def test_reduction_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    zeros = np.zeros(8)
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    cases = {
        str(tmp_path / "missing.npz"): "embed.reduce: .* cannot be read",
        str(text): "not an .npz file",
        _save(tmp_path / "names.npz", mean=zeros): "not an .npz file with the arrays",
        _save(tmp_path / "shape.npz", mean=zeros, matrix=np.zeros((7, 3))): "expected mean \\(8,\\)",
        _save(tmp_path / "wide.npz", mean=zeros, matrix=np.zeros((8, 9))): "keep 1 to 8 dimensions",
        _save(tmp_path / "nan.npz", mean=zeros * np.nan, matrix=np.zeros((8, 3))): "must be finite",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            load_reduction(path, 8)


def test_a_reduced_model_has_another_specification(tmp_path: Path, tiny_onnx: Callable[..., str]) -> None:
    model = f"onnx:{tiny_onnx(['n', 8, 8, 3], 'UINT8')}"
    path = _save(tmp_path / "r.npz", mean=np.full(6, 40.0), matrix=np.eye(6)[:, :2])
    reduced, plain = EmbedConfig(model=model, reduce=path), EmbedConfig(model=model)
    spec, whole = describe_embedder(reduced), describe_embedder(plain)
    assert spec is not None
    assert whole is not None
    assert (spec.dimensions, whole.dimensions) == (2, 6)
    assert spec.weights_hash != whole.weights_hash
    embedder = load_embedder(reduced)
    assert embedder is not None
    assert embedder.spec == spec == EmbedderSpec.from_json(spec.to_json())
    vectors = embedder.embed(RNG.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
