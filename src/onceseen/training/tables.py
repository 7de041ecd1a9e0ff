"""What a run says of a sample: verdict tables by WebDataset sample, and the member of rewritten shards.

Paths in the run are spelled out here and not taken from ``core.layout``, because that one opens files through
Beam, which would cost each DataLoader worker a second and a hundred megabytes; pyarrow's filesystems open the
same places.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet as pq

MEMBER = "onceseen.json"
"""Extension of the member that a rewritten sample carries, as WebDataset names it."""
KEEP, DROP, FAILED = "keep", "drop", "failed"

Sample = Mapping[str, Any]
"""A WebDataset sample; ``__key__`` and ``__url__`` are always there."""

_COLUMNS = ("sample_id", "key", "verdict", "copies", "component_size", "weight")


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What a run says of one sample.

    Attributes:
        sample_id: ``<shard>/<key>``.
        verdict: ``keep``, ``drop`` or ``failed``.
        copies: Pictures that its representative stands for, itself included; 0 for a failed sample.
        component_size: Samples in its component.
        weight: What it weighs in training; the weights of a group's kept samples add up to copies^(1-alpha).
    """

    sample_id: str
    verdict: str
    copies: int
    component_size: int
    weight: float

    def __post_init__(self) -> None:
        """Refuse what no run writes.

        Raises:
            ValueError: The verdict is unknown, or a number is negative.
        """
        if self.verdict not in (KEEP, DROP, FAILED):
            raise ValueError(
                f"sample {self.sample_id!r}: verdict is {self.verdict!r}, expected keep, drop or failed"
            )
        if self.copies < 0 or self.component_size < 0 or not self.weight >= 0:
            raise ValueError(
                f"sample {self.sample_id!r}: copies {self.copies}, component_size {self.component_size} and "
                f"weight {self.weight} must not be negative"
            )


