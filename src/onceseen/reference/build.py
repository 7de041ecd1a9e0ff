"""Building the index of a finished run: three passes over its features, a block of rows at a time.

    1  samples and their names; pixel hashes, then sorted: exact classes and their heads
    2  regions of the heads; their PDQ signatures; their codes and nearest coarse cells
    3  bands and fine cells, put in order out of what the second pass has written

Memory, beside a block of 2,048 rows (some 20 MB) and one coarse cell: 70 bytes a sample while hashes are sorted. The
features of each shard are read once in each of the first two passes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from onceseen.core.config import PipelineConfig
from onceseen.core.features import read_feature_rows, read_features, read_thumb_rows, status_ok
from onceseen.core.files import exists, free_bytes, join, make_directory, read_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.lock import LockHeldError, run_lock
from onceseen.neighbors.cells import assign_coarse, encode
from onceseen.neighbors.cells_file import read_cells
from onceseen.neighbors.packing import code_dtype
from onceseen.reference.fine_cells import write_fine_cells
from onceseen.reference.pdq_bands import write_bands
from onceseen.reference.rows import (
    PICTURE_COLUMNS,
    SCALAR_COLUMNS,
    VECTOR_COLUMNS,
    VERDICT_COLUMNS,
    exact_rows,
    region_rows,
    sample_rows,
)
from onceseen.reference.store import (
    EXACT,
    INDEX_VERSION,
    LOW_QUALITY,
    SAMPLE,
    SHARD,
    TRIMMED_FLAG,
    Appender,
    Facts,
    appending,
    building,
    directory_bytes,
    mapped,
    region_dtype,
    save,
)

BLOCK_ROWS = 2_048
_WAIT_S = 0.5
_SHOW_AFTER_S = 1.0
_log = logging.getLogger(__name__)


class IndexBuildError(RuntimeError):
    """The run's tables do not fit together, so no index can be built of them."""


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What is built, and where.

    Attributes:
        layout: The run; its match job is done.
        shards: Its input listing.
        config: Its own configuration.
        dimensions: d of its embeddings, 0 without.
        match: Fingerprint of its match job.
        takedowns: What its ledger of takedowns holds; empty where there is none.
        root: Local directory of indexes.
        alone: Whether ROOT is the run's own, so that other indexes there are stale.
        progress: Whether bars are shown on stderr.
    """

    layout: RunLayout
    shards: tuple[Shard, ...]
    config: PipelineConfig
    dimensions: int
    match: str
    takedowns: bytes
    root: str
    alone: bool
    progress: bool

    @property
    def key(self) -> str:
        """Name of the index's directory."""
        made_of = f"{INDEX_VERSION} {self.match} ".encode() + self.takedowns
        return hashlib.sha256(made_of).hexdigest()[:16]

    @property
    def directory(self) -> str:
        """Where the index is once it is built."""
        return join(self.root, self.key)

    @property
    def has_cells(self) -> bool:
        """Whether embeddings are searched; not where every picture failed or is blank, since no cells were trained."""
        return bool(self.dimensions) and self.config.cells.enabled and exists(self.layout.centroids())


def ensure_index(plan: IndexPlan) -> str:
    """Builds the index unless it is there; waits where another process builds it.

    Returns:
        Its directory.

    Raises:
        ValueError: If ROOT cannot be written or the disk is too small.
    """
    while not exists(join(plan.directory, "index.json")):
        _make_root(plan)
        try:
            with run_lock(RunLayout.at(plan.root)):
                if not exists(join(plan.directory, "index.json")):
                    _build(plan)
        except LockHeldError as held:
            _log.info("waiting for the index: %s", held)
            time.sleep(_WAIT_S)
    return plan.directory


