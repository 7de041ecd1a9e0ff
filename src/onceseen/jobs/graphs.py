"""Graphs over shards: what a job is made of before a runner sees it.

A graph holds no listing: it starts from ranges of shard numbers, and a worker reads their descriptions from run.json,
so that a job over a million shards is no larger to submit than one over ten. Several steps of a job make one graph,
each starting when the one before it has written all its files: remote runners need seconds to minutes to start a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import apache_beam as beam

from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_shards
from onceseen.core.records import Shard

Build = Callable[[beam.Pipeline], object]
Ranges = tuple[tuple[int, int], ...]
"""Shard numbers as (first, one after the last), ascending."""


def over_shards(
    layout: RunLayout, shards: Sequence[Shard], steps: Sequence[beam.PTransform], *, bare: bool = False
) -> Build:
    """The graph of some steps over the same shards, one after the other.

    Args:
        layout: A run whose run.json lists the shards.
        shards: Which of them.
        steps: In their order, each from shards to files; the output, of whatever kind, is complete when the files are.
        bare: Whether descriptions go without the file lists of folder shards, which only readers of pictures need.
    """
    ranges = number_ranges(shard.number for shard in shards)

    def build(pipeline: beam.Pipeline) -> object:
        turn = pipeline | "Start" >> beam.Create([ranges], reshuffle=False)
        done = None
        for step in steps:
            if done is not None:
                turn = (turn, done) | f"After {step.label}" >> _NextTurn()
            listed = turn | f"List {step.label}" >> beam.FlatMap(list_shards, layout, bare)
            done = listed | step
        return done

    return build


def number_ranges(numbers: Iterable[int]) -> Ranges:
    """Numbers as ranges, ascending."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return tuple(ranges)


def list_shards(ranges: Ranges, layout: RunLayout, bare: bool) -> Iterator[Shard]:
    """Descriptions of the shards in some ranges, from run.json."""
    wanted = {number for first, end in ranges for number in range(first, end)}
    for shard in read_shards(layout):
        if shard.number in wanted:
            yield replace(shard, files=()) if bare else shard


class _NextTurn(beam.PTransform):
    """The start of a step that waits for the one before: a grouping is a barrier on every runner."""

    def expand(
        self, pcolls: tuple[beam.PCollection[Ranges], beam.PCollection[object]]
    ) -> beam.PCollection[Ranges]:
        turn, done = pcolls
        return (
            (turn | "Keep" >> beam.Map(_keyed), done | "Forget" >> beam.Map(_nothing))
            | beam.Flatten()
            | beam.GroupByKey()
            | "Start" >> beam.FlatMap(_kept)
        )


def _keyed(ranges: Ranges) -> tuple[int, Ranges]:
    return 0, ranges


def _nothing(_: object) -> tuple[int, Ranges]:
    return 0, ()


def _kept(keyed: tuple[int, Iterable[Ranges]]) -> Iterator[Ranges]:
    yield from (ranges for ranges in keyed[1] if ranges)
