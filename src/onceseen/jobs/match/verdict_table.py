"""Step 6 of match: each shard's verdicts table; who takes part in no pair is kept, who failed is failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from onceseen.clusters import SampleVerdict
from onceseen.core.features import read_features
from onceseen.core.files import write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict, node_row
from onceseen.core.schemas import OK, VERDICTS

Grouped = tuple[int, Mapping[str, Iterable[Any]]]


def write_verdicts(keyed: Grouped, layout: RunLayout) -> None:
    """Writes verdicts/<shard>.parquet, one row a sample, in the shard's order.

    Args:
        keyed: Shard number, with `shard` (one) and `verdicts` (lists of `SampleVerdict` fields).
        layout: The run.
    """
    found = {
        node_row(verdict.node): verdict
        for block in keyed[1]["verdicts"]
        for verdict in (SampleVerdict(*fields) for fields in block)
    }
    for shard in keyed[1]["shard"]:
        table = read_features(layout, shard, ["sample_id", "key", "row", "status"]).to_pylist()
        rows = [verdict_fields(shard, sample, found.get(sample["row"])) for sample in table]
        write_table(layout.verdicts(shard.name), pa.Table.from_pylist(rows, schema=VERDICTS))


def verdict_fields(shard: Shard, sample: Mapping[str, Any], found: SampleVerdict | None) -> dict[str, Any]:
    """A row of the verdicts table from a row of features; None is a sample that takes part in no pair."""
    row: dict[str, Any] = {
        "sample_id": sample["sample_id"],
        "shard": shard.name,
        "key": sample["key"],
        "row": sample["row"],
        "copies": 1,
        "component_id": sample["sample_id"],
        "component_size": 1,
        "weight": 1.0,
    }
    if found is not None:
        row |= {
            "verdict": str(found.verdict),
            "representative_id": found.representative_id or None,
            "evidence_a": found.evidence_a or None,
            "evidence_b": found.evidence_b or None,
            "kind": str(found.kind) or None,
            "score": found.score if found.verdict == Verdict.DROP else None,
            "copies": found.copies,
            "component_id": found.component_id,
            "component_size": found.component_size,
            "weight": found.weight,
        }
    elif sample["status"] == OK:
        row |= {"verdict": str(Verdict.KEEP), "representative_id": sample["sample_id"]}
    else:
        row |= {"verdict": str(Verdict.FAILED)}
    return row
