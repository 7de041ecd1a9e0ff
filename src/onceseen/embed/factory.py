"""From `EmbedConfig` to a model."""

from __future__ import annotations

import dataclasses
import logging

from onceseen.core.config import EmbedConfig
from onceseen.embed.onnx_model import OnnxEmbedder, check_onnx_device
from onceseen.embed.openclip import OpenClipEmbedder, describe_openclip
from onceseen.embed.spec import Embedder, EmbedderSpec
from onceseen.embed.torch_device import choose_device, require_modules
from onceseen.embed.torchscript import TorchScriptEmbedder, describe_torchscript

_LOG = logging.getLogger(__name__)


def load_embedder(config: EmbedConfig) -> Embedder | None:
    """Loads the model that the configuration names.

    Args:
        config: The `embed` section.

    Returns:
        The model, or None for `none`.

    Raises:
        ValueError: If the model, a file, an extra or the device is missing or does not fit; with the remedy.
    """
    kind = config.model.partition(":")[0]
    if kind == "none":
        return None
    if kind == "openclip":
        return OpenClipEmbedder(config)
    if kind == "torchscript":
        return TorchScriptEmbedder(config)
    embedder = OnnxEmbedder(config)
    _LOG.info("embed.model %s runs on %s (embed.device: %s)", config.model, embedder.runs_on, config.device)
    return embedder


def describe_embedder(config: EmbedConfig) -> EmbedderSpec | None:
    """The specification of the model that `load_embedder` would load, checked before any work starts.

    Cost: for OpenCLIP, hashing the checkpoint (and downloading it, the first time); for files, loading the model once
    (0.1 s for the bundled one), since a file says only then what it is.

    The device is not looked at, since the workers' machines may have one that this machine lacks: see `check_device`.

    Args:
        config: The `embed` section.

    Returns:
        The specification, or None for `none`.

    Raises:
        ValueError: As `load_embedder`, but for the device.
    """
    if config.model.startswith("openclip:"):
        return describe_openclip(config)
    if config.model.startswith("torchscript:"):
        return describe_torchscript(config)
    if config.model == "none":
        return None
    return OnnxEmbedder(dataclasses.replace(config, device="cpu")).spec


def check_device(config: EmbedConfig) -> None:
    """Checks `embed.device` and `embed.precision` against this machine; for runs whose workers are on it.

    Raises:
        ValueError: If the device is not there, with the remedy.
    """
    kind = config.model.partition(":")[0]
    if kind in ("openclip", "torchscript"):
        require_modules(config, "torch")
        choose_device(config)
    elif kind != "none":
        check_onnx_device(config)
