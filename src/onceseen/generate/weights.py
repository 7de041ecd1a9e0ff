"""One hash of all that a pipeline has learned, so that a model trained again is not taken for the one before."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def weights_hash(pipe: Any) -> str:  # noqa: ANN401 - one of diffusers' many classes
    """SHA-256 over the parts of a pipeline: names, classes, parameters and buffers as loaded, and settings.

    It does not depend on where the pipeline lies, nor on the format of its files; it does on the precision. Cost: a
    second or less a gigabyte; memory: one tensor's copy.

    Args:
        pipe: A pipeline of diffusers, on any device.

    Returns:
        64 hex digits.
    """
    import torch

    digest = hashlib.sha256()
    for name, part in sorted(pipe.components.items()):
        digest.update(f"{name} {type(part).__name__}\n".encode())
        if isinstance(part, torch.nn.Module):
            for key, tensor in sorted(part.state_dict().items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif hasattr(part, "get_vocab"):
            digest.update(_plain(part.get_vocab()))
        elif hasattr(part, "config"):
            # names with a line before them say where it came from, and which version wrote it
            shown = {k: v for k, v in dict(part.config).items() if not k.startswith("_")}
            digest.update(_plain(shown))
    return digest.hexdigest()


def _plain(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()
