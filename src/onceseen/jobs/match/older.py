"""What an older run has judged, taken over where a crawl is appended to it."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from onceseen.core.files import read_table_if_there, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import PairKind, Shard
from onceseen.core.schemas import PAIRS
from onceseen.jobs.match.judged import JUDGED
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.shuffles import Spread

STEP = "judged-older"
_STARS = pa.array([str(PairKind.BYTES), str(PairKind.PIXELS)])


@dataclass(eq=False)
class TakeOlderPairs(beam.PTransform):
    """Shards to the pairs that an older run has judged, as a round of this one's. Nothing is shuffled."""

    layout: RunLayout
    older: RunLayout

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards and takes each one's pairs over."""
        return (
            shards
            | "Spread" >> Spread("match/shards")
            | "TakePairs" >> beam.Map(take_pairs, self.layout, self.older)
        )


def take_pairs(shard: Shard, layout: RunLayout, older: RunLayout) -> None:
    """Writes the older run's pairs of one shard; star rows are left out, since exact classes are found anew.

    What the older run left in doubt decided nothing there, and is not asked again.
    """
    table = read_table_if_there(older.pairs(shard.number), PAIRS.names)
    if table is None:
        return
    judged = table.filter(pc.invert(pc.is_in(table["kind"], value_set=_STARS)))
    doubtful = pa.array([False] * len(judged), pa.bool_())
    write_table(
        WorkFiles(layout).path(STEP, shard.number, "parquet"),
        judged.append_column("doubtful", doubtful).cast(JUDGED),
    )
