"""One model a process, however many bundles, threads and DoFns ask for it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from onceseen.core.config import EmbedConfig
from onceseen.core.metrics import counter
from onceseen.embed.factory import load_embedder
from onceseen.embed.spec import Embedder

_LOCK = threading.Lock()
_LOADED: dict[tuple[int, EmbedConfig], Embedder | None] = {}


@dataclass(frozen=True, slots=True)
class SharedEmbedder:
    """A handle on the process's one model of a configuration; pickles to the configuration alone (under 1 KB).

    The model is loaded by the first `get` in a process and held until the process ends. A forked child loads its own:
    neither onnxruntime's threads nor a CUDA context outlive a fork.

    Attributes:
        config: The `embed` section.
    """

    config: EmbedConfig

    def get(self) -> Embedder | None:
        """The model, loaded if this process has not done so; None for `none`.

        Loads are counted as `embed/loads`, and what they run on as `embed/device/<device>`.

        Raises:
            ValueError: As `load_embedder`; the next call tries again.
        """
        key = (os.getpid(), self.config)
        with _LOCK:
            if key not in _LOADED:
                embedder = load_embedder(self.config)
                _LOADED[key] = embedder
                if embedder is not None:
                    counter("embed/loads").inc()
                    counter(f"embed/device/{embedder.device}").inc()
            return _LOADED[key]


def loaded_models() -> int:
    """How many models this process holds."""
    with _LOCK:
        return sum(pid == os.getpid() and model is not None for (pid, _), model in _LOADED.items())
