"""After a scan: one table of all findings, counts that reconcile, a delete list and a report."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onceseen.core.config import PipelineConfig
from onceseen.core.files import (
    atomic_write,
    read_json,
    read_json_if_there,
    read_table,
    write_bytes,
    write_json,
)
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.core.schemas import FINDINGS
from onceseen.detect import Finding
from onceseen.jobs.reference_run import ReferenceRun
from onceseen.jobs.scan.contaminated import CONTAMINATED
from onceseen.stats import ReconciliationError
from onceseen.stats.report.scan import ScanReport, write_scan_report


def write_scan_results(
    layout: RunLayout, reference: ReferenceRun, shards: Sequence[Shard], config: PipelineConfig
) -> dict[str, Any]:
    """Writes flagged.parquet, summary.json, delete_list.csv and report.html, and asserts that nothing was lost.

    Args:
        layout: A scan whose match job is done.
        reference: The run searched.
        shards: The query set.
        config: The scan's.

    Returns:
        The content of summary.json. Memory: the ids of the reference pictures that were found.

    Raises:
        ReconciliationError: If a shard's findings are not as many as its samples.
    """
    counts = _gather(layout, shards)
    marks = [read_json(layout.extract_summary(s.name)) for s in shards]
    summary: dict[str, Any] = {
        "policy": config.scan.policy,
        "reference": {"match": reference.match, "shards": len(reference.shards)},
        "read": sum(m["read"] for m in marks),
        **{str(finding): counts["verdict"][str(finding)] for finding in Finding},
        "failed_by": dict(sorted(sum((Counter(m["failed_by"]) for m in marks), Counter[str]()).items())),
        "shards_failed": sum(bool(m["damaged"]) for m in marks),
        "duplicates_by": dict(sorted(counts["kind"].items())),
        "transforms": dict(sorted(counts["transform"].items())),
        "references_found": len(counts["reference"]),
    }
    if config.scan.policy == "flag":
        rows = _flagged_rows(layout, shards)
        written = list(shards)
    else:
        summary |= _splits(layout, reference, shards)
        rows = _contaminated_rows(layout, reference)
        written = list(reference.shards)
    write_reasons(layout, rows)
    rewritten = [read_json_if_there(layout.rewrite_mark(s.name)) for s in written]
    done = [m for m in rewritten if m is not None]
    summary["bytes_written"] = sum(m["bytes_written"] for m in done) if len(done) == len(written) else None
    write_json(layout.path("summary.json"), summary)
    write_scan_report(ScanReport(layout, reference.layout, tuple(shards), config, summary))
    return summary


def _gather(layout: RunLayout, shards: Sequence[Shard]) -> dict[str, Counter[str]]:
    """Joins the shards' findings to flagged.parquet and counts them."""
    counts: dict[str, Counter[str]] = {n: Counter() for n in ("verdict", "kind", "transform", "reference")}
    with (
        atomic_write(layout.flagged()) as stream,
        pq.ParquetWriter(stream, FINDINGS, compression="zstd") as out,
    ):
        for shard in shards:
            table = read_table(layout.findings(shard.number))
            read = read_json(layout.extract_summary(shard.name))["read"]
            if len(table) != read:
                raise ReconciliationError(
                    f"shard {shard.name}: {read:,} samples were read and {len(table):,} have a finding; report this"
                )
            out.write_table(table)
            _count(table, counts)
    return counts


def _count(table: pa.Table, counts: Mapping[str, Counter[str]]) -> None:
    counts["verdict"].update(table["verdict"].to_pylist())
    duplicates = table.filter(pc.equal(table["verdict"], str(Finding.DUPLICATE)))
    for name in ("kind", "transform"):
        counts[name].update(v for v in duplicates[name].to_pylist() if v is not None)
    counts["reference"].update(v for v in table["reference_id"].to_pylist() if v is not None)


def _flagged_rows(layout: RunLayout, shards: Sequence[Shard]) -> Iterator[tuple[str, str, str]]:
    """(sample_id, reason, evidence) of the duplicates."""
    columns = ["query_id", "verdict", "reference_id", "kind", "score", "transform", "copies"]
    for shard in shards:
        table = read_table(layout.findings(shard.number), columns=columns)
        for row in table.filter(pc.equal(table["verdict"], str(Finding.DUPLICATE))).to_pylist():
            yield row["query_id"], row["kind"], _evidence(row)


