"""Rows of an audit's tables from what was judged. Training pictures stand in them by node until they are named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onceseen.audit import (
    GenerationInput,
    GenerationVerdict,
    MatchedBy,
    Nearest,
    PromptVerdict,
    distance_ratio,
)
from onceseen.jobs.audit.plan import Pictures, prompt_id

NODE = "node"
"""Where a row has the node of its training picture."""

Row = dict[str, Any]


def prompt_row(prompt: int, generations: Sequence[GenerationInput], verdict: PromptVerdict) -> Row:
    """A row of `AUDIT_PROMPTS`, without what the training set says of the prompt itself.

    Args:
        prompt: Hash of the normalised prompt.
        generations: As they were judged.
        verdict: What was said.
    """
    middle = None if verdict.representative is None else generations[verdict.representative]
    nearest = None if middle is None else middle.nearest
    match = verdict.match
    distances = [g.nearest.distance for g in generations if g.nearest is not None and not g.blank]
    row: Row = {
        "prompt_id": prompt_id(prompt),
        "verdict": str(verdict.verdict),
        "generations": verdict.generations,
        "excluded": verdict.excluded,
        "resized": verdict.resized,
        "clique": len(verdict.clique.members),
        "clique_exact": verdict.clique.exact,
        "clique_bound": verdict.clique.bound,
        "clique_pixels": len(verdict.clique_pixels.members),
        "clique_embedding": len(verdict.clique_embedding.members),
        "component_size": verdict.component_size,
        "mean_distance": verdict.mean_distance,
        "representative_id": None if middle is None else middle.sample_id,
        "matched_by": str(MatchedBy.NONE if match is None else match.by),
        "paper_match": verdict.paper_l2_matches,
        "matched": verdict.matched,
        "template_tiles": verdict.template_tiles,
        "nearest_distance": min(distances, default=None),
        **_distances(nearest),
    }
    if match is not None:
        row[NODE] = match.node
        if match.distance is not None and match.second is not None:
            row |= _pair(match.distance, match.second)
    return row


def generation_row(
    prompt: int, given: GenerationInput, said: GenerationVerdict, finding: Mapping[str, Any]
) -> Row:
    """A row of `AUDIT_GENERATIONS`."""
    return {
        "sample_id": given.sample_id,
        "prompt_id": prompt_id(prompt),
        "seed": given.seed,
        "excluded": said.excluded,
        "in_clique": said.in_clique,
        "matched": said.matched,
        "matched_by": str(said.matched_by),
        "detector": finding["verdict"],
        "detector_reference_id": finding["reference_id"],
        **_distances(None if said.excluded else said.nearest),
    }


def unprompted_row(sample: Mapping[str, Any], finding: Mapping[str, Any]) -> Row:
    """The row of a generation without a prompt: it was not judged."""
    return {
        "sample_id": sample["sample_id"],
        "prompt_id": None,
        "seed": sample["seed"],
        "excluded": False,
        "in_clique": False,
        "matched": False,
        "matched_by": "",
        "detector": finding["verdict"],
        "detector_reference_id": finding["reference_id"],
    }


def name_pictures(prompts: Sequence[Row], generations: Sequence[Row], pictures: Pictures) -> None:
    """Puts ids in place of nodes."""
    nodes = {row[NODE] for row in (*prompts, *generations) if row.get(NODE) is not None}
    known = pictures.verdicts(sorted(nodes))
    for row in (*prompts, *generations):
        verdict = known.get(row.pop(NODE, None), {})
        row["reference_id"] = verdict.get("sample_id")
        row["reference_component"] = verdict.get("component_id")
        row["reference_group"] = verdict.get("representative_id") or verdict.get("sample_id")


def _distances(nearest: Nearest | None) -> Row:
    if nearest is None:
        return {NODE: None}
    return {NODE: nearest.node, "l2": nearest.l2, **_pair(nearest.distance, nearest.second)}


def _pair(distance: float, second: float) -> Row:
    return {
        "distance": distance,
        "second_distance": second if math.isfinite(second) else None,
        "ratio": float(distance_ratio(np.array([distance]), np.array([second]))[0]),
    }
