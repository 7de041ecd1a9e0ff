"""The run that is searched or appended to: opened, and refused where it cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onceseen.core.config import PipelineConfig, ScanConfig
from onceseen.core.config_io import config_from_mapping, config_to_mapping, load_config
from onceseen.core.files import plain_path, real_path
from onceseen.core.layout import RunLayout
from onceseen.core.listing import shards_from_json
from onceseen.core.records import Shard
from onceseen.jobs.state import DONE, RunState

_SAME = {
    "fingerprint": ("blank_std", "trim_borders"),
    "read": ("window",),
}
"""Settings by which fingerprints of two sets can be compared; the embedder is told apart by its weights' hash."""


@dataclass(frozen=True, slots=True)
class ReferenceRun:
    """A finished run.

    Attributes:
        layout: Where it is.
        shards: Its shards, each saying which run holds its features: this one, or an older one it was appended to.
        config: Its resolved configuration.
        model: Its embedding model; None for hashes only.
        match: Fingerprint of its match job.
        crawls: First shard number of each later crawl, where it was appended to another run.
    """

    layout: RunLayout
    shards: tuple[Shard, ...]
    config: PipelineConfig
    model: Mapping[str, Any] | None
    match: str
    crawls: tuple[int, ...] = ()

    @property
    def next_number(self) -> int:
        """The first shard number that is free."""
        return max((shard.number for shard in self.shards), default=-1) + 1


def open_reference(path: str) -> ReferenceRun:
    """Opens a finished run.

    Raises:
        ValueError: If there is none, its match job is not finished, or it is of another schema version.
    """
    layout = RunLayout.at(real_path(plain_path(path)))
    try:
        state = RunState.load(layout)
    except ValueError as error:
        raise ValueError(f"--reference {path} cannot be used: {error}") from error
    if state is None:
        raise ValueError(
            f"--reference {path} is no run: it has no run.json; expected the --output of a finished `onceseen dedup`"
        )
    status, fingerprint = state.job("match")
    if status != DONE:
        raise ValueError(
            f"--reference {path} is not finished: its match job is {status or 'not started'!r}; run the same "
            "`onceseen dedup` again to finish it"
        )
    listed = shards_from_json(state.content["shards"])
    shards = tuple(replace(shard, run=layout.of(shard).root) for shard in listed)
    config = config_from_mapping(state.content["config"])
    crawls = tuple(state.content.get("crawls", ()))
    return ReferenceRun(layout, shards, config, state.content["model"], fingerprint, crawls)


def check_comparable(
    reference: ReferenceRun, config: PipelineConfig, model: Mapping[str, Any] | None
) -> None:
    """Makes sure that queries are fingerprinted and embedded as the reference was.

    Raises:
        ValueError: Naming what differs.
    """
    different = []
    if model != reference.model:
        names = [(m or {}).get("name", "none") for m in (reference.model, model)]
        different.append(
            f"embed.model is {names[1]}, the reference was embedded by {names[0]}"
            + (" with other weights or preprocessing" if names[0] == names[1] else "")
        )
    own, other = config_to_mapping(config), config_to_mapping(reference.config)
    for section, keys in _SAME.items():
        for key in keys:
            if own[section][key] != other[section][key]:
                different.append(
                    f"{section}.{key} is {own[section][key]!r}, {other[section][key]!r} in the reference"
                )
    if different:
        raise ValueError(
            f"the queries cannot be compared with {reference.layout.root}: {'; '.join(different)}. Leave these "
            "settings to the reference, or give the path of the same weights by --set embed.model=..."
        )


def scan_config(
    reference: ReferenceRun, path: str | None, overrides: Sequence[str], policy: str
) -> PipelineConfig:
    """The reference's configuration, with a file's settings, `section.key=value` and a policy above it.

    Where jobs run is never taken from the reference.

    Raises:
        ValueError: If a setting is unknown or out of range.
    """
    base = config_to_mapping(reference.config)
    for section in ("runner", "scan", "write", "keep", "audit"):
        base.pop(section)
    base["cells"]["centroids"] = reference.layout.centroids() if reference.config.cells.enabled else ""
    base["cells"]["recall_samples"] = 0
    # cells rank by a bound; twice as many as are compared leave room for the order by the cosine itself
    base["cells"]["neighbors"] = min(base["cells"]["neighbors"], 2 * ScanConfig().neighbors)
    policies = [f"scan.policy={policy}"] if policy else []
    return load_config(path, [*overrides, *policies], base)
