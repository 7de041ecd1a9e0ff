"""Text-to-image pipelines of diffusers as a `Generator`.

Any pipeline that takes a prompt and a list of torch generators serves: Stable Diffusion and its kin, SDXL, DiT-like
ones. Nothing stands between the model and the audit: a safety checker is not loaded, a watermarker taken off.

Each picture has a torch generator of its own, on the CPU, seeded with its seed, so that the noise it starts from is the
same in any batch and on any device. What follows is the same arithmetic, but not to the last bit: kernels for another
batch size or device sum in another order. On a CPU in fp32 a picture keeps within one level of 255 when its batch
changes (tests/audit/test_generate.py); in fp16, and over many steps, single pixels may differ by more. With the same
batches, device and versions the pictures are the same bytes.

torch, diffusers and transformers are imported inside functions.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.files import exists, is_directory, is_local, join
from onceseen.generate.weights import weights_hash
from onceseen.quiet import disable_telemetry

_log = logging.getLogger(__name__)
_INDEX = "model_index.json"
_OWN = ("generator", "num_images_per_prompt", "output_type", "prompt", "return_dict")
_PRECISIONS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_CHECKERS = {"safety_checker": None, "requires_safety_checker": False}
_WATERMARKERS = ("watermark", "watermarker")


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How a pipeline is loaded and called. None: the pipeline's own default.

    Attributes:
        device: `auto`, `cpu` or `cuda`; `cuda` fails where there is none, `auto` says what it took.
        dtype: `auto` (fp16 on a GPU, fp32 on the CPU), `fp32`, `fp16` or `bf16`.
        steps: Denoising steps.
        guidance_scale: Weight of classifier-free guidance.
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        options: Further arguments of the pipeline's call, such as `negative_prompt`.
    """

    device: str = "auto"
    dtype: str = "auto"
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks what can be checked without the pipeline.

        Raises:
            ValueError: If a value is out of range, or an option is one that Onceseen gives itself.
        """
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"generate: the device is {self.device!r}; expected auto, cpu or cuda")
        if self.dtype not in ("auto", *_PRECISIONS):
            raise ValueError(f"generate: the dtype is {self.dtype!r}; expected auto, fp32, fp16 or bf16")
        for name in ("steps", "height", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"generate: {name} is {value}; expected 1 or more")
        for name in self.options:
            if name in _OWN:
                raise ValueError(f"generate: the option {name} is given by onceseen itself; leave it out")

    def call_arguments(self) -> dict[str, Any]:
        """What the pipeline is called with, beside prompts and generators."""
        named = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
        }
        return {**{name: value for name, value in named.items() if value is not None}, **self.options}


class DiffusersGenerator:
    """A pipeline of diffusers, from a directory (`save_pretrained`) or from the hub.

    Prompts longer than the text encoder takes (77 tokens for CLIP) are cut by the pipeline, as in training.

    Attributes:
        spec: What the pictures depend on: class, hash of the weights, settings, device and versions.
        runs_on: The device in words, such as `cuda (NVIDIA L4) in fp16`.
    """

    def __init__(self, pipeline: str, settings: PipelineSettings | None = None) -> None:
        """Loads the pipeline. Time and memory: those of its weights, which are hashed once.

        Args:
            pipeline: Local directory with a model_index.json, or `organisation/name` on the hub.
            settings: How it is loaded and called.

        Raises:
            ValueError: If the extra is not installed, the path holds no pipeline, it takes no prompt or not these
                arguments, or the device is not there.
        """
        settings = settings or PipelineSettings()
        _require_extra()
        config = _index_of(pipeline)
        device = _device(settings.device)
        dtype = settings.dtype if settings.dtype != "auto" else ("fp16" if device == "cuda" else "fp32")
        self._arguments = settings.call_arguments()
        self._pipe = _load(pipeline, config, dtype)
        _check_call(pipeline, self._pipe, self._arguments)
        for name in _WATERMARKERS:
            if getattr(self._pipe, name, None) is not None:
                setattr(self._pipe, name, None)
        self.spec = _spec(self._pipe, self._arguments, device, dtype)
        self._pipe.set_progress_bar_config(disable=True)
        self._pipe.to(device)
        self.runs_on = f"{_device_name(device)} in {dtype}"
        _log.info("%s (%s) runs on %s", pipeline, self.spec["pipeline"], self.runs_on)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Makes one picture a prompt; see `Generator`.

        Returns:
            n pictures, (h, w, 3) uint8 RGB.

        Raises:
            RuntimeError: If the batch does not fit into memory, or pixels are no numbers (an fp16 overflow).
            ValueError: If the pipeline refuses its arguments, or gives no pictures or of another size.
        """
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        repeated = {
            name: [value] * len(prompts)
            if name.startswith("negative_prompt") and isinstance(value, str)
            else value
            for name, value in self._arguments.items()
        }
        try:
            with torch.inference_mode(), _exact():
                answer = self._pipe(prompt=list(prompts), generator=generators, output_type="np", **repeated)
        except torch.cuda.OutOfMemoryError as error:
            raise RuntimeError(
                f"a batch of {len(prompts)} pictures does not fit into the GPU's memory; give a smaller --batch-size"
            ) from error
        except (TypeError, ValueError) as error:
            raise ValueError(f"{type(self._pipe).__name__} refuses its arguments: {error}") from error
        pictures = _pixels(getattr(answer, "images", None), type(self._pipe).__name__)
        self._check_size(pictures[0].shape)
        return pictures

    def _check_size(self, shape: tuple[int, ...]) -> None:
        """Refuses another size than was asked for: some pipelines round it.

        Raises:
            ValueError: Saying both.
        """
        wanted = (self._arguments.get("height", shape[0]), self._arguments.get("width", shape[1]))
        if wanted != shape[:2]:
            raise ValueError(
                f"{type(self._pipe).__name__} gave pictures of height {shape[0]} and width {shape[1]}, asked for "
                f"{wanted[0]} and {wanted[1]}; give sizes that it can make, such as multiples of 8"
            )


