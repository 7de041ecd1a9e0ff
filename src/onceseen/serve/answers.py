"""What the API says, with a schema: `onceseen.reference.Check` for JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from onceseen.detect import Match
from onceseen.reference import Check, ReferencePicture


class MatchAnswer(BaseModel):
    """The query against the reference picture that it matches best."""

    reference_id: str = Field(description="Sample id of the reference picture.")
    kind: Literal["bytes", "pixels", "perceptual", "embedding"] = Field(
        description="The strongest kind of evidence."
    )
    cosine: float | None = Field(
        description="Largest cosine of their regions; null where pixels are equal, or without a model."
    )
    pdq_distance: int = Field(ge=0, le=256, description="Smallest Hamming distance of their PDQ hashes.")
    score: float = Field(ge=0, le=1, description="Calibrated probability that both show one picture.")
    verified: bool = Field(description="Whether the score and a second signal say so.")
    coverage_query: float = Field(
        ge=0, le=1, description="Share of the query's content that is in the reference."
    )
    coverage_reference: float = Field(
        ge=0, le=1, description="Share of the reference's content that is in the query."
    )
    transform: str = Field(
        description="How one comes from the other: identity, mirrored, cropped, ... joined by +."
    )


class ReferenceAnswer(BaseModel):
    """What the run says of that picture."""

    sample_id: str
    shard: str = Field(description="Its shard's name.")
    verdict: Literal["keep", "drop", "failed"] = Field(
        description="What the run did with it; dropped ones are searched too."
    )
    representative_id: str | None = Field(description="The kept picture that stands for it.")
    copies: int = Field(
        description="Pictures that the representative stands for: how often the query is in the run."
    )
    component_id: str = Field(description="Its component of pictures connected by verified pairs.")
    component_size: int


class CheckAnswer(BaseModel):
    """The answer to one picture."""

    finding: Literal["duplicate", "near", "clear", "failed"] = Field(
        description="duplicate: it shows a reference picture or is shown by one, verified on pixels. near: for a "
        "person to look at. failed, in batches alone: it cannot be judged."
    )
    match: MatchAnswer | None = Field(description="The best match; null where clear or failed.")
    reference: ReferenceAnswer | None = Field(description="The picture of that match.")
    reason: str = Field(description="Of a failed one: why, from a closed list.")
    detail: str = Field(description="Of a failed one, for a person.")

    @classmethod
    def of(cls, check: Check) -> CheckAnswer:
        """A check as JSON has it."""
        return cls(
            finding=check.finding.value,
            match=_match(check.match),
            reference=_reference(check.reference),
            reason=check.reason,
            detail=check.detail,
        )


class BatchAnswer(BaseModel):
    """The answers to several pictures, in the order of the form."""

    checks: list[CheckAnswer]


class HealthAnswer(BaseModel):
    """That the server is up, and what it searches."""

    status: Literal["ok"]
    samples: int = Field(description="Samples of the reference.")
    model: str = Field(description="Embedding model; none: hashes only.")
    version: str = Field(description="Version of Onceseen.")


class ErrorAnswer(BaseModel):
    """Why a request was not answered."""

    error: str = Field(description="A short name, such as too_large or truncated_image.")
    detail: str = Field(description="A sentence for a person.")


def _match(match: Match | None) -> MatchAnswer | None:
    if match is None:
        return None
    return MatchAnswer.model_validate({name: getattr(match, name) for name in MatchAnswer.model_fields})


def _reference(found: ReferencePicture | None) -> ReferenceAnswer | None:
    if found is None:
        return None
    return ReferenceAnswer.model_validate(
        {name: getattr(found, name) for name in ReferenceAnswer.model_fields}
    )