def _evidence(row: Mapping[str, Any]) -> str:
    parts = [row["reference_id"] or "(a person's decision)"]
    if row["score"] is not None:
        parts.append(f"score {row['score']:.3f}")
    if row["transform"]:
        parts.append(row["transform"])
    if row["copies"]:
        parts.append(f"{row['copies']} copies")
    return "; ".join(parts)


def _contaminated_rows(layout: RunLayout, reference: ReferenceRun) -> Iterator[tuple[str, str, str]]:
    """(sample_id, reason, evidence) of the reference pictures that leave it."""
    columns = ["sample_id", "kind", "evidence_a", "evidence_b", "score"]
    for shard in reference.shards:
        table = read_table(layout.verdicts(shard.name), columns=columns)
        for row in table.filter(pc.equal(table["kind"], CONTAMINATED)).to_pylist():
            score = "" if row["score"] is None else f"; score {row['score']:.3f}"
            yield row["sample_id"], CONTAMINATED, f"{row['evidence_a']} ~ {row['evidence_b']}{score}"


def write_reasons(layout: RunLayout, rows: Iterable[tuple[str, str, str]]) -> None:
    """Writes delete_list.csv of a scan or an audit: (sample_id, reason, evidence)."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("sample_id", "reason", "evidence"))
    out.writerows(rows)
    write_bytes(layout.path("delete_list.csv"), text.getvalue().encode("utf-8", "surrogateescape"))


def split_of(shard: Shard) -> str:
    """The split that a shard belongs to: the SRC's name where there are several, else its directory's."""
    first, slash, _ = shard.name.partition("/")
    if slash:
        return first
    directory = shard.path.rstrip("/")
    if shard.kind != ShardKind.FOLDER:
        directory = directory.rpartition("/")[0]
    return directory.rpartition("/")[2] or shard.name


def _splits(layout: RunLayout, reference: ReferenceRun, shards: Sequence[Shard]) -> dict[str, Any]:
    """Both sides of each pair of splits: evaluation pictures that leak, training pictures that leave."""
    split_of_component: dict[str, set[str]] = {}
    leaving: Counter[str] = Counter()
    kept_before: Counter[str] = Counter()
    kept_after: Counter[str] = Counter()
    for shard in reference.shards:
        split = split_of(shard)
        after = read_table(layout.verdicts(shard.name), columns=["kind", "verdict", "component_id"])
        before = read_table(reference.layout.verdicts(shard.name), columns=["verdict"])
        kept_before[split] += before["verdict"].to_pylist().count("keep")
        kept_after[split] += after["verdict"].to_pylist().count("keep")
        gone = after.filter(pc.equal(after["kind"], CONTAMINATED))["component_id"].to_pylist()
        leaving[split] += len(gone)
        for component in gone:
            split_of_component.setdefault(component, set()).add(split)
    pairs: dict[tuple[str, str], Counter[str]] = {}
    read: Counter[str] = Counter()
    components: dict[tuple[str, str], set[str]] = {}
    for shard in shards:
        table = read_table(layout.findings(shard.number), columns=["verdict", "component_id"])
        read[split_of(shard)] += len(table)
        for row in table.filter(pc.is_valid(table["component_id"])).to_pylist():
            for split in split_of_component.get(row["component_id"], ()):
                pair = split_of(shard), split
                pairs.setdefault(pair, Counter())[row["verdict"]] += 1
                components.setdefault(pair, set()).add(row["component_id"])
    rows = [
        {
            "evaluation": evaluation,
            "training": training,
            "evaluation_read": read[evaluation],
            "evaluation_duplicate": found[Finding.DUPLICATE],
            "evaluation_near": found[Finding.NEAR],
            "training_components": len(components[evaluation, training]),
        }
        for (evaluation, training), found in sorted(pairs.items())
    ]
    return {
        "splits": rows,
        "training": {
            split: {
                "kept_before": kept_before[split],
                "contaminated": leaving[split],
                "kept_after": kept_after[split],
            }
            for split in sorted(kept_before)
        },
        "contaminated": sum(leaving.values()),
    }
