"""Dead letters: what could not be judged, and why, from a closed list of reasons."""

from __future__ import annotations

import enum
from dataclasses import dataclass

DETAIL_CHARS = 512


class FailureReason(enum.StrEnum):
    """Why a sample, or a whole shard, could not be judged."""

    BAD_TAR = "bad_tar"
    TRUNCATED_TAR = "truncated_tar"
    BAD_PARQUET = "bad_parquet"
    UNREADABLE_SHARD = "unreadable_shard"
    NO_IMAGE = "no_image"
    EMPTY_IMAGE = "empty_image"
    TRUNCATED_IMAGE = "truncated_image"
    UNKNOWN_FORMAT = "unknown_format"
    DECOMPRESSION_BOMB = "decompression_bomb"
    TOO_MANY_BYTES = "too_many_bytes"
    DECODE_ERROR = "decode_error"
    MISSING_DECODER = "missing_decoder"
    INFER_ERROR = "infer_error"


SHARD_REASONS = frozenset(
    {
        FailureReason.BAD_TAR,
        FailureReason.TRUNCATED_TAR,
        FailureReason.BAD_PARQUET,
        FailureReason.UNREADABLE_SHARD,
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """One dead letter.

    Attributes:
        subject: The sample_id, or the shard's name where the shard itself is damaged.
        stage: `read`, `decode` or `embed`.
        reason: From the closed list.
        detail: At most 512 characters for a person; never image bytes.
    """

    subject: str
    stage: str
    reason: FailureReason
    detail: str = ""

    def __post_init__(self) -> None:
        if len(self.detail) > DETAIL_CHARS:
            object.__setattr__(self, "detail", self.detail[: DETAIL_CHARS - 1] + "…")

    @property
    def is_shard(self) -> bool:
        """Whether a whole shard is damaged, rather than one sample."""
        return self.reason in SHARD_REASONS


class SampleError(Exception):
    """Raised inside a stage for one sample that cannot be judged; becomes a `Failure`, never a crash."""

    def __init__(self, reason: FailureReason, detail: str = "") -> None:
        """Keeps the reason and the detail."""
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