class VerdictTables:
    """Verdicts of a run, looked up by WebDataset sample; the tables of the last few shards stay in memory.

    Which table belongs to a sample follows from its ``__url__``. With ``source``, the shard's name is the URL
    below that root without ``.tar``. Without it, the longest end of the URL's path that has a table in the
    run is taken: ``/data/laion/part1/00000.tar`` is shard ``part1/00000`` where the run has one, else
    ``00000``.

    Memory: about 300 bytes a sample of the shards held.
    """

    def __init__(self, run_dir: str, source: str | None = None, tables: int = 8) -> None:
        """Remember where the run is; nothing is read yet.

        Args:
            run_dir: Directory of a finished run; a local path or a URL that pyarrow's filesystems open.
            source: Root that the shards were read from (SRC of ``onceseen dedup``); None to find it out.
            tables: Shards whose verdicts stay in memory, at least 1.

        Raises:
            ValueError: ``tables`` is under 1.
        """
        if tables < 1:
            raise ValueError(f"tables is {tables}, expected 1 or more")
        self.run_dir = run_dir.rstrip("/")
        self.source = None if source is None else source.rstrip("/")
        self._limit = tables
        self._by_url: OrderedDict[str, dict[str, SampleFacts | None]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the tables behind: each worker reads those of its own shards."""
        return {**self.__dict__, "_by_url": OrderedDict()}

    def lookup(self, sample: Sample) -> SampleFacts:
        """Return what the run says of a sample.

        Args:
            sample: A WebDataset sample; only ``__key__`` and ``__url__`` are read.

        Returns:
            Its row of the verdicts.

        Raises:
            ValueError: The run has no table for the shard or no row for the sample, or the shard holds the
                key more than once with different verdicts, which the key alone can't tell apart.
        """
        url, key = str(sample["__url__"]), str(sample["__key__"])
        table = self._table(url)
        if key not in table:
            raise ValueError(
                f"sample {key!r} of {url} has no verdict in {self.run_dir}: the shard changed after the "
                "run, or it is another shard of the same name; run `onceseen dedup` on it, or "
                "give source=, the run's SRC"
            )
        facts = table[key]
        if facts is None:
            raise ValueError(
                f"{url} holds the key {key!r} more than once with different verdicts: read "
                f"{self.run_dir}/shards, where each kept sample carries its own"
            )
        return facts

    def _table(self, url: str) -> dict[str, SampleFacts | None]:
        if url in self._by_url:
            self._by_url.move_to_end(url)
            return self._by_url[url]
        table = _by_key(*self._open(url))
        self._by_url[url] = table
        while len(self._by_url) > self._limit:
            self._by_url.popitem(last=False)
        return table

    def _open(self, url: str) -> tuple[pafs.FileSystem, str]:
        """Find the verdict table of a shard: its filesystem and path."""
        filesystem, root = _filesystem(f"{self.run_dir}/verdicts")
        names = _shard_names(url, self.source)
        paths = [f"{root}/{name}.parquet" for name in names]
        for path, info in zip(paths, filesystem.get_file_info(paths), strict=True):
            if info.type == pafs.FileType.File:
                return filesystem, path
        raise ValueError(
            f"{self.run_dir}/verdicts has no table for {url} (looked for {names[0]!r} and {len(names) - 1} "
            "shorter names): expected a finished run over this shard; give source=, the SRC of that "
            "run, if it was moved"
        )


def sample_facts(sample: Sample) -> SampleFacts:
    """Return what the member ``onceseen.json`` of a sample says.

    Args:
        sample: A sample of a rewritten shard or of ``deduplicated``, before or after ``decode``.

    Returns:
        The facts.

    Raises:
        ValueError: There is no such member, it is no JSON object, or a field is missing.
    """
    where = f"sample {sample.get('__key__')!r} of {sample.get('__url__')}"
    if MEMBER not in sample:
        raise ValueError(
            f"{where} has no member {MEMBER}: read RUN/shards (written with write.member: true), or use "
            "deduplicated() on the original shards"
        )
    value = sample[MEMBER]
    try:
        fields = value if isinstance(value, Mapping) else json.loads(value)
        return SampleFacts(
            sample_id=str(fields["sample_id"]),
            verdict=str(fields["verdict"]),
            copies=int(fields["copies"]),
            component_size=int(fields["component_size"]),
            weight=float(fields["weight"]),
        )
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{where}: member {MEMBER} must be a JSON object with sample_id, verdict, copies, "
            f"component_size and weight ({type(error).__name__}: {error})"
        ) from error


def largest_weight(run_dir: str) -> float:
    """Return the largest weight in a run's verdicts.

    Args:
        run_dir: Directory of a finished run.

    Returns:
        The weight. One column of each table is read.

    Raises:
        ValueError: The run has no verdicts.
    """
    filesystem, root = _filesystem(f"{run_dir.rstrip('/')}/verdicts")
    chosen = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    largest = 0.0
    for info in filesystem.get_file_info(chosen):
        if info.type == pafs.FileType.File and info.path.endswith(".parquet"):
            column = pq.read_table(info.path, columns=["weight"], filesystem=filesystem, partitioning=None)[
                "weight"
            ]
            largest = max([largest, *(w for w in column.to_pylist() if w is not None)])
    if not largest > 0:
        raise ValueError(f"{run_dir}/verdicts holds no kept sample: expected the verdicts of a finished run")
    return largest


def run_alpha(run_dir: str) -> float:
    """The alpha that a run's weights were made with."""
    filesystem, path = _filesystem(f"{run_dir.rstrip('/')}/run.json")
    try:
        with filesystem.open_input_file(path) as stream:
            return float(json.loads(stream.read())["config"]["keep"]["alpha"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} does not tell the run's keep.alpha ({type(error).__name__}: {error}): expected the "
            "run.json of a finished run; without alpha= the weights are taken as they are"
        ) from error


def _filesystem(path: str) -> tuple[pafs.FileSystem, str]:
    """The filesystem of a path or URL, and the path in it."""
    if "://" in path:
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    return pafs.LocalFileSystem(), path


def _shard_names(url: str, source: str | None) -> list[str]:
    """Names that a shard may have in a run, longest first; only one where the source is known."""
    path = url.removeprefix("file:").removesuffix(".tar")
    if source is not None:
        root = source.removeprefix("file:")
        if not path.startswith(root + "/"):
            raise ValueError(
                f"shard {url} does not lie under source {source}: give the SRC that it was read from"
            )
        return [path[len(root) + 1 :]]
    parts = [part for part in path.partition("://")[2 if "://" in path else 0].split("/") if part]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _by_key(filesystem: pafs.FileSystem, path: str) -> dict[str, SampleFacts | None]:
    """Read one table; None stands for a key whose repetitions have different verdicts."""
    table: dict[str, SampleFacts | None] = {}
    for key, facts in _rows(filesystem, path):
        base, mark, number = key.rpartition("#")
        if mark and number.isdigit() and base in table:
            first = table[base]
            if first is None or first.verdict != facts.verdict or first.weight != facts.weight:
                table[base] = None
        table[key] = facts
    return table


def _rows(filesystem: pafs.FileSystem, path: str) -> Iterator[tuple[str, SampleFacts]]:
    with filesystem.open_input_file(path) as stream:
        columns: dict[str, list[Any]] = pq.read_table(stream, columns=list(_COLUMNS)).to_pydict()
    for sample_id, key, verdict, copies, size, weight in zip(*(columns[c] for c in _COLUMNS), strict=True):
        yield key, SampleFacts(sample_id, verdict, copies or 0, size or 0, weight or 0.0)
