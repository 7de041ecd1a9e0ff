"""What crosses a border between stages, measured: the jobs group blocks and spread shards through here.

The encoded size of each element goes to the distribution `element_bytes/<name>`. Elements are packed blocks of at most
`BLOCK_BYTES`, far under the 64 MB that a runner takes without harm; one over `ELEMENT_LIMIT` is a bug and is logged.
What is gathered for one key is larger: each transform states its bound.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import apache_beam as beam
from apache_beam.coders import Coder, registry
from numpy.typing import NDArray

from onceseen.core.metrics import distribution

ELEMENT_LIMIT = 64_000_000
"""Bytes of one element that no input may exceed."""

SIZES = "element_bytes/"
"""What the names of the distributions of encoded sizes begin with; the border's name follows."""

BLOCK_BYTES = 8 << 20
"""Bytes of one packed block: larger ones are cut; blocks are sorted after they are gathered, so no result changes."""

_T = TypeVar("_T", bound=Sequence[Any] | NDArray[Any])
_log = logging.getLogger(__name__)


def block_slices(count: int, each: int) -> Iterator[slice]:
    """Slices of `count` records of `each` bytes into blocks of at most `BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // max(1, each))
    for start in range(0, count, step):
        yield slice(start, start + step)


def portions(values: _T, each: int) -> Iterator[_T]:
    """Values of some `each` bytes in portions of at most `BLOCK_BYTES`."""
    for part in block_slices(len(values), each):
        yield cast(_T, values[part])


class MeasureFn(beam.DoFn):
    """Passes elements on and notes their encoded size. Cost: a counting pass of the coder, which copies no bytes."""

    def __init__(self, name: str, coder: Coder) -> None:
        """Keeps the name of the border and the coder that its elements are encoded by."""
        self._name = name
        self._coder = coder

    def process(self, element: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever crosses
        """Passes one element on."""
        size = self._coder.estimate_size(element)
        distribution(SIZES + self._name).update(size)
        if size > ELEMENT_LIMIT:
            _log.warning(
                "%s: an element of %d bytes, more than %d; report this", self._name, size, ELEMENT_LIMIT
            )
        yield element


@dataclass(eq=False)
class Measure(beam.PTransform):
    """Elements as they are, their sizes noted."""

    name: str

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Notes sizes; element type and coder stay."""
        kind = elements.element_type
        return elements | "Measure" >> beam.ParDo(
            MeasureFn(self.name, registry.get_coder(kind))
        ).with_output_types(kind)


@dataclass(eq=False)
class Spread(beam.PTransform):
    """Shard descriptions, a few hundred bytes each, spread over the workers."""

    name: str

    def expand(self, shards: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Notes sizes and spreads."""
        return shards | Measure(self.name) | "Reshuffle" >> beam.Reshuffle()


@dataclass(eq=False)
class Gather(beam.PTransform):
    """Keyed blocks, gathered by key."""

    name: str

    def expand(self, blocks: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Notes sizes and groups."""
        return blocks | Measure(self.name) | "Group" >> beam.GroupByKey()


@dataclass(eq=False)
class Merge(beam.PTransform):
    """Keyed blocks to one result a key, merged on the way: a runner merges what a worker sends before it sends it.

    Attributes:
        name: Name of the border.
        merging: A CombineFn over the blocks, whose result must not depend on their order or grouping.
    """

    name: str
    merging: beam.CombineFn

    def expand(self, blocks: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Notes sizes and merges."""
        return blocks | Measure(self.name) | "Combine" >> beam.CombinePerKey(self.merging)
