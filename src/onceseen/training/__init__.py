"""Use a run while training: filters and weights for WebDataset pipelines.

Two ways lead from a run to a training loop:

* Read the rewritten shards, ``RUN/shards``. Every sample there is kept, and its member ``onceseen.json`` says
  how many pictures it stands for: ``sample_weight`` and ``sample_copies`` read it.
* Read the original shards and leave out what the run dropped: ``deduplicated(pipeline, RUN)`` (or
  ``pipeline.select(kept(RUN))``) looks verdicts up in ``RUN/verdicts``. This needs no second copy of the set.

Example::

    dataset = wds.WebDataset(urls, shardshuffle=100, seed=0)
    dataset = deduplicated(dataset, "run").decode("pil").map(lambda s: (s["jpg"], s["txt"], sample_weight(s)))
    loader = torch.utils.data.DataLoader(dataset.batched(32), batch_size=None, num_workers=4)

Everything here pickles (DataLoader workers, also started by spawn), reads one verdict table a shard when the
first sample of that shard arrives, and imports neither torch nor Beam. Nothing depends on the order of
samples or on the number of workers.
"""

from onceseen.training.pipelines import (
    accepted_by_weight,
    deduplicated,
    kept,
    sample_copies,
    sample_weight,
    weights,
)
from onceseen.training.tables import MEMBER, SampleFacts, VerdictTables, largest_weight, sample_facts

__all__ = [
    "MEMBER",
    "SampleFacts",
    "VerdictTables",
    "accepted_by_weight",
    "deduplicated",
    "kept",
    "largest_weight",
    "sample_copies",
    "sample_facts",
    "sample_weight",
    "weights",
]