def _require_extra() -> None:
    missing = [name for name in ("torch", "diffusers", "transformers") if util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"a pipeline needs {', '.join(missing)}, which is not installed; pip install 'onceseen[diffusers]'"
        )
    disable_telemetry()


def _index_of(pipeline: str) -> Mapping[str, Any]:
    """The pipeline's own list of its parts.

    Raises:
        ValueError: If there is none.
    """
    if not is_local(pipeline):
        raise ValueError(
            f"--pipeline {pipeline}: diffusers loads from this machine or the hub; copy it to a local disk"
        )
    if exists(pipeline):
        if not is_directory(pipeline) or not exists(join(pipeline, _INDEX)):
            raise ValueError(
                f"--pipeline {pipeline} is no pipeline: it has no {_INDEX}; expected a directory that "
                "save_pretrained of a diffusers pipeline has written"
            )
    elif pipeline.count("/") != 1 or pipeline.startswith((".", "/")):
        raise ValueError(
            f"--pipeline {pipeline}: there is no such directory; expected one with a {_INDEX}, or a name on the hub "
            "such as organisation/name"
        )
    _silence()
    from diffusers import DiffusionPipeline

    try:
        found: Mapping[str, Any] = DiffusionPipeline.load_config(pipeline)
    except (OSError, ValueError) as error:
        raise ValueError(f"--pipeline {pipeline} cannot be loaded: {_first_lines(error)}") from error
    return found


def _load(pipeline: str, config: Mapping[str, Any], dtype: str) -> Any:  # noqa: ANN401 - one of many classes
    import torch
    from diffusers import DiffusionPipeline

    without = {name: value for name, value in _CHECKERS.items() if name in config}
    try:
        return DiffusionPipeline.from_pretrained(
            pipeline, dtype=getattr(torch, _PRECISIONS[dtype]), low_cpu_mem_usage=_has_accelerate(), **without
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise ValueError(f"--pipeline {pipeline} cannot be loaded: {_first_lines(error)}") from error


def _has_accelerate() -> bool:
    return util.find_spec("accelerate") is not None


def _silence() -> None:
    """No bars while parts are loaded, no advice; errors are raised."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for module in (of_diffusers, of_transformers):
        module.set_verbosity_error()
        module.disable_progress_bar()


def _check_call(pipeline: str, pipe: Any, arguments: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Refuses a pipeline whose call does not take what it will be given.

    Raises:
        ValueError: Naming what it does not take, and what it does.
    """
    taken = inspect.signature(type(pipe).__call__).parameters
    if "prompt" not in taken:
        raise ValueError(
            f"--pipeline {pipeline} is a {type(pipe).__name__}, which takes no prompt; expected a text-to-image "
            "pipeline, or a function of your own by --callable"
        )
    unknown = [name for name in ("generator", "output_type", *arguments) if name not in taken]
    if unknown:  # also where there is a **kwargs: Stable Diffusion's swallows whatever is misspelt
        known = ", ".join(name for name in taken if name not in ("self", "kwargs", *_OWN))
        raise ValueError(
            f"--pipeline {pipeline} is a {type(pipe).__name__}, which takes no {', '.join(unknown)}; it takes: {known}"
        )


def _spec(pipe: Any, arguments: Mapping[str, Any], device: str, dtype: str) -> dict[str, Any]:  # noqa: ANN401
    return {
        "kind": "diffusers",
        "pipeline": type(pipe).__name__,
        "weights_sha256": weights_hash(pipe),
        "device": device,
        "dtype": dtype,
        "arguments": dict(arguments),
        "versions": {name: metadata.version(name) for name in ("diffusers", "torch", "transformers")},
    }


def _device(wanted: str) -> str:
    """`cpu` or `cuda`.

    Raises:
        ValueError: If `cuda` is asked for and not there.
    """
    import torch

    available = bool(torch.cuda.is_available())
    if wanted == "cuda" and not available:
        raise ValueError(
            f"--device is cuda, but torch {torch.__version__} finds no usable GPU; check the driver and that torch was "
            "built for CUDA, or give --device cpu or auto"
        )
    return "cuda" if available and wanted != "cpu" else "cpu"


def _device_name(device: str) -> str:
    import torch

    return f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device


@contextlib.contextmanager
def _exact() -> Iterator[None]:
    """Repeatable kernels: no autotuning between calls, no TF32 in what is called fp32."""
    import torch

    with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _pixels(images: object, name: str) -> list[NDArray[np.uint8]]:
    """Values in [0, 1] as levels, rounded as diffusers rounds them.

    Raises:
        ValueError: If they are no pictures.
        RuntimeError: If some are no numbers.
    """
    found: NDArray[Any] = np.asarray(images)
    if found.dtype.kind != "f" or found.ndim != 4 or found.shape[-1] != 3:
        raise ValueError(
            f"{name} gave {found.dtype} {found.shape}; expected pictures (n, h, w, 3) as floating point"
        )
    if not np.isfinite(found).all():
        raise RuntimeError(
            f"{name} gave pixels that are no numbers: its values overflow; give it another precision by --dtype"
        )
    return list(np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8))


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
