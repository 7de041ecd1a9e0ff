"""`Reference`: a finished run as something to hold pictures against, inside a service or a DataLoader."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from onceseen.core.config import PipelineConfig
from onceseen.core.config_io import config_to_mapping
from onceseen.core.cores import available_cores, one_thread_a_call
from onceseen.core.failures import SampleError
from onceseen.core.files import exists, is_local, join, read_bytes_if_there
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_configs
from onceseen.detect import Match
from onceseen.embed import Embedder, SharedEmbedder, check_device, describe_embedder, embed_padded
from onceseen.jobs.reference_run import ReferenceRun, check_comparable, open_reference, scan_config
from onceseen.neighbors.cells_file import read_cells
from onceseen.reference.build import IndexPlan, ensure_index
from onceseen.reference.checks import Check
from onceseen.reference.queries import Query, QueryImage, as_list, prepare_query
from onceseen.reference.search import Index, Searcher
from onceseen.reference.store import Facts
from onceseen.verify import load_calibration
from onceseen.verify.reread import PictureCache

_AT_ONCE = 64
"""Queries that are worked on together: each holds its pixels (at most 442 KB) and its model's inputs."""
_BUILT_IN = {
    "bands": None,
    "cells": ("enabled", "cell_size", "max_cell", "min_cosine"),
    "fingerprint": ("min_pdq_quality",),
}
"""What an index is built with: the run's own settings."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Opening:
    """Arguments of `Reference.open`."""

    run: str
    config: str | None
    overrides: tuple[str, ...]
    index: str | None
    progress: bool


class Reference:
    """A finished run, searched by pictures.

    Thread-safe. Picklable: another process opens the run again. After a fork, as in a DataLoader's workers, the child
    shares the mapped index and loads the model anew at its first query; queries must not be under way in the parent at
    that moment. OpenCV is set to one thread a call in this process, so that answers are those of `onceseen scan`.
    """

    def __init__(self, opening: _Opening, run: ReferenceRun, config: PipelineConfig, directory: str) -> None:
        """Use `Reference.open`."""
        one_thread_a_call()
        self._opening = opening
        self._config = config
        self._embedder = SharedEmbedder(config.embed)
        self._facts = Facts.read(directory)
        shards = {shard.number: shard for shard in run.shards}
        has_cells = bool(self._facts.dimensions) and exists(join(directory, "codes.npy"))
        cells = read_cells(run.layout.centroids()) if has_cells else None
        index = Index(directory, run.config, cells)
        pictures = PictureCache(
            shards, run.config.read, config.verify.max_side, read_configs(run.layout, run.shards)
        )
        self._searcher = Searcher(
            index, shards, config, load_calibration(config.verify.calibration), pictures
        )

    @classmethod
    def open(
        cls,
        run: str | os.PathLike[str],
        *,
        config: str | None = None,
        overrides: Sequence[str] = (),
        index: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Reference:
        """Opens a finished run; builds its index where there is none, or an older one.

        Args:
            run: The run directory. It may have been moved; its SRC must be where it was, for doubtful pairs.
            config: YAML file of settings above the run's own.
            overrides: `section.key=value` above the file's, such as `scan.looks=2` or `embed.device=cpu`.
            index: Local directory for the index; None: RUN/index.
            progress: Whether building shows bars on stderr.

        Raises:
            ValueError: If there is no such run, it is not finished, of another schema version or model, an override
                does not fit, or the index has no place.

        Cost: milliseconds and the loading of the model once; building takes some minutes and about 6 GB of disk a
        million pictures, once.
        """
        path = os.fspath(run)
        place = None if index is None else os.fspath(index)
        opening = _Opening(path, config, tuple(overrides), place, progress)
        reference = open_reference(path)
        chosen = scan_config(reference, config, overrides, "")
        _check_fixed(reference, chosen)
        check_device(chosen.embed)
        spec = describe_embedder(chosen.embed)
        check_comparable(reference, chosen, spec.to_json() if spec else None)
        directory = ensure_index(_plan(reference, place, spec.dimensions if spec else 0, progress))
        return cls(opening, reference, chosen, directory)

    def __reduce__(self) -> tuple[Callable[[_Opening], Reference], tuple[_Opening]]:
        """Pickles to how it was opened."""
        return _reopen, (self._opening,)

    def __len__(self) -> int:
        """Samples of the run, dropped and failed ones included."""
        return self._facts.samples

    @property
    def config(self) -> PipelineConfig:
        """The settings in use."""
        return self._config

    @property
    def facts(self) -> Facts:
        """Sizes of the index."""
        return self._facts

    def check(self, images: QueryImage | Iterable[QueryImage]) -> list[Check]:
        """Holds pictures against the run.

        Args:
            images: One picture or several. A picture is the bytes of a file (best: the very file decides on equal
                pixels), a path, a PIL image, a numpy array (h, w, 3) of uint8 RGB, or a torch tensor (3, h, w) of uint8
                or of floats in [0, 1], as torchvision has them; arrays and tensors with a leading axis n are n
                pictures.

        Returns:
            One `Check` a picture, in order; it does not depend on the other pictures. One that cannot be decoded is
            `failed`, with the reason.

        Raises:
            TypeError: If something is no picture of these kinds.
            ValueError: If an array has another shape or dtype.
            OSError: If a path cannot be read.
            SourceUnreachableError: If a doubtful pair needs a picture of SRC that cannot be read.

        Cost: about 30 ms a picture on one core with the bundled model, and 30 to 60 ms a look at a doubtful pair.
        """
        queries = as_list(images)
        found: list[Check] = []
        for start in range(0, len(queries), _AT_ONCE):
            found += self._check_some(queries[start : start + _AT_ONCE])
        return found

    def duplicates(self, images: QueryImage | Iterable[QueryImage]) -> list[list[Match]]:
        """Every picture of the run that each query is a duplicate of, where `check` names the best alone.

        Of pictures with equal pixels one is named. Takes the same images as `check`, and raises the same errors.

        Raises:
            SampleError: If a picture cannot be decoded.

        Cost: that of `check`, and 30 to 60 ms for each doubtful pair.
        """
        embedder = self._embedder.get()
        found: list[list[Match]] = []
        for image in as_list(images):
            query = prepare_query(image, self._config, embedder)
            if query.fingerprint is not None and not query.fingerprint.blank:
                self._embed(embedder, [query])
            if query.failure is not None:
                raise query.failure
            found.append(self._searcher.duplicates(query))
        return found

    def warm_up(self) -> None:
        """Loads the model in this process, which the first query would do."""
        self._embedder.get()

    def _check_some(self, images: Sequence[QueryImage]) -> list[Check]:
        embedder = self._embedder.get()
        queries = _in_threads(lambda image: prepare_query(image, self._config, embedder), images)
        answers = [self._searcher.exact(query) for query in queries]
        open_ones = [q for q, known in zip(queries, answers, strict=True) if known is None]
        self._embed(embedder, [q for q in open_ones if q.fingerprint is not None and not q.fingerprint.blank])
        rest = iter(_in_threads(self._searcher.check, open_ones))
        return [next(rest) if known is None else known for known in answers]

    def _embed(self, embedder: Embedder | None, queries: Sequence[Query]) -> None:
        """Embeds all regions of some queries.

        A model's last bits depend on the size of its calls, so that size is fixed: one on a CPU, where larger calls are
        no faster, `embed.batch_size` (padded) on a GPU.
        """
        if embedder is None:
            return
        size = 1 if embedder.device == "cpu" else self._config.embed.batch_size
        vectors = iter(embed_padded(embedder, [x for query in queries for x in query.inputs], size))
        for query in queries:
            for vector in [next(vectors) for _ in query.inputs]:
                if isinstance(vector, SampleError):
                    query.failure = vector
                else:  # as float16 stores it
                    query.vectors.append(vector.astype(np.float16).astype(np.float32))
            query.inputs = []


def _reopen(opening: _Opening) -> Reference:
    return Reference.open(
        opening.run,
        config=opening.config,
        overrides=opening.overrides,
        index=opening.index,
        progress=opening.progress,
    )


def _in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Applies a function in threads that end with the call, so that nothing is left to break at a fork."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(len(items), available_cores())) as pool:
        return list(pool.map(function, items))


def _plan(reference: ReferenceRun, index: str | None, dimensions: int, progress: bool) -> IndexPlan:
    if index is None and not is_local(reference.layout.root):
        raise ValueError(
            f"{reference.layout.root} is remote, and an index is mapped into memory from a local disk; name a local "
            "directory for it (--index DIR, or index= in Python)"
        )
    root = RunLayout.at(index).root if index else reference.layout.index_dir()
    if not is_local(root):
        raise ValueError(f"the index's directory {root} is remote; expected a local one")
    return IndexPlan(
        reference.layout,
        reference.shards,
        reference.config,
        dimensions,
        reference.match,
        read_bytes_if_there(reference.layout.takedowns()) or b"",
        root,
        index is None,
        progress,
    )


def _check_fixed(reference: ReferenceRun, config: PipelineConfig) -> None:
    """Refuses settings that the index was built with.

    Raises:
        ValueError: Naming what differs.
    """
    own, asked = config_to_mapping(reference.config), config_to_mapping(config)
    for section, keys in _BUILT_IN.items():
        for key in keys or own[section]:
            if own[section][key] != asked[section][key]:
                raise ValueError(
                    f"{section}.{key} is {asked[section][key]!r}, the reference was matched with "
                    f"{own[section][key]!r}; leave it, or match the run again with `onceseen dedup ... --redo match`"
                )
