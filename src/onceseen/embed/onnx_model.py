"""ONNX image models on onnxruntime: the bundled EfficientNet-Lite0, SSCD exports, any other.

The input is read off the file: (n, 3, s, s) or (n, s, s, 3), float or uint8. Float inputs get pixels scaled by
`embed.mean` and `embed.std`; uint8 inputs get raw pixels, since such a model scales them itself.
"""

from __future__ import annotations

import threading
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.core.cores import available_cores
from onceseen.embed.images import ImageInput
from onceseen.embed.spec import EmbedderSpec, InferenceError, inference_error, sha256_hex
from onceseen.embed.vectors import load_reduction, read_model_file, unit_rows, weights_digest
from onceseen.quiet import disable_telemetry

BUNDLED = "efficientnet-lite0"
_BUNDLED_FILE = "efficientnet-lite0-gem.onnx"
_CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {
    "use_tf32": "0",  # the default is 1: float32 would mean 10 bits of mantissa
    "cudnn_conv_algo_search": "HEURISTIC",  # the default times all kernels, and another may win the next time
}
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class OnnxEmbedder:
    """An ONNX model behind the `Embedder` interface; one thread at a time runs it, so that one batch is in memory."""

    def __init__(self, config: EmbedConfig) -> None:
        """Loads the file and looks at its input and output.

        Raises:
            ValueError: If the file is missing or no image model, or the device is not there.
        """
        if config.precision in ("fp16", "bf16"):
            raise ValueError(
                f"embed.precision is {config.precision!r}, but an ONNX file has its precision built in; set auto, "
                f"or export the model itself in {config.precision}"
            )
        self._where = config.model
        weights = _read_weights(config.model)
        self._session, self.device = _open_session(weights, config)
        self.runs_on = self.device
        self._lock = threading.Lock()
        self._input_name, self._fixed_batch, self._input = _image_input(self._session, config)
        self._output_name = self._session.get_outputs()[0].name
        dimensions = self._raw_dimensions()
        self._reduction = load_reduction(config.reduce, dimensions)
        self.spec = EmbedderSpec(
            name=_short_name(config.model),
            weights_hash=weights_digest(sha256_hex(weights), self._reduction),
            dimensions=dimensions if self._reduction is None else self._reduction.dimensions,
            preprocessing=self._input.describe(),
            library=f"onnxruntime {_runtime().__version__}",
        )

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """One picture as the model's input; see `Embedder.preprocess`."""
        return self._input.prepare(rgb)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Unit embeddings of stacked inputs; see `Embedder.embed`."""
        return unit_rows(self._run(batch), self._reduction)

    def _run(self, batch: NDArray[Any]) -> NDArray[Any]:
        size = self._fixed_batch or len(batch)
        if len(batch) == size:
            return self._run_once(batch)
        pieces = []
        for start in range(0, len(batch), size):
            piece = batch[start : start + size]
            padded = np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
            pieces.append(self._run_once(padded)[: len(piece)])
        return np.concatenate(pieces)

    def _run_once(self, batch: NDArray[Any]) -> NDArray[Any]:
        try:
            with self._lock:
                found = self._session.run([self._output_name], {self._input_name: batch})[0]
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise inference_error(error) from error
        output = np.asarray(found)
        if output.ndim < 1 or len(output) != len(batch) or output.dtype.kind != "f":
            raise ValueError(
                f"embed.model {self._where}: its first output has shape {output.shape} and type {output.dtype} for "
                f"{len(batch)} pictures; expected floats, one row a picture"
            )
        return output.reshape(len(batch), -1)

    def _raw_dimensions(self) -> int:
        """The output's width: read off the file where it says, else by embedding one grey picture."""
        shape = self._session.get_outputs()[0].shape
        if len(shape) == 2 and isinstance(shape[1], int):
            return int(shape[1])
        grey = self._input.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))
        try:
            return int(self._run(grey[None]).shape[1])
        except InferenceError as error:
            raise ValueError(f"embed.model {self._where}: it cannot embed a picture: {error}") from error


def _short_name(model: str) -> str:
    kind, _, path = model.partition(":")
    return f"{kind}:{path.rsplit('/', 1)[-1]}" if path else kind


def _read_weights(model: str) -> bytes:
    if model == BUNDLED:
        return resources.files("onceseen.embed").joinpath("weights", _BUNDLED_FILE).read_bytes()
    return read_model_file(model.removeprefix("onnx:"), "embed.model")


def _runtime() -> Any:  # noqa: ANN401 - a module without stubs
    """The onnxruntime module, imported with its event uploader off."""
    disable_telemetry()
    import onnxruntime

    return onnxruntime


def check_onnx_device(config: EmbedConfig) -> bool:
    """Whether CUDA is to be tried.

    Raises:
        ValueError: If `cuda` is asked for and this onnxruntime was built without it.
    """
    available = _CUDA in _runtime().get_available_providers()
    if config.device == "cuda" and not available:
        raise ValueError(
            "embed.device is 'cuda', but this onnxruntime has no CUDA; install onnxruntime-gpu in place of "
            "onnxruntime, or set embed.device to cpu or auto"
        )
    return available and config.device != "cpu"


def _open_session(weights: bytes, config: EmbedConfig) -> tuple[Any, str]:
    """A session, and the device that it really runs on: onnxruntime itself falls back to the CPU without an error."""
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads or available_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # Idle threads would spin and take the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    wanted: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if check_onnx_device(config):
        onnxruntime.preload_dlls()  # CUDA and cuDNN out of their wheels, where the system has none
        wanted.insert(0, (_CUDA, _CUDA_OPTIONS))
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=wanted)
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ValueError(
            f"embed.model {config.model} is not an ONNX model that onnxruntime {onnxruntime.__version__} can load "
            f"(weights must be in the one file): {str(error)[:300]}"
        ) from error
    device = "cuda" if session.get_providers()[0] == _CUDA else "cpu"
    if config.device == "cuda" and device != "cuda":
        raise ValueError(
            "embed.device is 'cuda', but onnxruntime found no usable GPU; look at its warnings above"
        )
    return session, device


def _image_input(session: Any, config: EmbedConfig) -> tuple[str, int, ImageInput]:  # noqa: ANN401 - no stubs
    """Name, fixed batch size (0: free) and layout of the one image input."""
    inputs = session.get_inputs()
    seen = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    expected = (
        f"embed.model {config.model}: expected one image input (n, 3, s, s) or (n, s, s, 3), got {seen}"
    )
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _DTYPES:
        raise ValueError(f"{expected}; its type must be one of {', '.join(_DTYPES)}")
    batch, *rest = (d if isinstance(d, int) and d > 0 else 0 for d in inputs[0].shape)
    if 3 not in (rest[0], rest[2]):
        raise ValueError(f"{expected}; export it with its three colour channels as a fixed axis")
    channels_first = rest[0] == 3
    height, width = rest[1:] if channels_first else rest[:2]
    if height and width and height != width:
        raise ValueError(f"{expected}; the picture must be a square")
    own = height or width
    if own and config.image_size not in (0, own):
        raise ValueError(
            f"embed.image_size is {config.image_size}, but {config.model} takes {own}; leave it at 0"
        )
    side = own or config.image_size
    if not side:
        raise ValueError(
            f"embed.model {config.model} takes pictures of any size; give its side in embed.image_size"
        )
    dtype = _DTYPES[inputs[0].type]
    return inputs[0].name, batch, ImageInput(side, channels_first, dtype, config.mean, config.std)
