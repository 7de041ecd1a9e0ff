"""RUN/run.json: what a run was made of and how far it is; and the fingerprints that say what must be done again.

A job's fingerprint is a hash of the input, of the config sections it depends on, and of the job before it. Runner,
worker, thread and path options are never in it: they change where work is done, not what comes out.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from typing import Any

import onceseen
from onceseen.core.config import PipelineConfig, VerifyConfig
from onceseen.core.config_io import config_to_mapping
from onceseen.core.files import read_bytes, read_json_if_there, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.listing import shard_to_json
from onceseen.core.records import Shard
from onceseen.core.schemas import SCHEMA_VERSION
from onceseen.verify import load_calibration

JOBS = ("extract", "match", "rewrite")
RUNNING, DONE = "running", "done"
DEDUP, SCAN, AUDIT = "dedup", "scan", "audit"

_EXTRACT_KEYS = {
    "read": (
        "key_column",
        "image_column",
        "caption_column",
        "meta_columns",
        "max_pixels",
        "max_bytes",
        "folder_split",
        "window",
    ),
    "fingerprint": ("blank_std", "trim_borders", "minhash_permutations"),
    # The model itself is in by its weights' hash, wherever its file lies.
    "embed": ("precision", "batch_size", "image_size", "mean", "std"),
}
_MATCH_KEYS = {
    "fingerprint": ("min_pdq_quality",),
    "bands": None,
    "cells": (
        "enabled",
        "cell_size",
        "coarse_probes",
        "fine_probes",
        "max_cell",
        "min_cosine",
        "neighbors",
        "train_samples",
        "iterations",
        "recall_samples",
        "seed",
    ),
    "verify": tuple(f.name for f in fields(VerifyConfig) if f.name != "calibration"),
    "keep": None,
}
_SECRET = re.compile(r"^(\w*(?:secret|token|password|access_key)\w*)=.*", re.DOTALL)
_SCAN_KEYS = {"scan": ("policy", "near_score", "decontaminate_score", "looks", "neighbors")}
_AUDIT_KEYS = {"audit": None}
_REWRITE_KEYS = {"read": ("on_failure",), "write": ("member", "sidecar")}
_LIBRARIES = (
    "apache-beam",
    "numpy",
    "pyarrow",
    "opencv-python-headless",
    "faiss-cpu",
    "faiss-gpu-cu12",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
)


def jobs_of(kind: str) -> tuple[str, ...]:
    """The jobs of a kind of directory, in their order: an audit's scans have run.json files of their own."""
    return (AUDIT,) if kind == AUDIT else JOBS


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Fingerprint of each job."""

    extract: str
    match: str
    rewrite: str


def fingerprints(
    shards: Sequence[Shard], config: PipelineConfig, model: Mapping[str, Any] | None, decisions: str
) -> Fingerprints:
    """Fingerprints of the three jobs.

    Args:
        shards: The input.
        config: All sections.
        model: The embedder's specification; None for hashes only.
        decisions: Digest of the decisions, empty without any.

    Raises:
        ValueError: If a file that the config names cannot be read.
    """
    listing = [[s.name, str(s.kind), s.size, s.mark] for s in shards]
    extract = _digest([SCHEMA_VERSION, listing, _chosen(config, _EXTRACT_KEYS), model])
    match = _digest([extract, _chosen(config, _MATCH_KEYS), _match_files(config), decisions])
    return Fingerprints(extract, match, _digest([match, _chosen(config, _REWRITE_KEYS)]))


def scan_fingerprints(own: Fingerprints, config: PipelineConfig, reference: str) -> Fingerprints:
    """Fingerprints of a scan's jobs.

    Args:
        own: Those of its query set and config, by `fingerprints`.
        config: Section scan is added.
        reference: The reference's match fingerprint.
    """
    extract = _digest([SCAN, own.extract])
    match = _digest([extract, own.match, _chosen(config, _SCAN_KEYS), reference])
    return Fingerprints(extract, match, _digest([match, own.rewrite]))


def audit_fingerprint(scans: Sequence[str], config: PipelineConfig, files: Sequence[str]) -> str:
    """Fingerprint of an audit's own steps.

    Args:
        scans: The match fingerprints of its scans, which stand for generations, held-out pictures and reference.
        config: Section audit is used.
        files: Digests of the tables that the command was given, empty for none.
    """
    return _digest([AUDIT, SCHEMA_VERSION, list(scans), _chosen(config, _AUDIT_KEYS), list(files)])


def append_fingerprints(own: Fingerprints, reference: str) -> Fingerprints:
    """Fingerprints of the jobs of a crawl that is appended to a run, by the run's match fingerprint."""
    extract = _digest(["append", own.extract])
    match = _digest([extract, own.match, reference])
    return Fingerprints(extract, match, _digest([match, own.rewrite]))


def _match_files(config: PipelineConfig) -> list[str]:
    """What is in the files that the match job reads: they may change under one path, or move.

    Raises:
        ValueError: If one cannot be read.
    """
    calibration = load_calibration(config.verify.calibration)
    digests = [hashlib.sha256(repr((calibration.thumbs, calibration.pixels)).encode()).hexdigest()]
    if config.cells.enabled and config.cells.centroids:
        try:
            digests.append(hashlib.sha256(read_bytes(config.cells.centroids)).hexdigest())
        except OSError as error:
            raise ValueError(
                f"cells.centroids is {config.cells.centroids!r}, which cannot be read: {error}; expected the "
                "centroids.npz of a run"
            ) from error
    return digests


