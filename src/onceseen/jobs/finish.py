"""After match and rewrite: statistics that reconcile, tables, delete list and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onceseen.core.files import read_json, read_json_if_there, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.shards import RewriteSummary
from onceseen.stats import (
    ReconciliationError,
    summarise,
    write_captions_table,
    write_copies_table,
    write_delete_list,
    write_report,
    write_summary,
)


def write_statistics(layout: RunLayout, shards: Sequence[Shard], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes stats/ and asserts that nothing was lost.

    Args:
        layout: A run whose match job is done.
        shards: The input; of an appended run, the older one's too.
        facts: `candidate_recall` of the match job.

    Returns:
        The content of stats/summary.json.

    Raises:
        ReconciliationError: If read is not kept + dropped + failed, in any shard or in all.
    """
    names = [s.name for s in shards]
    marks = [read_json(layout.of(s).extract_summary(s.name)) for s in shards]
    rewritten = ((s.name, read_json_if_there(layout.of(s).rewrite_mark(s.name))) for s in shards)
    written = [_checked_mark(name, mark) for name, mark in rewritten if mark is not None]
    extras = {
        "candidate_recall": facts.get("candidate_recall"),
        "bytes_read": sum(m["bytes_read"] for m in marks),
        "bytes_written": sum(m["bytes_written"] for m in written) if len(written) == len(names) else None,
    }
    summary = summarise(layout, shards, extras)
    write_summary(layout, summary)
    write_json(layout.stats("candidate_recall.json"), dict(facts))
    write_copies_table(layout, shards)
    write_captions_table(layout, shards)
    write_delete_list(layout, names)
    write_report(layout)
    return summary


def _checked_mark(name: str, mark: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rewritten shard's counts, which must add up."""
    known = RewriteSummary.__slots__
    if mark["read"] != mark["kept"] + mark["dropped"] + mark["failed"]:
        counts = {k: v for k, v in mark.items() if k in known}
        raise ReconciliationError(f"shard {name}: the rewrite lost samples: {counts}; report this")
    return mark
