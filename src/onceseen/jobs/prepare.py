"""What a command looks at before it works: settings, model, runner, the stores, and what its directory holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onceseen.core.config import PipelineConfig
from onceseen.core.cores import available_cores
from onceseen.core.files import remove, remove_temporaries
from onceseen.core.layout import RunLayout
from onceseen.core.remote import use_beam_options
from onceseen.embed import EmbedderSpec, check_device, describe_embedder
from onceseen.jobs.checks import check_unused
from onceseen.jobs.remote_checks import check_remote
from onceseen.jobs.runner import Runner
from onceseen.jobs.state import RunState
from onceseen.neighbors import require_faiss, search_device


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found.

    Attributes:
        config: With the cores shared among local worker processes.
        model: The embedder's specification; None for hashes only.
        runner: Where jobs run.
    """

    config: PipelineConfig
    model: EmbedderSpec | None
    runner: Runner


def prepare(config: PipelineConfig, sources: Sequence[str], output: str) -> Prepared:
    """Opens stores by the config's options, and refuses what cannot run.

    Args:
        config: All sections.
        sources: What is read, a reference included.
        output: What is written.

    Raises:
        ValueError: A model, device, library or runner that is not there, or a path that its workers cannot see.
        CheckError: A store that cannot be reached.
    """
    config = _with_threads(config)
    use_beam_options([f"--{option}" for option in config.runner.options])
    model = describe_embedder(config.embed)
    _check_models(config, model)
    runner = Runner(config.runner)
    runner.check_name()
    check_remote(runner, sources, output)
    if runner.is_local:
        check_device(config.embed)
    return Prepared(config, model, runner)


def state_there(layout: RunLayout, kind: str, *, overwrite: bool) -> RunState | None:
    """The state of the run or scan that a directory holds, without what a killed one left half-written.

    Args:
        layout: The directory.
        kind: `dedup`, `scan` or `audit`.
        overwrite: Whether all that such a command writes is removed first, and nothing else that may be there.

    Raises:
        ValueError: If the directory holds something else.
    """
    check_unused(layout, kind)
    if overwrite:
        last = layout.run_json()  # until it is gone, the rest is known as a run's
        for path in (*(p for p in layout.everything(kind) if p != last), last):
            remove(path)
    state = RunState.load(layout, kind)
    if state is not None and state.is_running:
        remove_temporaries(layout.root)
    return state


def _with_threads(config: PipelineConfig) -> PipelineConfig:
    """Shares the cores among several local worker processes; threads are not part of any fingerprint."""
    workers = config.runner.workers
    if workers <= 1 or not Runner(config.runner).is_local:
        return config
    each = max(1, available_cores() // workers)
    return replace(
        config,
        fingerprint=replace(config.fingerprint, threads=config.fingerprint.threads or each),
        embed=replace(config.embed, threads=config.embed.threads or each),
    )


def _check_models(config: PipelineConfig, model: EmbedderSpec | None) -> None:
    """What the later jobs need is looked for now, not after hours of extraction."""
    if config.cells.enabled:
        if model is None:
            raise ValueError(
                "embed.model is none, but cells.enabled is true: cells search embeddings; set cells.enabled: false "
                "(as configs/hash-only.yaml does) or name a model"
            )
        require_faiss()
        search_device(config.cells)