def _chosen(config: PipelineConfig, keys: Mapping[str, tuple[str, ...] | None]) -> dict[str, Any]:
    whole = config_to_mapping(config)
    return {
        section: {name: whole[section][name] for name in (names or whole[section])}
        for section, names in keys.items()
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what results depend on, and the kind of machine (instruction sets change last bits)."""
    found = {
        "onceseen": onceseen.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(slots=True)
class RunState:
    """The content of run.json."""

    layout: RunLayout
    content: dict[str, Any]

    @classmethod
    def load(cls, layout: RunLayout, kind: str = DEDUP) -> RunState | None:
        """The state of an existing run, or None where there is none.

        Args:
            layout: The run.
            kind: `dedup`, `scan` or `audit`.

        Raises:
            ValueError: If run.json is of another schema version or kind, or damaged.
        """
        path = layout.run_json()
        try:
            content = read_json_if_there(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); start again with --overwrite") from error
        if content is None:
            return None
        found = content.get("schema_version")
        if found != SCHEMA_VERSION:
            raise ValueError(
                f"{path} has schema version {found}, this Onceseen writes {SCHEMA_VERSION}: use the version that "
                "made it, or start again with --overwrite"
            )
        if content.get("kind", DEDUP) != kind:
            raise ValueError(
                f"{layout.root} is the output of `onceseen {content['kind']}`, not of `onceseen {kind}`; choose "
                "another directory"
            )
        return cls(layout, content)

    @classmethod
    def start(
        cls,
        layout: RunLayout,
        shards: Sequence[Shard],
        config: PipelineConfig,
        model: Mapping[str, Any] | None,
        kind: str = DEDUP,
        crawls: Sequence[int] = (),
    ) -> RunState:
        """A new run; nothing is written yet."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "config": {},
            "shards": [],
            "model": model,
            "versions": {},
            "jobs": {job: {"state": "", "fingerprint": ""} for job in jobs_of(kind)},
        }
        state = cls(layout, content)
        state.list_shards(shards, crawls)
        state.describe(config)
        return state

    def list_shards(self, shards: Sequence[Shard], crawls: Sequence[int] = ()) -> None:
        """Takes over an input listing, since paths may have moved, and the first shard number of each later crawl."""
        self.content["shards"] = [shard_to_json(s) for s in shards]
        self.content["crawls"] = list(crawls)

    def describe(self, config: PipelineConfig) -> None:
        """Takes over the resolved config and the versions in use."""
        self.content["config"] = _without_secrets(config_to_mapping(config))
        self.content["versions"] = versions()

    @property
    def is_running(self) -> bool:
        """Whether a job was begun and not ended."""
        return any(entry["state"] == RUNNING for entry in self.content["jobs"].values())

    def job(self, name: str) -> tuple[str, str]:
        """(state, fingerprint) of a job."""
        entry = self.content["jobs"][name]
        return entry["state"], entry["fingerprint"]

    def is_done(self, name: str, fingerprint: str) -> bool:
        """Whether a job is done for this very fingerprint."""
        return self.job(name) == (DONE, fingerprint)

    def mark(self, name: str, state: str, fingerprint: str) -> None:
        """Records a job's state and writes run.json. A job that starts again makes the later ones undone."""
        self.content["jobs"][name] = {"state": state, "fingerprint": fingerprint}
        if state != DONE:
            order = jobs_of(self.content.get("kind", DEDUP))
            for later in order[order.index(name) + 1 :]:
                self.content["jobs"][later]["state"] = ""
        write_json(self.layout.run_json(), self.content)


def _without_secrets(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the values of credentials among Beam's options: run.json is there for others to read."""
    shown = {
        name: [_SECRET.sub(r"\1=(not recorded)", option) for option in value]
        if name.endswith("options")
        else value
        for name, value in config["runner"].items()
    }
    return {**config, "runner": shown}


def describe_difference(
    state: RunState, shards: Sequence[Shard], config: PipelineConfig, model: Mapping[str, Any] | None
) -> list[str]:
    """What of the input, model and extract config differs from an existing run, in words."""
    out = []
    before = {s["name"]: (s["size"], s["mark"]) for s in state.content["shards"]}
    now = {s.name: (s.size, s.mark) for s in shards}
    for what, names in (
        ("new", now.keys() - before.keys()),
        ("gone", before.keys() - now.keys()),
        ("changed", {n for n in now.keys() & before.keys() if now[n] != before[n]}),
    ):
        if names:
            out.append(f"{len(names)} shard(s) {what}, for example {min(names)}")
    if state.content["model"] != model:
        old = (state.content["model"] or {}).get("name", "none")
        out.append(f"embed.model: {old} before, {(model or {}).get('name', 'none')} now (or other weights)")
    whole = config_to_mapping(config)
    for section, keys in _EXTRACT_KEYS.items():
        for key in keys:
            old = state.content["config"].get(section, {}).get(key)
            if old != whole[section][key]:
                out.append(f"{section}.{key}: {old!r} before, {whole[section][key]!r} now")
    return out