def _make_root(plan: IndexPlan) -> None:
    try:
        make_directory(plan.root)
        writable = os.access(plan.root, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ValueError(
            f"{plan.root} cannot be written, and the index of {plan.layout.root} is not built yet; name another local "
            "directory for it (--index DIR, or index= in Python)"
        )


def _build(plan: IndexPlan) -> None:
    counts = _shard_rows(plan)
    samples = int(sum(counts))
    _check_disk(plan, samples)
    with (
        _bar(plan, 2 * samples, "index") as bar,
        building(plan.root, plan.key, alone=plan.alone) as directory,
    ):
        first = np.concatenate([[0], np.cumsum(counts)])[:-1]
        shards = np.array([(s.number, f) for s, f in zip(plan.shards, first, strict=True)], dtype=SHARD)
        save(directory, "shards.npy", shards)
        members = _write_samples(plan, directory, bar, samples)
        heads, regions, signatures = _write_regions(plan, directory, members, counts, bar)
        _put_in_order(plan, directory, regions)
        size = directory_bytes(directory)
        Facts(samples, heads, regions, signatures, plan.dimensions, size).write(directory)
    _log.info("index of %d samples in %s: %.1f MB", samples, plan.directory, size / 1e6)


def _shard_rows(plan: IndexPlan) -> list[int]:
    """Samples of each shard, by its verdicts."""
    counts = []
    with _bar(plan, len(plan.shards), "index: shards") as bar:
        for shard in plan.shards:
            counts.append(len(read_table(plan.layout.verdicts(shard.name), ["row"])))
            bar.update(1)
    return counts


def _bar(plan: IndexPlan, total: int, name: str) -> tqdm[Any]:
    """A bar on stderr, for what takes longer than a second."""
    hidden = not plan.progress
    return tqdm(total=total, desc=name, unit="", delay=_SHOW_AFTER_S, disable=hidden, leave=False)


def _check_disk(plan: IndexPlan, samples: int) -> None:
    each = region_dtype(plan.dimensions).itemsize * 1.2 + 600
    free = free_bytes(plan.root)
    if free is not None and free < each * samples:
        raise ValueError(
            f"the index of {samples:,} samples takes up to {each * samples / 1e9:.1f} GB, {plan.root} has "
            f"{free / 1e9:.1f} GB free; free some, or name another directory (--index DIR, index= in Python)"
        )


# Pass 1


def _write_samples(plan: IndexPlan, directory: str, bar: tqdm[Any], samples: int) -> NDArray[np.bool_]:
    """Writes samples, names and exact classes.

    Returns:
        (samples,) bool: those that belong to another's exact class.
    """
    with ExitStack() as stack:
        records = stack.enter_context(appending(join(directory, "samples.npy"), SAMPLE))
        exact = stack.enter_context(appending(join(directory, "exact.npy"), EXACT))
        names = stack.enter_context(open(join(directory, "names.bin"), "wb"))
        for shard in plan.shards:
            table = read_features(plan.layout, shard, SCALAR_COLUMNS)
            verdicts = read_table(plan.layout.verdicts(shard.name), VERDICT_COLUMNS)
            if table.column("sample_id").to_pylist() != verdicts.column("sample_id").to_pylist():
                raise IndexBuildError(
                    f"verdicts and features of shard {shard.name} name other samples: the run is being worked on, or "
                    "was damaged; run dedup again"
                )
            exact.append(exact_rows(table, records.rows))
            record, blob = sample_rows(table, verdicts, names.tell())
            records.append(record)
            names.write(blob)
            bar.update(len(table))
    return _sort_exact(directory, samples)


def _sort_exact(directory: str, samples: int) -> NDArray[np.bool_]:
    """Sorts exact.npy by hash, then sample; says who is not the first of its class."""
    path = join(directory, "exact.npy")
    rows = np.array(mapped(path))
    words = np.ascontiguousarray(rows["hash"]).view(">u8")
    rows = rows[np.lexsort((rows["sample"], words[:, 1], words[:, 0]))]
    save(directory, "exact.npy", rows)
    same = np.zeros(len(rows), dtype=bool)
    same[1:] = (rows["hash"][1:] == rows["hash"][:-1]).all(axis=1)
    members = np.zeros(samples, dtype=bool)
    members[rows["sample"][same]] = True
    return members


# Pass 2


@dataclass(slots=True)
class _RegionFiles:
    """What the second pass appends to."""

    regions: Appender
    pdq: Appender
    pdq_samples: Appender
    codes: Appender | None
    coarse: Appender | None


def _write_regions(
    plan: IndexPlan, directory: str, members: NDArray[np.bool_], counts: list[int], bar: tqdm[Any]
) -> tuple[int, int, int]:
    """Writes regions, signatures, and codes in the regions' order.

    Returns:
        Numbers of heads, regions and signatures.
    """
    cells = read_cells(plan.layout.centroids()) if plan.has_cells else None
    samples = mapped(join(directory, "samples.npy"), write=True)
    min_quality = plan.config.fingerprint.min_pdq_quality
    heads = first = 0
    with ExitStack() as stack:

        def file(name: str, dtype: np.dtype[Any], width: tuple[int, ...] = ()) -> Appender:
            return stack.enter_context(appending(join(directory, f"{name}.npy"), dtype, width))

        files = _RegionFiles(
            file("regions", region_dtype(plan.dimensions)),
            file("pdq", np.dtype("u1"), (32,)),
            file("pdq_sample", np.dtype("<i8")),
            file("unordered", code_dtype(cells.code_dimensions)) if cells else None,
            file("coarse", np.dtype("<i4")) if cells else None,
        )
        for shard, count in zip(plan.shards, counts, strict=True):
            for block in _blocks(plan, shard, count, members[first : first + count]):
                places = first + block.column("row").to_numpy()
                found = region_rows(block, places, plan.dimensions, min_quality)
                starts = np.flatnonzero((found["flags"] & TRIMMED_FLAG) == 0)
                samples["region"][places] = files.regions.rows + starts
                samples["regions"][places] = np.diff(np.append(starts, len(found)))
                if files.codes is not None and files.coarse is not None and cells is not None:
                    x = found["embedding"].astype(np.float32)
                    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
                    ids = files.regions.rows + np.arange(len(found), dtype=np.int64)
                    files.codes.append(encode(x, ids, found["flags"], cells))
                    files.coarse.append(assign_coarse(x, cells, 1)[:, 0])
                good = (found["flags"] & LOW_QUALITY) == 0
                files.pdq.append(found["pdq"][good])
                files.pdq_samples.append(found["sample"][good])
                files.regions.append(found)
                heads += len(block)
            first += count
            bar.update(count)
        result = heads, files.regions.rows, files.pdq.rows
    return result


def _blocks(plan: IndexPlan, shard: Shard, count: int, members: NDArray[np.bool_]) -> Iterator[pa.Table]:
    """Compared rows of a shard (heads, judged, not blank) with thumbs, a block at a time."""
    table = read_features(plan.layout, shard, ["status", "blank"])
    blank = table.column("blank").fill_null(True).to_numpy(zero_copy_only=False).astype(bool)
    compared = np.flatnonzero(status_ok(table) & ~blank & ~members)
    columns = [*PICTURE_COLUMNS, *(VECTOR_COLUMNS if plan.dimensions else ())]
    for start in range(0, count, BLOCK_ROWS):
        rows = compared[(compared >= start) & (compared < start + BLOCK_ROWS)]
        if len(rows):
            block = read_feature_rows(plan.layout, shard, rows, columns)
            thumbs = read_thumb_rows(plan.layout, shard, rows)
            for name in ("thumb", "trimmed"):
                block = block.append_column(name, thumbs.column(name))
            yield block


# Pass 3


def _put_in_order(plan: IndexPlan, directory: str, regions: int) -> None:
    """Writes bands and cells."""
    bands = plan.config.bands
    if bands.enabled:
        with _bar(plan, bands.bands, "index: bands") as bar:
            write_bands(directory, mapped(join(directory, "pdq.npy")), bands, bar.update)
    if plan.has_cells:
        codes, coarse = (mapped(join(directory, f"{name}.npy")) for name in ("unordered", "coarse"))
        with _bar(plan, regions, "index: cells") as bar:
            write_fine_cells(directory, codes, np.array(coarse), plan.config.cells, bar.update)
        for name in ("unordered", "coarse"):
            os.remove(join(directory, f"{name}.npy"))
