"""Step 4 of an audit: which distances count, set or calibrated on pictures that cannot have been memorised.

Held-out pictures where there are some, else training pictures held against all other components. How near unrelated
pictures come depends on their size and kind, so a rate is asked for and the distance follows.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.audit import Thresholds, calibrate_cosine, calibrate_distance, wilson
from onceseen.audit.thresholds import MatchThreshold
from onceseen.core.config import AuditConfig
from onceseen.core.features import read_feature_rows, vectors
from onceseen.core.records import Shard, node_row
from onceseen.jobs.audit.nearest import nearest_and_second
from onceseen.jobs.audit.plan import EXACT, MEASURED, PROBE, PROBES, SAMPLE, AuditPlan
from onceseen.neighbors.packing import mix64

HELD_OUT, TRAINING, SET = "held-out", "training", "set"
"""What a threshold was calibrated on; `set`: on nothing, it was given."""

_COSINES = 10_000
"""Pictures whose cosines are calibrated on, at most: 100 million products."""

_SEED = 20_230_130
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditThresholds:
    """What the audit goes by.

    Attributes:
        values: All of them, as applied.
        side: Side of the squares that are compared, in pixels.
        calibrated_on: `held-out`, `training` or `set`.
        matched: Pictures calibrated on that match at the distance.
        tried: Pictures calibrated on.
        limited: Whether a larger distance would match more than the rate allows; else the ratio alone holds them off.
        has_embeddings: Whether there are cosines; if not, `edge_cosine` means nothing.
        warnings: What a reader should know of them.
    """

    values: Thresholds
    side: int
    calibrated_on: str
    matched: int = 0
    tried: int = 0
    limited: bool = True
    has_embeddings: bool = True
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As OUT/thresholds.json has it."""
        values = asdict(self.values)
        if not self.has_embeddings:
            values["edge_cosine"] = None
        facts = {
            name: getattr(self, name) for name in ("side", "calibrated_on", "matched", "tried", "limited")
        }
        return {**values, **facts, "warnings": list(self.warnings)}


def find_thresholds(
    plan: AuditPlan, shards: Sequence[Shard], side: int, *, held_out: bool, has_embeddings: bool
) -> AuditThresholds:
    """Sets or calibrates what counts.

    Args:
        plan: An audit whose distances are measured.
        shards: All its shards.
        side: Side of the squares.
        held_out: Whether held-out pictures were given.
        has_embeddings: Whether pictures were embedded.

    Returns:
        The thresholds. Memory: distances of the pictures calibrated on, and up to 10,000 embeddings.

    Raises:
        ValueError: If there are too few pictures to calibrate on, or too many of them are training pictures.
    """
    config = plan.config.audit
    chosen = [s for s in shards if (plan.is_held_out(s) if held_out else s.number < plan.first)]
    source = HELD_OUT if held_out else TRAINING
    found, warnings = None, []
    if not config.match_distance:
        nearest, second = measured_distances(plan, chosen)
        found = calibrate_distance(nearest, second, config.match_ratio, config.max_rate)
        warnings = _warnings(found, source, config)
    cosine = config.edge_cosine or (_edge_cosine(plan, chosen, config, source) if has_embeddings else 1.0)
    distance = config.match_distance or (found.distance if found else 0.0)
    values = Thresholds(
        match_distance=distance,
        match_ratio=config.match_ratio,
        edge_distance=config.edge_distance or distance,
        edge_cosine=cosine,
        min_clique=config.min_clique,
        edges=config.edges,
        clique_steps=config.clique_steps,
        template_tiles=config.template_tiles,
        template_contrast=config.template_contrast,
    )
    for warning in warnings:
        _log.warning("%s", warning)
    if found is None:
        return AuditThresholds(values, side, SET, has_embeddings=has_embeddings)
    counts = (found.matched, found.tried, found.limited)
    return AuditThresholds(values, side, source, *counts, has_embeddings, tuple(warnings))


def measured_distances(
    plan: AuditPlan, shards: Sequence[Shard]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Nearest and second distances of all pictures of some shards that were compared, by node."""
    parts = [nearest_and_second(plan.work.read(MEASURED, s.number, EXACT)) for s in shards]
    empty = np.empty(0, dtype=np.float32)
    first, second = (np.concatenate([empty, *(part[i] for part in parts)]) for i in (0, 1))
    return first, second


def _warnings(found: MatchThreshold, source: str, config: AuditConfig) -> list[str]:
    """What few pictures, or pictures that no distance tells apart, mean for the threshold."""
    out = []
    if found.tried * config.max_rate < 1:
        high = wilson(0, found.tried).high
        out.append(
            f"calibrated on {found.tried:,} {source} pictures, fewer than 1 / audit.max_rate = "
            f"{1 / config.max_rate:,.0f}: none of them may match, and all that is known of pictures that were not "
            f"memorised is that at most {high:.1%} match (95%); give more --held-out pictures"
        )
    if not found.limited:
        out.append(
            f"audit.match_ratio alone keeps {source} pictures from matching: the distance of {found.distance:.4f} is "
            "the largest that was seen, not one that a rate was reached at"
        )
    return out


def _edge_cosine(plan: AuditPlan, shards: Sequence[Shard], config: AuditConfig, source: str) -> float:
    """The cosine that at most `max_rate` of the pictures have with another one."""
    embeddings, groups = _embeddings(plan, shards)
    if len(np.unique(groups)) < 2:
        raise ValueError(
            f"audit.edge_cosine cannot be calibrated on {len(embeddings)} {source} picture(s); expected two or more "
            "different ones: give more, or set audit.edge_cosine"
        )
    return calibrate_cosine(embeddings, groups, config.max_rate)


def _embeddings(plan: AuditPlan, shards: Sequence[Shard]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings of pictures calibrated on, by a fixed hash; of equal pixels or one component is a group."""
    nodes = [plan.work.read(PROBES, shard.number, PROBE)["node"] for shard in shards]
    every = np.concatenate([np.empty(0, dtype=np.int64), *nodes])
    chosen = np.sort(every[np.argsort(mix64(every, _SEED), kind="stable")[:_COSINES]])
    sample = plan.known(SAMPLE)
    components = dict(zip(sample["node"].tolist(), sample["component"].tolist(), strict=True))
    found: list[NDArray[np.float32]] = []
    names: list[object] = []
    for shard, own in zip(shards, nodes, strict=True):
        mine = np.intersect1d(own, chosen)
        if not len(mine):
            continue
        table = read_feature_rows(plan.layout, shard, node_row(mine), ["embedding", "pixel_hash"])
        found.append(vectors(table))
        pixels = table["pixel_hash"].to_pylist()
        names += [components.get(node) or same for node, same in zip(mine.tolist(), pixels, strict=True)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    groups = np.array([numbers[name] for name in names], dtype=np.int64)
    return (np.concatenate(found) if found else np.empty((0, 1), dtype=np.float32)), groups
