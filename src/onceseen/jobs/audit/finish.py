"""Last step of an audit: tables, counts that reconcile, rates, what should leave the training set, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.audit import MatchedBy, PromptOutcome
from onceseen.core.files import atomic_write, read_table_if_there, write_json, write_table
from onceseen.core.records import Shard
from onceseen.core.schemas import AUDIT_GENERATIONS, AUDIT_PROMPTS
from onceseen.jobs.audit.facts import Facts
from onceseen.jobs.audit.given import Truth
from onceseen.jobs.audit.plan import (
    CAPTIONS,
    GENERATION_ROWS,
    OCCURRENCES,
    PROMPT_ROWS,
    AuditPlan,
    read_verdicts,
)
from onceseen.jobs.audit.summary import Judged, summarise_audit
from onceseen.jobs.audit.thresholds import AuditThresholds, measured_distances
from onceseen.jobs.audit.training import COUNTS
from onceseen.jobs.scan.finish import write_reasons
from onceseen.stats import ReconciliationError
from onceseen.stats.report.audit import AuditReport, write_audit_report


def write_audit_results(
    plan: AuditPlan, shards: Sequence[Shard], facts: Facts, thresholds: AuditThresholds, truth: Truth
) -> dict[str, Any]:
    """Writes prompts.parquet, generations.parquet, thresholds.json, delete_list.csv, summary.json and report.html.

    Args:
        plan: An audit whose prompts are judged.
        shards: All its shards.
        facts: What was counted first.
        thresholds: What it went by.
        truth: What is known of the prompts.

    Returns:
        The content of summary.json. Memory: the rows on prompts, some 1 KB each, and a shard's rows on generations.

    Raises:
        ReconciliationError: If generations read are not judged + excluded + failed + without a prompt.
    """
    generated = [s for s in shards if plan.is_generated(s)]
    prompts = _write_prompts(plan, generated, facts)
    counts = _write_generations(plan, generated)
    _reconcile(facts, prompts, counts)
    write_json(plan.layout.audit_thresholds(), thresholds.to_json())
    extracted = extracted_groups(prompts)
    deleted = list(_copies(plan, shards, extracted))
    write_reasons(plan.layout, deleted)
    distances = {
        "generation_to_train": measured_distances(plan, generated)[0],
        "train_to_train": measured_distances(plan, [s for s in shards if s.number < plan.first])[0],
        "held_out_to_train": measured_distances(plan, [s for s in shards if plan.is_held_out(s)])[0],
    }
    judged = Judged(prompts, counts["judged"], counts["matched"], len(extracted), len(deleted), distances)
    summary = summarise_audit(judged, facts, thresholds, truth)
    write_json(plan.layout.path("summary.json"), summary)
    write_audit_report(AuditReport(plan.layout, plan.reference, plan.config, summary, extracted))
    return summary


def _write_prompts(plan: AuditPlan, generated: Sequence[Shard], facts: Facts) -> list[dict[str, Any]]:
    """Joins the shards' rows, in the order of each prompt's first generation, and adds what the training set says."""
    captions = plan.known(CAPTIONS)
    copies: dict[int, int] = {}
    for prompt, _, _, rank in captions.tolist():
        copies[prompt] = max(copies.get(prompt, 0), -rank)
    occurrences: Counter[int] = Counter()
    for number in plan.work.numbers(OCCURRENCES):
        occurrences.update(dict(plan.work.read(OCCURRENCES, number, COUNTS).tolist()))
    rows: list[dict[str, Any]] = []
    for table in _tables(plan, PROMPT_ROWS, generated):
        rows += table.to_pylist()
    for row in rows:
        key = int(row["prompt_id"], 16)
        row |= {
            "prompt": facts.texts[key],
            "copies": copies.get(key, 0),
            "occurrences": occurrences.get(key, 0),
        }
    write_table(plan.layout.audit_prompts(), pa.Table.from_pylist(rows, schema=AUDIT_PROMPTS))
    return rows


def _write_generations(plan: AuditPlan, generated: Sequence[Shard]) -> Counter[str]:
    """Joins the shards' rows; counts them."""
    counts: Counter[str] = Counter()
    with (
        atomic_write(plan.layout.audit_generations()) as stream,
        pq.ParquetWriter(stream, AUDIT_GENERATIONS, compression="zstd") as out,
    ):
        for table in _tables(plan, GENERATION_ROWS, generated):
            out.write_table(table)
            asked = np.array([prompt is not None for prompt in table["prompt_id"].to_pylist()], dtype=bool)
            excluded = np.array(table["excluded"].to_pylist(), dtype=bool)
            counts["without_prompt"] += int((~asked).sum())
            counts["excluded"] += int((asked & excluded).sum())
            counts["judged"] += int((asked & ~excluded).sum())
            counts["matched"] += sum(table["matched"].to_pylist())
    return counts


def _tables(plan: AuditPlan, step: str, generated: Sequence[Shard]) -> Iterator[pa.Table]:
    for shard in generated:
        table = read_table_if_there(plan.work.path(step, shard.number, "parquet"))
        if table is not None:
            yield table


def _reconcile(facts: Facts, prompts: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> None:
    read, failed = facts.generated.read, facts.generated.failed
    found = counts["judged"] + counts["excluded"] + counts["without_prompt"]
    of_prompts = sum(row["generations"] for row in prompts)
    if read != found + failed or of_prompts != counts["judged"] + counts["excluded"]:
        raise ReconciliationError(
            f"{read:,} generations were read; {counts['judged']:,} judged + {counts['excluded']:,} excluded + "
            f"{failed:,} failed + {counts['without_prompt']:,} without a prompt, {of_prompts:,} of prompts; report this"
        )


def extracted_groups(prompts: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The training pictures that were given back, by the kept picture that stands for each.

    Args:
        prompts: Rows of `AUDIT_PROMPTS`.

    Returns:
        By group the row of the prompt that says it best: the largest clique, then the smallest distance, then by id.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for row in prompts:
        if row["verdict"] == PromptOutcome.MEMORISED:
            known = best.setdefault(row["reference_group"], row)
            best[row["reference_group"]] = min(known, row, key=_rank)
    return {group: best[group] for group in sorted(best)}


def _rank(row: Mapping[str, Any]) -> tuple[int, float, str]:
    return -row["clique"], row["distance"] if row["distance"] is not None else 1.0, row["prompt_id"]


def _copies(
    plan: AuditPlan, shards: Sequence[Shard], extracted: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, str]]:
    """(sample_id, reason, evidence) of every sample of the run in the groups that were given back."""
    if not extracted:
        return
    for shard in shards:
        if shard.number >= plan.first:
            continue
        table = read_verdicts(plan, shard)
        columns = (table[name].to_pylist() for name in ("sample_id", "representative_id"))
        for sample_id, representative in zip(*columns, strict=True):
            row = extracted.get(representative or sample_id)
            if row is not None:
                yield sample_id, str(PromptOutcome.MEMORISED), evidence(row)


def evidence(row: Mapping[str, Any]) -> str:
    """What shows that a training picture was given back, from a prompt's row."""
    parts = [f"{row['reference_id']} ~ {row['representative_id']}"]
    if row["matched_by"] != MatchedBy.DETECTOR and row["distance"] is not None:
        parts.append(f"distance {row['distance']:.4f}")
    parts.append(f"{row['clique']} of {row['generations']} generations alike")
    parts.append(f"prompt {row['prompt_id']}")
    return "; ".join(parts)
