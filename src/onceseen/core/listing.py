"""The input listing of a run: the shards of run.json, by number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from onceseen.core.config import ReadConfig
from onceseen.core.config_io import config_from_mapping
from onceseen.core.files import read_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind


def shard_to_json(shard: Shard) -> dict[str, Any]:
    """A shard as run.json has it."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(shard).items()}


def shards_from_json(entries: list[dict[str, Any]]) -> list[Shard]:
    """Shards as run.json has them."""
    return [
        Shard(**{**entry, "kind": ShardKind(entry["kind"]), "files": tuple(entry["files"])})
        for entry in entries
    ]


def read_shards(layout: RunLayout) -> list[Shard]:
    """The input listing of a run, by number."""
    return shards_from_json(read_json(layout.run_json())["shards"])


def read_configs(layout: RunLayout, shards: Iterable[Shard]) -> dict[str, ReadConfig]:
    """How the shards of other runs are read, by `Shard.run`, from their run.json."""
    runs = {shard.run: layout.of(shard).run_json() for shard in shards if shard.run}
    return {run: config_from_mapping(read_json(runs[run])["config"]).read for run in sorted(runs)}
