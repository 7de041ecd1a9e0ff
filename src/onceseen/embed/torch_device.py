"""What the torch models share: the device, the precision, and one forward pass.

torch is imported inside the functions: without the `openclip` extra only these models are missing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata, util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.embed.spec import DeviceError, inference_error

_LOG = logging.getLogger(__name__)


def require_modules(config: EmbedConfig, *modules: str) -> None:
    """Refuses a model whose extra is not installed.

    Raises:
        ValueError: If a module is missing; the message says what to install.
    """
    missing = [name for name in modules if util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"embed.model {config.model} needs {', '.join(missing)}, which is not installed; "
            "pip install 'onceseen[openclip]'"
        )


def library_versions(*distributions: str) -> str:
    """Names and versions, for the specification."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in distributions)


def choose_device(config: EmbedConfig) -> str:
    """`cpu` or `cuda`: what the model will really run on.

    Raises:
        ValueError: If `cuda` is asked for and not there, or the precision does not go with the device.
    """
    import torch

    available = bool(torch.cuda.is_available())
    if config.device == "cuda" and not available:
        raise ValueError(
            f"embed.device is 'cuda', but torch {torch.__version__} finds no usable GPU; check the driver and that "
            "torch was built for CUDA, or set embed.device to cpu or auto"
        )
    device = "cuda" if available and config.device != "cpu" else "cpu"
    if device == "cpu" and config.precision == "fp16":
        raise ValueError(
            f"embed.precision is 'fp16', but the model runs on the CPU (embed.device {config.device!r}); "
            "set embed.precision to auto, fp32 or bf16"
        )
    return device


def precision_name(config: EmbedConfig, device: str) -> str:
    """The precision that `auto` stands for: fp16 on a GPU, fp32 on the CPU."""
    if config.precision != "auto":
        return config.precision
    return "fp16" if device == "cuda" else "fp32"


class TorchForward:
    """A forward pass in inference mode and the wanted precision, from host to host, float32 out.

    On a GPU the input goes through pinned memory, without blocking, on a stream of its own; the result comes back once
    a batch. A lock lets one thread at a time start the model, so that activations of one batch alone are on the device;
    a second thread meanwhile copies the next batch, and waits for nothing but the lock.

    Attributes:
        runs_on: The device in words, such as `cuda (NVIDIA L4) in fp16`.
    """

    def __init__(self, function: Callable[[Any], Any], config: EmbedConfig, device: str) -> None:
        """Keeps the function from an input tensor to an output tensor (n, ...)."""
        import torch

        self._function = function
        self._device = device
        self._precision = precision_name(config, device)
        self._lock = threading.Lock()
        self._copies = torch.cuda.Stream() if device == "cuda" else None
        if config.threads and device == "cpu":
            torch.set_num_threads(config.threads)
        name = f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device
        self.runs_on = f"{name} in {self._precision}"
        _LOG.info("embed.model %s runs on %s (embed.device: %s)", config.model, self.runs_on, config.device)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Runs the model on (n, ...) inputs and returns its output (n, D), float32.

        Raises:
            InferenceError: If torch fails.
            DeviceError: If the GPU itself has failed.
            ValueError: If the output is not one tensor with a row a picture.
        """
        import torch

        try:
            found = self._run(batch)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            # Its frames hold the batch and its activations on the device.
            traceback.clear_frames(error.__traceback__)
            failure = inference_error(error)
            if self._device == "cuda" and not isinstance(failure, DeviceError):
                torch.cuda.empty_cache()
            raise failure from error
        if not isinstance(found, np.ndarray) or found.ndim < 1 or len(found) != len(batch):
            got = f"shape {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise ValueError(
                f"the model's output is {got} for {len(batch)} pictures; expected a tensor, one row each"
            )
        return found.reshape(len(found), -1)

    def _run(self, batch: NDArray[Any]) -> object:
        """The output on the host, or what the model returned instead of a tensor."""
        import torch

        with torch.inference_mode():
            moved, arrived = self._to_device(batch)
            with self._lock, self._exact(), self._autocast():
                if arrived is not None:
                    torch.cuda.current_stream().wait_event(arrived)
                found = self._function(moved)
                if isinstance(found, torch.Tensor):
                    found = found.float()
            # Outside the lock: while this waits for the device, the next batch is being started.
            return found.cpu().numpy() if isinstance(found, torch.Tensor) else found

    def _to_device(self, batch: NDArray[Any]) -> tuple[Any, Any]:
        """The batch as a tensor on the device, and the event after which it is there (None: it is there)."""
        import torch

        host = torch.from_numpy(batch)
        if self._copies is None:
            return host, None
        with torch.cuda.stream(self._copies):
            moved = host.pin_memory().to(self._device, non_blocking=True)
            arrived = self._copies.record_event()
        # The memory was taken on the copying stream and is read on this thread's: it must outlive that.
        moved.record_stream(torch.cuda.current_stream())
        return moved, arrived

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        if self._precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.float16 if self._precision == "fp16" else torch.bfloat16
        context: contextlib.AbstractContextManager[Any] = torch.autocast(self._device, dtype=dtype)
        return context

    @contextlib.contextmanager
    def _exact(self) -> Iterator[None]:
        """Repeatable kernels: no autotuning between calls, no TF32 in what is called fp32."""
        import torch

        with (
            torch.jit.optimized_execution(False),  # else a script's third call is compiled anew
            torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
