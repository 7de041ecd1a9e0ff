from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from onceseen.core.config import EmbedConfig
from onceseen.embed import SharedEmbedder, loaded_models


def test_one_process_holds_one_model_whoever_asks(tiny_onnx: Callable[..., str]) -> None:
    config = EmbedConfig(model=f"onnx:{tiny_onnx(['n', 8, 8, 3], 'UINT8')}", device="cpu")
    before = loaded_models()
    handles = [pickle.loads(pickle.dumps(SharedEmbedder(config))) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda handle: handle.get(), handles))
    assert models[0] is not None
    assert len({id(m) for m in models}) == 1
    assert loaded_models() == before + 1


def test_handle_stays_small_after_loading(tiny_onnx: Callable[..., str]) -> None:
    shared = SharedEmbedder(EmbedConfig(model=f"onnx:{tiny_onnx(['n', 8, 8, 3], 'UINT8')}", device="cpu"))
    shared.get()
    assert len(pickle.dumps(shared)) < 10_000


def test_none_and_mistakes() -> None:
    assert SharedEmbedder(EmbedConfig(model="none")).get() is None
    broken = SharedEmbedder(EmbedConfig(model="onnx:does-not-exist.onnx"))
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be read"):
            broken.get()
