"""A tiny OpenCLIP model of seeded weights, registered with open_clip and saved where a test asks: no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "tiny-vit-8"
TINY_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def seeded(module: Any) -> Any:
    """A torch module with weights that are the same every time, ready to infer."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


def save_tiny_clip(directory: Path) -> tuple[Any, Path]:
    """Registers the architecture, and saves a checkpoint.

    Returns:
        The model on the CPU, and the checkpoint's path.
    """
    import open_clip
    import torch

    (directory / f"{NAME}.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(directory / f"{NAME}.json")
    model = seeded(open_clip.create_model(NAME))
    checkpoint = directory / "tiny.pt"
    torch.save(model.state_dict(), checkpoint)
    return model, checkpoint
