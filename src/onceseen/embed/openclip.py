"""OpenCLIP models: any architecture, with a checkpoint from the hub or from disk.

    openclip:ViT-B-32 + pretrained: laion2b_s34b_b79k      a tag: downloaded once, by open_clip itself
    openclip:ViT-B-32 + pretrained: weights/clip.pt        a local checkpoint: no network
    openclip:local-dir:FOLDER                              a folder with open_clip_config.json and one checkpoint
    openclip:hf-hub:ORGANISATION/NAME                      configuration and checkpoint from the hub

Without a checkpoint the weights would be random; that is refused.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.core.files import is_local
from onceseen.embed.spec import EmbedderSpec
from onceseen.embed.torch_device import TorchForward, choose_device, library_versions, require_modules
from onceseen.embed.vectors import load_reduction, unit_rows, weights_digest
from onceseen.quiet import disable_telemetry

_LOG = logging.getLogger(__name__)
_LOCAL_DIR = "local-dir:"
_HUB = "hf-hub:"
_CHECKPOINTS = (".safetensors", ".bin", ".pth")  # those that open_clip itself looks for in a folder


class OpenClipEmbedder:
    """The image tower of an OpenCLIP model behind the `Embedder` interface."""

    def __init__(self, config: EmbedConfig) -> None:
        """Builds the model and loads its checkpoint.

        Raises:
            ValueError: As `describe_openclip`, or if the checkpoint does not fit the architecture.
        """
        self.spec = describe_openclip(config)
        import open_clip

        self.device = choose_device(config)
        try:
            model, _, self._transform = open_clip.create_model_and_transforms(
                _architecture(config),
                pretrained=config.pretrained or None,
                precision="fp32",
                device=self.device,
                require_pretrained=True,  # else open_clip only warns, and the weights are random
            )
        except (RuntimeError, KeyError, OSError) as error:
            raise ValueError(
                f"embed.pretrained {config.pretrained!r} does not load as {config.model}; is it a checkpoint of "
                f"that very architecture? {str(error)[:300]}"
            ) from error
        self._forward = TorchForward(model.eval().encode_image, config, self.device)
        self.runs_on = self._forward.runs_on
        self._reduction = load_reduction(config.reduce, _dimensions(config))

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """One picture through the model's own transform (PIL); see `Embedder.preprocess`."""
        from PIL import Image

        return np.ascontiguousarray(self._transform(Image.fromarray(rgb, "RGB")).numpy(), dtype=np.float32)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Unit embeddings of stacked inputs; see `Embedder.embed`."""
        return unit_rows(self._forward(batch), self._reduction)


def describe_openclip(config: EmbedConfig) -> EmbedderSpec:
    """The specification, without building the model; a hub checkpoint is downloaded, since its hash is part of it.

    Raises:
        ValueError: If the extra is missing, or the architecture or the checkpoint is unknown or missing.
    """
    require_modules(config, "torch", "open_clip")
    architecture = _architecture(config)
    dimensions = _dimensions(config)
    checkpoint = _find_checkpoint(config, architecture)
    reduction = load_reduction(config.reduce, dimensions)
    architecture_name = architecture.rstrip("/").rsplit("/", 1)[-1].removeprefix(_LOCAL_DIR)
    source = f"{architecture_name}/{_checkpoint_name(config, checkpoint)}"
    return EmbedderSpec(
        name=f"openclip:{source}",
        weights_hash=weights_digest(_hash_file(checkpoint), reduction),
        dimensions=dimensions if reduction is None else reduction.dimensions,
        preprocessing=f"open_clip's own transform of {source}, precision {config.precision}",
        library=library_versions("open_clip_torch", "torch"),
    )


def _architecture(config: EmbedConfig) -> str:
    name = config.model.removeprefix("openclip:")
    return name if name.startswith((_LOCAL_DIR, _HUB)) else name.replace("/", "-")


def _dimensions(config: EmbedConfig) -> int:
    """Dimensions of the joint space, from the architecture's configuration."""
    disable_telemetry()
    import open_clip

    architecture = _architecture(config)
    try:
        found = open_clip.get_model_config(architecture)
    except (OSError, ValueError) as error:
        raise ValueError(f"embed.model {config.model}: its configuration cannot be read: {error}") from error
    if found is None:
        import difflib

        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "open_clip.list_models() lists those that there are"
        )
        raise ValueError(
            f"embed.model {config.model}: open_clip knows no architecture {architecture!r}; {hint}"
        )
    return int(found["embed_dim"])


def _find_checkpoint(config: EmbedConfig, architecture: str) -> Path:
    """The checkpoint's file, downloaded by open_clip where it is a tag or on the hub."""
    from open_clip import pretrained

    if architecture.startswith(_LOCAL_DIR):
        return _only_checkpoint(config, Path(architecture.removeprefix(_LOCAL_DIR)))
    if architecture.startswith(_HUB):
        return Path(
            _download(config, pretrained.download_pretrained_from_hf, architecture.removeprefix(_HUB))
        )
    tag = pretrained.get_pretrained_cfg(architecture, config.pretrained)
    if tag:
        return Path(_download(config, pretrained.download_pretrained, tag))
    if config.pretrained and os.path.isfile(config.pretrained):
        return Path(config.pretrained)
    if not is_local(config.pretrained):
        raise ValueError(
            f"embed.pretrained is {config.pretrained}, but OpenCLIP loads checkpoints from disk; expected a local "
            "path: copy it to every worker's machine, or into its image (infra/docker)"
        )
    tags = ", ".join(pretrained.list_pretrained_tags_by_model(architecture)) or "none"
    raise ValueError(
        f"embed.pretrained is {config.pretrained!r}: neither a file nor a checkpoint that open_clip knows for "
        f"{architecture}; give the path of a checkpoint, or one of: {tags}"
    )


def _download(config: EmbedConfig, function: Any, argument: object) -> str:  # noqa: ANN401 - open_clip's functions
    try:
        return str(function(argument))
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the checkpoint of {config.model} {config.pretrained} cannot be downloaded: {str(error)[:300]}; "
            "give the path of a local checkpoint in embed.pretrained"
        ) from error


def _only_checkpoint(config: EmbedConfig, folder: Path) -> Path:
    found = sorted(p for p in folder.glob("*") if p.suffix in _CHECKPOINTS)
    if len(found) != 1:
        raise ValueError(
            f"embed.model {config.model}: {folder} holds {len(found)} checkpoints "
            f"({', '.join(p.name for p in found) or 'none'}); expected exactly one of {', '.join(_CHECKPOINTS)}"
        )
    return found[0]


def _checkpoint_name(config: EmbedConfig, checkpoint: Path) -> str:
    named = config.pretrained and not os.path.isfile(config.pretrained)
    return config.pretrained if named else checkpoint.name


def _hash_file(path: Path) -> str:
    """SHA-256 of a checkpoint of any size."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
