"""The known truth of a labelled set: which samples show which sources, and by which transform.

manifest.csv has the header `file,source_id,transform`. `file` is the sample_id, or the path in SRC for
folders. Two files are copies when they share a source_id; a file has one row for each source that it
contains. A file with one source is *whole*; one with several (a collage) shares content with each and is a
copy of none.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onceseen.core.files import exists, read_bytes
from onceseen.core.ids import name_order
from onceseen.core.records import Shard

HEADER = ("file", "source_id", "transform")
ORIGINAL = "original"


@dataclass(frozen=True)
class Truth:
    """Labels by sample_id.

    Attributes:
        labels: sample_id to {source_id: transform}.
        unknown_files: Files of the manifest that the run has not read.
        unlabelled: Samples of the run that the manifest does not name.
    """

    labels: Mapping[str, Mapping[str, str]]
    unknown_files: Sequence[str]
    unlabelled: Sequence[str]

    def sources(self, sample_id: str) -> frozenset[str]:
        """Sources of a sample; empty if it is not labelled."""
        return frozenset(self.labels.get(sample_id, ()))

    def is_whole(self, sample_id: str) -> bool:
        """Whether the sample shows one source alone."""
        return len(self.labels.get(sample_id, ())) == 1

    def transform(self, sample_id: str) -> str:
        """How the sample was made from its source (several, each once, joined by `+`)."""
        return "+".join(sorted(set(self.labels.get(sample_id, {}).values()))) or "unlabelled"

    @cached_property
    def whole(self) -> Mapping[str, Sequence[str]]:
        """source_id to the samples that show it alone, both in UTF-8 byte order."""
        found: dict[str, list[str]] = defaultdict(list)
        for sample_id in sorted(self.labels, key=name_order):
            if self.is_whole(sample_id):
                found[next(iter(self.labels[sample_id]))].append(sample_id)
        return {source: found[source] for source in sorted(found, key=name_order)}

    @cached_property
    def originals(self) -> Mapping[str, Sequence[str]]:
        """source_id to its samples marked `original`."""
        marked = {s: [i for i in ids if self.labels[i][s] == ORIGINAL] for s, ids in self.whole.items()}
        return {source: ids for source, ids in marked.items() if ids}


def read_truth(path: str, sample_ids: Collection[str], shards: Sequence[Shard]) -> Truth:
    """Reads a manifest and finds its files among a run's samples.

    Args:
        path: manifest.csv.
        sample_ids: All samples of the run.
        shards: Its shards: in folders, a path in SRC becomes an id by the shard's prefix.

    Raises:
        ValueError: If the manifest cannot be read, is malformed (with the line), or names none of the
            samples.
    """
    known = set(sample_ids)
    prefixes = sorted({"", *(shard.id_prefix for shard in shards)})
    labels: dict[str, dict[str, str]] = {}
    unknown: dict[str, None] = {}
    for line, (file, source, transform) in _rows(path):
        sample_id = _find(file, known, prefixes, f"{path}, line {line}")
        if sample_id is None:
            unknown[file] = None
            continue
        of_sample = labels.setdefault(sample_id, {})
        if of_sample.setdefault(source, transform) != transform:
            raise ValueError(
                f"{path}, line {line}: {file} is {transform!r} of source {source!r}, but an earlier line "
                f"says {of_sample[source]!r}; expected one row for each source of a file"
            )
    if not labels:
        raise ValueError(
            f"{path} names none of the run's {len(known)} samples; its first files are {list(unknown)[:3]}, "
            f"the run's first samples {sorted(known, key=name_order)[:3]}: `file` must be the sample_id"
        )
    return Truth(labels, tuple(unknown), tuple(sorted(known - labels.keys(), key=name_order)))


def _rows(path: str) -> Iterable[tuple[int, tuple[str, str, str]]]:
    if not exists(path):
        raise ValueError(f"truth file {path} is not there")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"truth file {path} cannot be read as UTF-8 text: {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = tuple(next(reader, ()))
    if header != HEADER:
        raise ValueError(f"{path}: the header is {','.join(header)!r}; expected {','.join(HEADER)!r}")
    for row in reader:
        if not row:
            continue
        if len(row) != 3 or not row[0] or not row[1]:
            raise ValueError(
                f"{path}, line {reader.line_num}: got {row!r}; expected file,source_id,transform"
            )
        yield reader.line_num, (row[0], row[1], row[2])


def _find(file: str, known: Collection[str], prefixes: Sequence[str], where: str) -> str | None:
    plain = file.removeprefix("./")
    found = {name for name in (file, *(prefix + plain for prefix in prefixes)) if name in known}
    if len(found) > 1:
        raise ValueError(f"{where}: {file} may be any of {sorted(found)}; give the sample_id")
    return found.pop() if found else None
