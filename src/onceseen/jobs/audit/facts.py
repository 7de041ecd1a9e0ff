"""What step 1 counted, over all shards; and what step 2 is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from onceseen.core.files import read_json, write_table
from onceseen.core.records import Shard
from onceseen.jobs.audit.plan import ASKED, CAPTIONS, FACTS, REFERENCES, TEXTS, AuditPlan
from onceseen.jobs.audit.training import HASHES
from onceseen.stats.text import hash64

_EXAMPLES = 5
_TEXTS = pa.schema([("prompt", pa.uint64()), ("text", pa.string())])


@dataclass(slots=True)
class Counts:
    """Counts of one of the two sets.

    Attributes:
        read: Pictures met.
        failed: Those that could not be read.
        blank: Those that are flat.
        without_prompt: Generations without a prompt.
        overlapping: Held-out pictures that the detector finds in the training set.
        in_table: Generations that the given table names.
        without: Ids of a few generations without a prompt.
    """

    read: int = 0
    failed: int = 0
    blank: int = 0
    without_prompt: int = 0
    overlapping: int = 0
    in_table: int = 0
    without: list[str] = field(default_factory=list)

    def add(self, facts: dict[str, Any]) -> None:
        """Adds one shard's."""
        for name in ("read", "failed", "blank", "without_prompt", "overlapping", "in_table"):
            setattr(self, name, getattr(self, name) + facts.get(name, 0))
        self.without = (self.without + facts.get("without", []))[:_EXAMPLES]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known before anything is searched.

    Attributes:
        generated: Counts of the generations.
        held_out: Counts of the held-out pictures.
        texts: Prompts as their first generation has them, by hash. Memory: some 200 bytes a prompt.
        commonest: The commonest longer side of the generations, in pixels; of several the larger.
    """

    generated: Counts
    held_out: Counts
    texts: dict[int, str]
    commonest: int


def gather_facts(plan: AuditPlan, shards: Sequence[Shard]) -> Facts:
    """Adds up the shards' counts and leaves for the workers which captions and pictures to look up.

    Args:
        plan: An audit whose prompts are read.
        shards: Of the generations and the held-out pictures, by number.
    """
    generated, held_out = Counts(), Counts()
    texts: dict[int, str] = {}
    sides: Counter[int] = Counter()
    named: set[int] = set()
    for shard in shards:
        facts = read_json(plan.work.path(FACTS, shard.number, "json"))
        (held_out if plan.is_held_out(shard) else generated).add(facts)
        for key, text in facts.get("prompts", {}).items():
            texts.setdefault(int(key), text)
        sides.update({int(side): count for side, count in facts.get("sides", {}).items()})
        named.update(hash64(name) for name in facts["references"])
    _write_hashes(plan, CAPTIONS, texts)
    _write_hashes(plan, REFERENCES, named)
    rows = [{"prompt": key, "text": text} for key, text in sorted(texts.items())]
    write_table(plan.work.path(TEXTS, 0, "parquet"), pa.Table.from_pylist(rows, schema=_TEXTS))
    commonest = max(sides, key=lambda side: (sides[side], side), default=0)
    return Facts(generated, held_out, texts, commonest)


def _write_hashes(plan: AuditPlan, name: str, hashes: Iterable[int]) -> None:
    records = np.empty(len(values := sorted(hashes)), dtype=HASHES)
    records["hash"] = values
    plan.work.write(f"{ASKED}/{name}", 0, records)
