"""summary.json of an audit: verdicts counted, rates with intervals, scores against known truth, histograms."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.audit import (
    MatchedBy,
    PromptOutcome,
    Rate,
    auc,
    clique_curve,
    rate,
    rates_by_copies,
    tpr_at_fpr,
)
from onceseen.jobs.audit.facts import Facts
from onceseen.jobs.audit.given import Truth
from onceseen.jobs.audit.thresholds import AuditThresholds

_EDGES = 100
"""Bars of a histogram of distances in [0, 1]."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was judged.

    Attributes:
        prompts: Rows of `AUDIT_PROMPTS`.
        generations: Usable generations that have a prompt.
        matched: Those that show a training picture.
        extracted: Distinct training pictures given back by memorised prompts.
        delete: Samples of the run that show them.
        distances: Nearest distances by what was measured: (n,) each, empty where nothing was.
    """

    prompts: Rows
    generations: int
    matched: int
    extracted: int
    delete: int
    distances: Mapping[str, NDArray[np.float32]]


def summarise_audit(
    judged: Judged, facts: Facts, thresholds: AuditThresholds, truth: Truth
) -> dict[str, Any]:
    """The content of summary.json.

    Args:
        judged: What was judged.
        facts: What was counted first.
        thresholds: What it went by.
        truth: What is known of the prompts.
    """
    counted = [row for row in judged.prompts if row["verdict"] != PromptOutcome.TOO_FEW]
    verdicts = Counter(row["verdict"] for row in judged.prompts)
    excluded = sum(row["excluded"] for row in judged.prompts)
    memorised = [row["verdict"] == PromptOutcome.MEMORISED for row in counted]
    found = rates_by_copies([row["copies"] for row in counted], memorised)
    return {
        "prompts": {
            "tried": len(judged.prompts),
            "counted": len(counted),
            "too_few": verdicts[PromptOutcome.TOO_FEW],
            "caption_unknown": sum(row["copies"] == 0 for row in judged.prompts),
        },
        "read": facts.generated.read,
        "generated": judged.generations,
        "excluded": excluded,
        "failed": facts.generated.failed,
        "without_prompt": facts.generated.without_prompt,
        "without_prompt_examples": facts.generated.without,
        "resized": sum(row["resized"] for row in judged.prompts),
        "per_prompt": _spread([row["generations"] for row in judged.prompts]),
        "min_clique": thresholds.values.min_clique,
        **{str(said): verdicts[said] for said in PromptOutcome if said != PromptOutcome.TOO_FEW},
        "extracted": judged.extracted,
        "delete": judged.delete,
        "generations_matched": judged.matched,
        "cliques_inexact": sum(not row["clique_exact"] for row in judged.prompts),
        "rates": {
            "memorised": _rate(rate(sum(memorised), len(counted))),
            "collapsed": _rate(rate(verdicts[PromptOutcome.COLLAPSED], len(counted))),
            "matched": _rate(rate(judged.matched, judged.generations)),
        },
        "by_copies": [{"copies": [low, high], **_rate(each)} for low, high, each in found],
        "clique_curve": _curve(judged.prompts),
        "thresholds": thresholds.to_json(),
        "calibrated_on": thresholds.calibrated_on,
        "held_out": _held_out(facts),
        "truth": _scores(counted, judged.prompts, truth) if truth.path else None,
        "histogram": _histogram(judged.distances),
    }


def _rate(found: Rate) -> dict[str, Any]:
    return {
        "hits": found.hits,
        "tried": found.tried,
        "low": found.interval.low,
        "high": found.interval.high,
    }


def _spread(counts: Sequence[int]) -> dict[str, int]:
    ordered = counts or [0]
    return {"min": min(ordered), "median": statistics.median_low(ordered), "max": max(ordered)}


def _curve(prompts: Rows) -> list[dict[str, Any]]:
    """Rate of memorised prompts if another clique were asked for; templates have no clique of their own."""
    cliques = [row["clique"] for row in prompts]
    matches = [_matches(row) for row in prompts]
    usable = [row["generations"] - row["excluded"] for row in prompts]
    return [{"min_clique": size, **_rate(each)} for size, each in clique_curve(cliques, matches, usable)]


def _held_out(facts: Facts) -> dict[str, int] | None:
    counts = facts.held_out
    if not counts.read:
        return None
    names = ("read", "failed", "blank", "overlapping")
    return {name: getattr(counts, name) for name in names}


def _scores(counted: Rows, prompts: Rows, truth: Truth) -> dict[str, Any]:
    """How well each score, and the verdict, tell the prompts that are known to be memorised."""
    known = [(row, truth.memorised.get(int(row["prompt_id"], 16))) for row in counted]
    labelled = [(row, bool(said)) for row, said in known if said is not None]
    answers = [said for _, said in labelled]
    scores = {
        "matched_clique": [float(row["clique"]) * _matches(row) for row, _ in labelled],
        "clique": [float(row["clique"]) for row, _ in labelled],
        "mean_distance": [_closeness(row["mean_distance"]) for row, _ in labelled],
        "nearest_distance": [_closeness(row["nearest_distance"]) for row, _ in labelled],
    }
    verdicts = Counter((said, row["verdict"] == PromptOutcome.MEMORISED) for row, said in labelled)
    return {
        "prompts": len(labelled),
        "memorised": sum(answers),
        "too_few": sum(
            row["verdict"] == PromptOutcome.TOO_FEW and int(row["prompt_id"], 16) in truth.memorised
            for row in prompts
        ),
        "verdict": {
            "found": verdicts[True, True],
            "missed": verdicts[True, False],
            "false": verdicts[False, True],
            "right": verdicts[False, False],
        },
        **{
            name: {"auc": auc(values, answers), "tpr_at_1_fpr": tpr_at_fpr(values, answers)}
            for name, values in scores.items()
        },
    }


def _matches(row: Mapping[str, Any]) -> bool:
    """Whether the representative of a prompt's clique shows a whole training picture."""
    return row["matched_by"] not in (MatchedBy.NONE, MatchedBy.TEMPLATE)


def _closeness(distance: float | None) -> float:
    """A distance as a score: near is high; without one, lowest of all."""
    return -math.inf if distance is None else -distance


def _histogram(distances: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    edges = np.arange(_EDGES + 1) / _EDGES
    counts = {
        name: np.histogram(values, edges)[0].tolist() if len(values) else None
        for name, values in distances.items()
    }
    return {"edges": edges.tolist(), **counts}
