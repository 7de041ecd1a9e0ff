"""Decontamination: the verdicts of a reference without the components that touch an evaluation set.

Whole components go, from the reference's side alone: what is near a leak is no less a leak (Oquab et al. 2023, DINOv2,
A.3, do the same).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from onceseen.core.files import list_files, read_table, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import counter
from onceseen.core.records import Shard, Verdict
from onceseen.core.schemas import VERDICTS
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.shuffles import Spread

CONTAMINATED = "contaminated"
"""The kind of evidence in the verdicts of what leaves the reference."""

_FILE = "contaminated"
_COLUMNS = ["component_id", "query_id", "reference_id", "kind", "score"]


@dataclass(eq=False)
class WriteContaminated(beam.PTransform):
    """Shards to the verdicts of the reference's shards; written from what `gather_components` left."""

    layout: RunLayout
    reference: RunLayout

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Spreads the shards and writes each one's verdicts."""
        return (
            shards
            | "Spread" >> Spread("scan/shards")
            | "WriteContaminated" >> beam.Map(write_contaminated, self.layout, self.reference)
        )


def gather_components(layout: RunLayout) -> int:
    """Leaves, for the workers, the reference's components that a query touches, each with its best query.

    Returns:
        Their number. Memory: one row a component that is touched.
    """
    best: dict[str, dict[str, Any]] = {}
    for path in list_files(layout.path("findings"), ".parquet"):
        table = read_table(path, columns=_COLUMNS)
        for row in table.filter(pc.is_valid(table["component_id"])).to_pylist():
            known = best.setdefault(row["component_id"], row)
            if (-(row["score"] or 0), row["query_id"]) < (-(known["score"] or 0), known["query_id"]):
                best[row["component_id"]] = row
    rows = [best[component] for component in sorted(best)]
    schema = pa.schema([(n, pa.float32() if n == "score" else pa.string()) for n in _COLUMNS])
    write_table(WorkFiles(layout).path(_FILE, 0, "parquet"), pa.Table.from_pylist(rows, schema=schema))
    return len(rows)


def write_contaminated(shard: Shard, layout: RunLayout, reference: RunLayout) -> None:
    """Writes one reference shard's verdicts, the samples of touched components dropped.

    A dropped row names the query that its component was nearest to as `evidence_a`, the reference picture compared with
    it as `evidence_b`; the reference's own drops stay as they are where their component is not touched.
    """
    touched = {row["component_id"]: row for row in _touched(layout)}
    table = read_table(reference.verdicts(shard.name))
    rows = table.select(VERDICTS.names).to_pylist()
    for row in rows:
        found = touched.get(row["component_id"])
        if found is None or row["verdict"] == Verdict.FAILED:
            continue
        row |= {
            "verdict": str(Verdict.DROP),
            "representative_id": None,
            "evidence_a": found["query_id"],
            "evidence_b": found["reference_id"],
            "kind": CONTAMINATED,
            "score": found["score"],
            "weight": 0.0,
        }
        counter("scan/contaminated").inc()
    write_table(layout.verdicts(shard.name), pa.Table.from_pylist(rows, schema=VERDICTS))


def _touched(layout: RunLayout) -> list[dict[str, Any]]:
    table: pa.Table = read_table(WorkFiles(layout).path(_FILE, 0, "parquet"))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
