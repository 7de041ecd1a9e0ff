"""TorchScript files, such as SSCD's: anything that takes (n, 3, s, s) floats and returns one tensor."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.embed.images import ImageInput
from onceseen.embed.spec import EmbedderSpec, InferenceError, sha256_hex
from onceseen.embed.torch_device import TorchForward, choose_device, library_versions, require_modules
from onceseen.embed.vectors import load_reduction, read_model_file, unit_rows, weights_digest


class TorchScriptEmbedder:
    """A TorchScript model behind the `Embedder` interface."""

    def __init__(self, config: EmbedConfig) -> None:
        """Loads the file and embeds one grey picture to learn the dimensions.

        Raises:
            ValueError: If torch or the file is missing, it is no such model, or the device is not there.
        """
        require_modules(config, "torch")
        path = config.model.removeprefix("torchscript:")
        weights = read_model_file(path, "embed.model")
        if not config.image_size:
            raise ValueError(
                f"embed.image_size is 0, and {config.model} does not say what size it takes; set it (SSCD: 288 or 320)"
            )
        self.device = choose_device(config)
        self._input = _image_input(config)
        self._forward = TorchForward(_load_script(weights, config, self.device), config, self.device)
        self.runs_on = self._forward.runs_on
        grey = self._input.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))
        try:
            dimensions = int(self._forward(grey[None]).shape[1])
        except InferenceError as error:
            raise ValueError(
                f"embed.model {config.model} cannot embed a picture of {config.image_size} pixels: {error}"
            ) from error
        self._reduction = load_reduction(config.reduce, dimensions)
        self.spec = EmbedderSpec(
            name=f"torchscript:{path.rsplit('/', 1)[-1]}",
            weights_hash=weights_digest(sha256_hex(weights), self._reduction),
            dimensions=dimensions if self._reduction is None else self._reduction.dimensions,
            preprocessing=_preprocessing(self._input, config),
            library=library_versions("torch"),
        )

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[Any]:
        """One picture as the model's input; see `Embedder.preprocess`."""
        return self._input.prepare(rgb)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Unit embeddings of stacked inputs; see `Embedder.embed`."""
        return unit_rows(self._forward(batch), self._reduction)


def describe_torchscript(config: EmbedConfig) -> EmbedderSpec:
    """The specification, found by loading the file on the CPU whatever the device will be.

    Raises:
        ValueError: As `TorchScriptEmbedder`, but for the device.
    """
    spec = TorchScriptEmbedder(dataclasses.replace(config, device="cpu", precision="fp32")).spec
    return dataclasses.replace(spec, preprocessing=_preprocessing(_image_input(config), config))


def _image_input(config: EmbedConfig) -> ImageInput:
    return ImageInput(config.image_size, True, "float32", config.mean, config.std)


def _preprocessing(image_input: ImageInput, config: EmbedConfig) -> str:
    return f"{image_input.describe()}, precision {config.precision}"


def _load_script(weights: bytes, config: EmbedConfig, device: str) -> Any:  # noqa: ANN401 - a script module
    import torch

    try:
        return torch.jit.load(io.BytesIO(weights), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(
            f"embed.model {config.model} is not a TorchScript file that torch {torch.__version__} can load; "
            f"save one with torch.jit.script(model).save(path): {str(error)[:300]}"
        ) from error
