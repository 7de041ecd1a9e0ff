"""What is said of a query, and what the reference knows of the picture that it matches best."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from onceseen.detect import Finding, Match


@dataclass(frozen=True, slots=True)
class ReferencePicture:
    """The reference picture of a match, by the run's verdicts.

    Attributes:
        sample_id: Its id.
        shard: Its shard's name.
        verdict: What the run did with it: keep or drop. Dropped pictures are searched as well.
        representative_id: The kept picture that stands for it; None where a person dropped it.
        copies: Pictures that the representative stands for, itself included: how often the query is in the run.
        component_id: Its component of pictures connected by verified pairs.
        component_size: Samples in that.
    """

    sample_id: str
    shard: str
    verdict: str
    representative_id: str | None
    copies: int
    component_id: str
    component_size: int


@dataclass(frozen=True, slots=True)
class Check:
    """The answer to one query.

    Attributes:
        finding: duplicate, near, clear or failed.
        match: The best match; None where the query is clear or failed.
        reference: The picture of that match; None likewise.
        reason: Of a failed one: why, from the closed list of `FailureReason`; else empty.
        detail: Of a failed one, for a person; else empty.
    """

    finding: Finding
    match: Match | None = None
    reference: ReferencePicture | None = None
    reason: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain fields."""
        return dataclasses.asdict(self) | {"finding": str(self.finding)}
