"""Where cells are trained and searched: `cells.device`, and FAISS as it is installed."""

from __future__ import annotations

import functools
import logging
from importlib import util
from types import ModuleType
from typing import Any

from onceseen.core.config import CellsConfig

_LOG = logging.getLogger(__name__)


def require_faiss() -> ModuleType:
    """The faiss module.

    Raises:
        RuntimeError: If it is not installed, naming the two extras.
    """
    try:
        import faiss
    except ImportError as error:
        raise RuntimeError(
            "faiss is not installed: pip install 'onceseen[cpu]' (faiss-cpu) or 'onceseen[gpu]' (faiss-gpu), "
            "never both in one environment; or search by hashes only with --config configs/hash-only.yaml"
        ) from error
    return faiss


def search_device(config: CellsConfig) -> str:
    """`cpu` or `cuda`: where the coarse cells are trained and assigned (FAISS) and the codes compared (torch).

    Raises:
        RuntimeError: If FAISS is not installed.
        ValueError: If `cuda` is asked for and something is missing, with the remedy.
    """
    return _resolved(config.device)


@functools.cache  # so that a process says once what it took
def _resolved(device: str) -> str:
    if device == "cpu":
        return device
    missing = _missing_for_cuda()
    if missing and device == "cuda":
        raise ValueError(f"cells.device is 'cuda', but {missing}; or set cells.device to cpu or auto")
    taken = "cpu" if missing else "cuda"
    _LOG.info("cells are searched on %s (cells.device: %s%s)", taken, device, missing and f"; {missing}")
    return taken


def _missing_for_cuda() -> str:
    """What keeps cells from a GPU, with the remedy; empty: nothing."""
    faiss = require_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return f"this faiss {faiss.__version__} was built without CUDA: install onceseen[gpu] in place of onceseen[cpu]"
    if util.find_spec("torch") is None:
        return "torch, which compares the codes there, is not installed: pip install 'onceseen[openclip]'"
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no usable GPU: check the driver, and that torch was built for CUDA"
    if faiss.get_num_gpus() < 1:
        return f"faiss {faiss.__version__} finds no GPU: check the driver"
    return ""


@functools.cache
def faiss_gpu() -> Any:  # noqa: ANN401 - faiss has no stubs
    """FAISS's resources on the GPU, one of a process; for one thread at a time. Takes 256 MB there."""
    resources = require_faiss().StandardGpuResources()
    resources.setTempMemory(256 << 20)  # by default 1.5 GB, which the model may want
    return resources
