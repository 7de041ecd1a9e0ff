"""Tests that need a GPU. Without one they are collected and skipped, and say what is missing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny_clip import NAME, save_tiny_clip

DEVICE = "cuda"


def _missing() -> str:
    try:
        import torch
    except ImportError:
        return "torch is not installed: pip install 'onceseen[openclip]'"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device: run this on a machine with an NVIDIA GPU"
    return ""


@pytest.fixture(autouse=True)
def _on_a_gpu() -> Iterator[None]:
    """Skips without a device; afterwards gives its memory back, all of it at hand again."""
    if missing := _missing():
        pytest.skip(missing)
    import torch

    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture
def faiss_on_gpu() -> None:
    """Skips where FAISS was built without CUDA."""
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install 'onceseen[gpu]'")
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip(f"faiss {faiss.__version__} has no CUDA: install onceseen[gpu] in place of onceseen[cpu]")


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, str]:
    """The fields of `EmbedConfig` that name a tiny OpenCLIP model of seeded weights."""
    pytest.importorskip("open_clip", reason="open_clip is not installed: the openclip extra")
    return {"model": f"openclip:{NAME}", "pretrained": str(save_tiny_clip(tmp_path)[1])}
