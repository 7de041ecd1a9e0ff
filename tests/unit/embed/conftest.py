"""Photographs for the models, and tiny models of every kind, made where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

PHOTOS = Path(__file__).resolve().parents[3] / "examples" / "photos"


@pytest.fixture(scope="session")
def photographs() -> list[NDArray[np.uint8]]:
    """Six of the bundled photographs, RGB."""
    names = ("animal-bison", "detail-nagoya", "farm-owl", "home-metro", "nature-bee", "monument-petra")
    return [cv2.cvtColor(cv2.imread(str(PHOTOS / f"{n}.jpg")), cv2.COLOR_BGR2RGB) for n in names]


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Callable[..., str]:
    """Writes a tiny ONNX model (mean and maximum of each channel: 6-d) and returns its path."""
    onnx = pytest.importorskip("onnx", reason="tiny ONNX models are made with the onnx package (dev extra)")

    def write(shape: list[Any], dtype: str = "FLOAT", name: str = "tiny.onnx", inputs: int = 1) -> str:
        helper, types = onnx.helper, onnx.TensorProto
        axes = [2, 3] if shape[1] == 3 else [1, 2]
        nodes = [
            helper.make_node("Cast", ["images"], ["x"], to=types.FLOAT),
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
            helper.make_node("ReduceMax", ["x"], ["max"], axes=axes, keepdims=0),
            helper.make_node("Concat", ["mean", "max"], ["y"], axis=1),
        ]
        values = [helper.make_tensor_value_info("images", getattr(types, dtype), shape)]
        values += [helper.make_tensor_value_info(f"more{i}", types.FLOAT, [1]) for i in range(inputs - 1)]
        output = helper.make_tensor_value_info("y", types.FLOAT, [shape[0], None])
        model = helper.make_model(
            helper.make_graph(nodes, "tiny", values, [output]), opset_imports=[helper.make_opsetid("", 13)]
        )
        model.ir_version = 8
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return str(path)

    return write
