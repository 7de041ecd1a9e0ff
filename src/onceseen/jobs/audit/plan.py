"""What the steps of an audit share: where things are, which shards are what, and names of work files.

OUT/run.json lists three sets of shards, by number: those of the run that was trained on, the generations (features in
OUT/scan/) and held-out pictures (features in OUT/held-out/). So the steps run on graphs over any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from onceseen.audit.search import NEAR
from onceseen.core.config import PipelineConfig
from onceseen.core.features import read_feature_rows, read_features
from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_configs, read_shards
from onceseen.core.records import Shard, node_row, node_shard
from onceseen.jobs.match.work import WorkFiles, runs_of
from onceseen.neighbors.packing import Records
from onceseen.shards import WantedImage
from onceseen.stats.text import hash64
from onceseen.verify.dossiers import rows_of
from onceseen.verify.reread import PictureCache

PROBE = np.dtype([("node", "<i8"), ("probe", "u1", (256,))])
"""A picture whose nearest training pictures are looked for: 264 bytes."""

EXACT = np.dtype(
    [("probe", "<i8"), ("node", "<i8"), ("component", "<u8"), ("distance", "<f4"), ("l2", "<f4")]
)
"""A picture against the nearest of a component whose pixels were compared: 32 bytes."""

# steps of work files, by shard number
FACTS, PROMPTED, PROBES, NEAREST, MEASURED = "facts", "prompted", "probes", "nearest", "measured"
KNOWN, ASKED, TABLE, TEXTS, OCCURRENCES = "known", "asked", "table", "texts", "occurrences"
PROMPT_ROWS, GENERATION_ROWS = "prompt-rows", "generation-rows"

# of `KNOWN`: pictures with a prompt as caption, pictures that the detector named, and a sample
CAPTIONS, REFERENCES, SAMPLE = "captions", "references", "sample"

PICTURE_COLUMNS = ["row", "key", "member", "member_offset", "member_size"]


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """One audit, as its workers know it.

    Attributes:
        layout: OUT.
        reference: The run that was trained on.
        config: All sections.
        first: Number of the first shard of generations.
        held_out: Number of the first held-out shard.
    """

    layout: RunLayout
    reference: RunLayout
    config: PipelineConfig
    first: int
    held_out: int

    @property
    def work(self) -> WorkFiles:
        """The steps' files."""
        return WorkFiles(self.layout)

    def is_generated(self, shard: Shard) -> bool:
        """Whether a shard holds generations."""
        return self.first <= shard.number < self.held_out

    def is_held_out(self, shard: Shard) -> bool:
        """Whether a shard holds pictures that were held out from training."""
        return shard.number >= self.held_out

    def findings(self, shard: Shard, columns: Sequence[str]) -> pa.Table:
        """What the detector said of a shard of generations or of held-out pictures, by row."""
        number = shard.number - (self.held_out - self.first) * self.is_held_out(shard)
        return read_table(self.layout.of(shard).findings(number), columns=columns)

    def known(self, name: str) -> Records:
        """Training pictures that were looked up: `CAPTIONS`, `REFERENCES` or `SAMPLE`, as `NEAR` records."""
        return self.work.read(f"{KNOWN}/{name}", 0, NEAR)


def prompt_id(prompt: int) -> str:
    """A prompt's id in tables: the 16 hexadecimal digits of its hash."""
    return f"{prompt:016x}"


def digest(data: bytes) -> str:
    """What tells one file's content from another's."""
    return hashlib.sha256(data).hexdigest()


class Pictures:
    """Pictures of any of the audit's shards, read again as squares; and what tables say of training pictures.

    One a worker; not for several threads at once. Memory: at most 512 squares beside those asked for at once.
    """

    def __init__(self, plan: AuditPlan, side: int) -> None:
        """Reads the listing."""
        self._plan = plan
        self.shards: Mapping[int, Shard] = {s.number: s for s in read_shards(plan.layout)}
        reads = read_configs(plan.layout, self.shards.values())
        self._cache = PictureCache(self.shards, plan.config.read, side, reads, square=True)

    def wanted(self, nodes: Sequence[int]) -> dict[int, WantedImage]:
        """Where pictures are, by node. Cost: the row groups that hold them, shard by shard."""
        return {
            node: WantedImage(*(row[name] for name in PICTURE_COLUMNS))
            for node, row in self.rows(nodes, PICTURE_COLUMNS).items()
        }

    def load(self, wanted: Mapping[int, WantedImage]) -> dict[int, np.ndarray[Any, np.dtype[np.uint8]]]:
        """Pictures, (side, side, 3) uint8 RGB each, by node."""
        return self._cache.load(wanted)

    def rows(self, nodes: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Some columns of the features of pictures of any shards, by node."""
        found: dict[int, dict[str, Any]] = {}
        all_nodes = np.unique(np.asarray(nodes, dtype=np.int64))
        for number, places in runs_of(node_shard(all_nodes)):
            own = all_nodes[places]
            table = read_feature_rows(self._plan.layout, self.shards[number], rows_of(own), columns)
            found |= dict(zip(own.tolist(), table.to_pylist(), strict=True))
        return found

    def verdicts(self, nodes: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Id, component and representative of training pictures, by node."""
        found: dict[int, dict[str, Any]] = {}
        all_nodes = np.unique(np.asarray(nodes, dtype=np.int64))
        for number, places in runs_of(node_shard(all_nodes)):
            own = all_nodes[places]
            table = read_verdicts(self._plan, self.shards[number])
            found |= dict(zip(own.tolist(), table.take(node_row(own)).to_pylist(), strict=True))
        return found


def read_verdicts(plan: AuditPlan, shard: Shard) -> pa.Table:
    """The reference's verdicts on one of its shards, by row."""
    columns = ["sample_id", "verdict", "representative_id", "copies", "component_id"]
    return read_table(plan.reference.verdicts(shard.name), columns=columns)


def judged_rows(plan: AuditPlan, shard: Shard) -> pa.Table:
    """What is needed of a shard's features to know which of its pictures can be compared, by row."""
    return read_features(plan.layout, shard, ["sample_id", "row", "status", "blank", "caption", "pixel_hash"])


def component_hashes(verdicts: pa.Table) -> Any:  # noqa: ANN401 - an array
    """(n,) uint64: the component of each row, as its hash: two of a billion collide with a probability of 3%."""
    ids = verdicts["component_id"].to_pylist()
    return np.array([hash64(component) for component in ids], dtype=np.uint64)
