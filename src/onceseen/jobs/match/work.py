"""Files that the steps of the match job hand to each other: small arrays, named by step and shard number.

They are written by temp and rename under names that follow from the input, so a retried bundle writes the same file
again; the whole directory is cleared when a match job starts and when it is done.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.files import join, list_files, read_bytes_if_there, remove, write_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, node_shard
from onceseen.jobs.shuffles import portions
from onceseen.neighbors.packing import Records


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """Arrays of one run's match job."""

    layout: RunLayout

    def path(self, step: str, number: int, suffix: str = "npy") -> str:
        """File of one shard in one step."""
        return join(self.layout.work_dir(), step, f"{number:08d}.{suffix}")

    def write(self, step: str, number: int, records: Records) -> None:
        """Writes one shard's array."""
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        write_bytes(self.path(step, number), buffer.getvalue())

    def read(self, step: str, number: int, dtype: np.dtype[np.void]) -> Records:
        """One shard's array; empty where the step had nothing for it."""
        data = read_bytes_if_there(self.path(step, number))
        if data is None:
            return np.empty(0, dtype=dtype)
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))

    def read_all(self, steps: Iterable[str], number: int, dtype: np.dtype[np.void]) -> Records:
        """One shard's arrays of several steps, concatenated."""
        return np.concatenate([np.empty(0, dtype=dtype), *(self.read(s, number, dtype) for s in steps)])

    def paths(self, step: str, suffix: str = ".npy") -> list[str]:
        """All files of a step."""
        return list_files(join(self.layout.work_dir(), step), suffix)

    def numbers(self, step: str) -> list[int]:
        """Numbers of the arrays of a step, ascending."""
        return [int(path.rpartition("/")[2].partition(".")[0]) for path in self.paths(step)]

    def clear(self) -> None:
        """Removes everything."""
        remove(self.layout.work_dir())


def with_number(shard: Shard) -> tuple[int, Shard]:
    """A shard keyed by its number, to be joined with what is kept by shard."""
    return shard.number, shard


def by_shard(records: Records, field: str, beside: int = 0) -> Iterator[tuple[int, bytes]]:
    """Splits records by the shard number of a node field, each part as blocks of bytes.

    Args:
        records: Any order; it is kept in each part.
        field: The node field.
        beside: Bytes that will travel beside each record.
    """
    for number, part in runs_of(node_shard(records[field])):
        for block in portions(part, records.dtype.itemsize + beside):
            yield number, records[block].tobytes()


def runs_of(values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each distinct value, ascending, with the places that hold it, ascending."""
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    for places in np.split(order, cuts):
        if len(places):
            yield int(values[places[0]]), places
