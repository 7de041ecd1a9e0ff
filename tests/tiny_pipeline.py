"""A tiny Stable Diffusion of seeded weights, saved where a test asks: real classes of diffusers, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_clip import seeded

WORDS = ("a", "cat", "dog", "fox", "red", "on", "the", "mat")
_TOKENS = 12


def tiny_tokenizer(directory: Path) -> Any:
    """A CLIP tokenizer that knows some words whole and spells the others."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    merges: list[str] = []
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = f"{parts[-2]} {parts[-1]}"
            parts[-2:] = [parts[-2] + parts[-1]]
            if merge not in merges:
                merges.append(merge)
                tokens.append(parts[-1])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    directory.mkdir(parents=True)
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer(
        str(directory / "vocab.json"), str(directory / "merges.txt"), model_max_length=_TOKENS
    )


def save_tiny_pipeline(directory: Path, *, safety_checker: bool = False) -> Path:
    """Saves a pipeline for pictures of 32 x 32 pixels.

    Args:
        directory: Where it is saved, as `pipeline`.
        safety_checker: Whether it has a safety checker.

    Returns:
        Its path.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = tiny_tokenizer(directory / "vocabulary")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=_TOKENS, projection_dim=16, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=8, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 16), norm_num_groups=8, latent_channels=4, sample_size=32,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    encoder, unet = seeded(CLIPTextModel(text)), seeded(unet)
    for name, parameter in [*encoder.named_parameters(), *unet.named_parameters()]:
        if name.endswith("final_layer_norm.weight") or "attn2.to_v" in name or "attn2.to_out" in name:
            parameter.data.mul_(5)  # so that the prompt can be seen
    pipe = StableDiffusionPipeline(
        vae=seeded(vae), text_encoder=encoder, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(num_train_timesteps=100, clip_sample=False, steps_offset=1),
        safety_checker=_checker() if safety_checker else None,
        feature_extractor=_extractor() if safety_checker else None,
        requires_safety_checker=safety_checker,
    )  # fmt: skip
    path = directory / "pipeline"
    pipe.save_pretrained(path)
    return path


def _checker() -> Any:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 16, "projection_dim": 16}
    return StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16))


def _extractor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32})
