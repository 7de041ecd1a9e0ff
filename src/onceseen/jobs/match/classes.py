"""Step 1 of match: exact classes. 40 bytes a picture pass the shuffle, in packed blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from onceseen.core.features import fixed_bytes, node_ids, read_features, status_ok
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter
from onceseen.core.records import Shard
from onceseen.jobs.match.work import WorkFiles, by_shard
from onceseen.jobs.shuffles import Gather, Spread, portions
from onceseen.neighbors.classes import exact_classes
from onceseen.neighbors.packing import ALL_PAIRS, MEMBER, STAR, Asked, unpack

STEP = "stars"


@dataclass(eq=False)
class FindExactClasses(beam.PTransform):
    """Shards to star rows, written by the member's shard."""

    layout: RunLayout
    partitions: int
    asked: Asked = ALL_PAIRS

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Groups equal pixel hashes and writes who hangs on whom."""
        return (
            shards
            | "Spread" >> Spread("match/shards")
            | "HashBlocks" >> beam.FlatMap(hash_blocks, self.layout, self.partitions)
            | "ByHash" >> Gather("match/hashes")
            | "FindClasses" >> beam.FlatMap(find_classes, self.asked)
            | "ByShard" >> Gather("match/stars")
            | "WriteStars" >> beam.Map(write_stars, self.layout)
        )


def hash_blocks(shard: Shard, layout: RunLayout, partitions: int) -> Iterator[tuple[int, bytes]]:
    """A shard's pixel hashes, split by hash range."""
    table = read_features(layout, shard, ["status", "pixel_hash", "sha256"])
    ok = status_ok(table)
    hashes = fixed_bytes(table, "pixel_hash", 16)[ok]
    members = np.empty(len(hashes), dtype=MEMBER)
    members["hash"] = hashes.copy().view("S16").ravel()
    members["node"] = node_ids(shard, len(table))[ok]
    members["sha"] = np.ascontiguousarray(fixed_bytes(table, "sha256", 32)[ok][:, :16]).view("S16").ravel()
    part = hashes[:, :4].copy().view("<u4").ravel() % partitions
    for number in np.unique(part):
        for block in portions(members[part == number], MEMBER.itemsize):
            yield int(number), block.tobytes()


def find_classes(keyed: tuple[int, Iterable[bytes]], asked: Asked) -> Iterator[tuple[int, bytes]]:
    """Star rows of one hash range, by the member's shard; across, queries hang on references alone."""
    stars = exact_classes(unpack(keyed[1], MEMBER))
    if asked.across:
        stars = stars[stars["head"] < asked.since]
    counter("match/exact_copies").inc(len(stars))
    yield from by_shard(stars, "node")


def class_members(layout: RunLayout, shard: Shard) -> NDArray[np.int64]:
    """Nodes of a shard that belong to another's exact class, ascending."""
    return np.asarray(WorkFiles(layout).read(STEP, shard.number, STAR)["node"], dtype=np.int64)


def write_stars(keyed: tuple[int, Iterable[bytes]], layout: RunLayout) -> None:
    """Writes one shard's star rows, by node."""
    stars = unpack(keyed[1], STAR)
    WorkFiles(layout).write(STEP, keyed[0], stars[np.argsort(stars["node"], kind="stable")])
