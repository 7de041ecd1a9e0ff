"""Step 1 of an audit: which prompt each generation answers, and the probe by which its training picture is searched.

A prompt is taken from the table that was given, else from the field `prompt` of the sample's json, else from its
caption. Prompts that differ in case, blanks or Unicode form alone are one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onceseen.audit.search import probes_of
from onceseen.core.features import fixed_bytes, read_features, read_thumb_rows
from onceseen.core.files import read_table_if_there, write_json, write_table
from onceseen.core.metrics import counter
from onceseen.core.records import Shard, node_id
from onceseen.core.schemas import OK, THUMB_SIDE
from onceseen.detect import Finding
from onceseen.jobs.audit.plan import FACTS, PROBE, PROBES, PROMPTED, TABLE, AuditPlan
from onceseen.jobs.shuffles import Spread
from onceseen.neighbors.packing import Records
from onceseen.stats.text import hash64, normalise_caption

PROMPT, SEED = "prompt", "seed"
"""Fields of a sample's json."""

_EXAMPLES = 5
_COLUMNS = ["sample_id", "row", "status", "blank", "caption", "meta", "width", "height"]
_PROMPTED = pa.schema(
    [
        ("node", pa.int64()),
        ("sample_id", pa.string()),
        ("prompt", pa.uint64()),  # 0: none
        ("seed", pa.string()),
        ("blank", pa.bool_()),
        ("side", pa.int32()),  # longer one, in pixels
    ]
)

Given = Mapping[str, tuple[str, str]]
"""(prompt, seed) by sample id: rows of the table that the command was given."""


@dataclass(eq=False)
class ReadPrompts(beam.PTransform):
    """Shards of generations and held-out pictures to probes, prompts and counts, a file a shard."""

    plan: AuditPlan

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards and reads the features of each."""
        return (
            shards | "Spread" >> Spread("audit/shards") | "ReadPrompts" >> beam.Map(read_prompts, self.plan)
        )


def read_prompts(shard: Shard, plan: AuditPlan) -> None:
    """Writes what is known of one shard's pictures. Memory: some 5 KB a picture, for its thumb."""
    table = read_features(plan.layout, shard, _COLUMNS)
    findings = plan.findings(shard, ["verdict", "reference_id"])
    ok = np.array([status == OK for status in table["status"].to_pylist()], dtype=bool)
    blank = np.array([bool(value) for value in table["blank"].to_pylist()], dtype=bool)
    facts: dict[str, Any] = {
        "read": len(table),
        "failed": int((~ok).sum()),
        "blank": int((ok & blank).sum()),
        "references": sorted({v for v in findings["reference_id"].to_pylist() if v is not None}),
    }
    searched = ok & ~blank
    if plan.is_held_out(shard):
        known = np.array([v == Finding.DUPLICATE for v in findings["verdict"].to_pylist()], dtype=bool)
        facts["overlapping"] = int((searched & known).sum())
        searched &= ~known
    else:
        facts |= _write_prompted(shard, plan, table.filter(pa.array(ok)))
    plan.work.write(PROBES, shard.number, read_probes(shard, plan, np.flatnonzero(searched)))
    write_json(plan.work.path(FACTS, shard.number, "json"), facts)


def read_probes(shard: Shard, plan: AuditPlan, rows: NDArray[np.int64]) -> Records:
    """`PROBE` records of some rows, ascending and each once, of a shard. Memory: 4 KB a row."""
    thumbs = fixed_bytes(read_thumb_rows(plan.layout, shard, rows), "thumb", THUMB_SIDE * THUMB_SIDE)
    records = np.empty(len(rows), dtype=PROBE)
    records["node"] = node_id(shard.number, 0) + rows
    records["probe"] = probes_of(thumbs.reshape(-1, THUMB_SIDE, THUMB_SIDE))
    return records


def _write_prompted(shard: Shard, plan: AuditPlan, table: pa.Table) -> dict[str, Any]:
    """Writes prompt, seed and size of each generation that could be read; returns the counts."""
    ids = table["sample_id"].to_pylist()
    given = given_prompts(plan, ids, shard.id_prefix)
    rows = []
    texts: dict[str, str] = {}
    without: list[str] = []
    for sample in table.to_pylist():
        text, seed = prompt_of(sample["sample_id"], sample["meta"], sample["caption"], given)
        normal = normalise_caption(text)
        key = hash64(normal) if normal else 0
        if normal:
            texts.setdefault(str(key), text.strip())
        else:
            without.append(sample["sample_id"])
        rows.append(
            {
                "node": node_id(shard.number, sample["row"]),
                "sample_id": sample["sample_id"],
                "prompt": key,
                "seed": seed,
                "blank": bool(sample["blank"]),
                "side": max(sample["width"], sample["height"]),
            }
        )
    counter("audit/generations").inc(len(rows))
    write_table(
        plan.work.path(PROMPTED, shard.number, "parquet"), pa.Table.from_pylist(rows, schema=_PROMPTED)
    )
    sides = Counter(str(row["side"]) for row in rows if not row["blank"])
    return {
        "prompts": texts,
        "sides": dict(sorted(sides.items())),
        "without_prompt": len(without),
        "without": without[:_EXAMPLES],
        "in_table": len(given),
    }


def prompt_of(sample_id: str, meta: str | None, caption: str | None, given: Given) -> tuple[str, str]:
    """(prompt, seed) of a generation, empty where it has none.

    Args:
        sample_id: Its id.
        meta: Its json's fields, as the features have them.
        caption: Its caption.
        given: Rows of the table that the command was given.
    """
    fields = json.loads(meta) if meta else {}
    seed = fields.get(SEED)
    told = (fields.get(PROMPT), "" if seed is None else str(seed))
    prompt, seed = given.get(sample_id, ("", ""))
    prompt = prompt or (told[0] if isinstance(told[0], str) else "") or caption or ""
    return prompt, seed or told[1]


def given_prompts(plan: AuditPlan, ids: Sequence[str], prefix: str) -> Given:
    """Rows of the given table for some samples, by sample id; none where no table was given.

    Args:
        plan: The audit.
        ids: Sample ids of one shard.
        prefix: The shard's `id_prefix`: a folder's files may be named by their path in SRC.

    Memory: the table, in Arrow's form.
    """
    table = read_table_if_there(plan.work.path(TABLE, 0, "parquet"))
    if table is None:
        return {}
    by_name = {sample_id.removeprefix(prefix): sample_id for sample_id in ids}
    by_name |= {sample_id: sample_id for sample_id in ids}
    mine = table.filter(pc.is_in(table["file"], pa.array(list(by_name), pa.string())))
    return {
        by_name[file]: (prompt, seed)
        for file, prompt, seed in zip(*(mine[n].to_pylist() for n in ("file", PROMPT, SEED)), strict=True)
    }
