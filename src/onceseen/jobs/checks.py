"""Checks before any work: the workers see SRC and RUN, the output can be written, and there is disk enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import apache_beam as beam

from onceseen.core.config import ReadConfig
from onceseen.core.dicom import DICOM_REMEDY, dicom_installed, is_dicom
from onceseen.core.files import (
    exists,
    free_bytes,
    is_directory,
    is_local,
    join,
    make_directory,
    occupied,
    open_read,
    real_path,
    remove_files,
    write_bytes,
)
from onceseen.core.layout import RunLayout
from onceseen.core.records import ImageSample, Shard, ShardKind
from onceseen.jobs.runner import Runner
from onceseen.jobs.state import DEDUP
from onceseen.shards import read_shard
from onceseen.shards.extensions import DICOM_SUFFIXES, may_be_dicom

FEATURE_BYTES = 7_000
"""Features, thumbs, pairs and verdicts of one picture, with room to spare (measured: 4.5 KB)."""
_TYPICAL_IMAGE_BYTES = 40_000


class CheckError(RuntimeError):
    """Something is missing that the run needs; nothing has been done."""


def check_writable(layout: RunLayout) -> None:
    """Writes and removes a probe file in RUN.

    Raises:
        CheckError: If that fails.
    """
    probe = join(layout.root, ".probe")
    try:
        make_directory(layout.root)
        write_bytes(probe, b"onceseen")
        remove_files([probe])
    except Exception as error:  # every file system has exceptions of its own
        raise CheckError(f"--output {layout.root} cannot be written: {error}") from error


def check_places(
    layout: RunLayout, sources: Sequence[str], shards: Sequence[Shard], kind: str = DEDUP
) -> None:
    """Makes sure that a run neither removes its input nor comes to read itself.

    Args:
        layout: The run.
        sources: The SRC arguments.
        shards: What they hold.
        kind: `dedup`, `scan` or `audit`.

    Raises:
        ValueError: If SRC lies in a place that the run writes and removes, or RUN in a directory that is SRC.
    """
    written = [f"{real_path(path)}/" for path in layout.everything(kind)]
    for shard in shards:
        path = shard.path
        if shard.kind == ShardKind.FOLDER and shard.files:
            path = join(path, shard.files[0])
        taken = next((place for place in written if real_path(path).startswith(place)), None)
        if taken is not None:
            raise ValueError(
                f"{path} lies in {taken[:-1]}, which a run writes and removes; expected SRC elsewhere: choose "
                "another --output"
            )
    for source in sources:
        directory = not is_local(source) or is_directory(source)
        if directory and f"{real_path(layout.root)}/".startswith(f"{real_path(source)}/"):
            raise ValueError(
                f"--output {layout.root} lies in SRC {source}, where the next run would read it; expected a "
                "directory outside: choose another --output, or give SRC as a glob such as "
                f"{source.rstrip('/')}/*.tar"
            )


def check_unused(layout: RunLayout, kind: str = DEDUP) -> None:
    """Makes sure that a directory without run.json has nothing by the names that a run removes.

    Raises:
        ValueError: Naming what is there.
    """
    if exists(layout.run_json()):
        return
    found = [path for path in layout.everything(kind) if occupied(path)]
    if found:
        raise ValueError(
            f"--output {layout.root} holds {found[0][len(layout.root) :].lstrip('/')} but no run.json, so it is no "
            "run of Onceseen's, and a run would remove that; choose another --output, or move it away"
        )


def check_disk(
    layout: RunLayout, *, extract: Sequence[Shard] = (), rewrite: Sequence[Shard] = (), dry_run: bool = False
) -> None:
    """Compares the free disk with what the run may still need, where RUN is on this machine.

    Stores do not say how much room they have, and nothing of a remote run is kept on the workers' disks.

    Args:
        layout: The run.
        extract: Shards whose features are not written yet.
        rewrite: Shards that are to be written again and are not yet.
        dry_run: Whether there will be no second copy.

    Raises:
        CheckError: With both numbers and what makes the need smaller.
    """
    free = free_bytes(layout.root)
    if free is None:
        return
    features = sum(s.size for s in extract) / _TYPICAL_IMAGE_BYTES * FEATURE_BYTES
    need = round(features) + (0 if dry_run else sum(s.size for s in rewrite))
    if need > free:
        hint = "free some, choose another --output" + (
            "" if dry_run else ", or use --dry-run: no second copy"
        )
        raise CheckError(
            f"{layout.root} has {free / 1e9:.1f} GB free and the run may need {need / 1e9:.1f} GB: {hint}"
        )


def check_workers(layout: RunLayout, shards: Sequence[Shard], runner: Runner) -> None:
    """Has a worker open the first shard, and the first that holds DICOM files by their names, and write into RUN.

    Raises:
        CheckError: If a worker cannot, for example because a path is local and the worker is elsewhere, or if there are
            DICOM files and it has no pydicom.
    """
    probed = [shards[0], *[s for s in shards[1:] if _dicom_file(s)][:1]]
    if runner.in_process or runner.template:  # where a template is made, no job is run
        for shard in probed:
            probe_paths(shard, layout)
        return
    # what is wrong now is wrong a second time
    once = replace(runner, config=replace(runner.config, attempts=1))
    try:
        once.run(
            "check",
            lambda p: p | "First" >> beam.Create(probed) | "Probe" >> beam.Map(probe_paths, layout),
        )
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(
            f"the workers cannot read {shards[0].path} or write {layout.root}: {error}"
        ) from error


def probe_paths(shard: Shard, layout: RunLayout) -> None:
    """Opens a shard and writes into the run, as a worker will.

    Raises:
        CheckError: If either fails, or the shard's first picture is DICOM, or one by its name, and pydicom is missing.
    """
    try:
        path = shard.path
        if shard.kind == ShardKind.FOLDER:
            path = join(shard.path, shard.files[0]) if shard.files else shard.path
        if not is_directory(path):
            with open_read(path) as stream:
                stream.read(1)
    except Exception as error:
        raise CheckError(f"a worker cannot read {shard.path}: {error}") from error
    found = "" if dicom_installed() else _dicom_file(shard) or _first_dicom_member(shard)
    if found:
        raise CheckError(
            f"{found} in {shard.path} is a DICOM file, which a worker cannot read: {DICOM_REMEDY} (without "
            "it, each such file would be a dead letter)"
        )
    check_writable(layout)


def _dicom_file(shard: Shard) -> str:
    """The first file of a folder's shard that is DICOM by its name, empty if none is."""
    if shard.kind != ShardKind.FOLDER:
        return ""
    return next((f for f in shard.files if may_be_dicom(f) or f.lower().endswith(DICOM_SUFFIXES)), "")


def _first_dicom_member(shard: Shard) -> str:
    """The name of a tar's first picture if it is DICOM, else empty; later ones show in dead letters."""
    if shard.kind != ShardKind.TAR:
        return ""
    first = next(iter(read_shard(shard, ReadConfig())), None)
    if isinstance(first, ImageSample) and first.image is not None and is_dicom(first.image):
        return first.member
    return ""
