"""What can be wrong with a request, and the status that says so."""

from __future__ import annotations

from onceseen.core.failures import FailureReason


class Problem(Exception):
    """A request that is answered by an error: JSON with a short name and a sentence."""

    def __init__(self, status: int, error: str, detail: str, headers: dict[str, str] | None = None) -> None:
        """Keeps what is answered."""
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = detail
        self.headers = headers or {}


_STATUS = {
    FailureReason.DECOMPRESSION_BOMB: 413,
    FailureReason.TOO_MANY_BYTES: 413,
    FailureReason.UNKNOWN_FORMAT: 415,
    FailureReason.MISSING_DECODER: 415,
    FailureReason.INFER_ERROR: 500,
}


def undecodable(reason: str, detail: str) -> Problem:
    """A picture that cannot be judged: 413 too large, 415 no picture, 422 a damaged one."""
    return Problem(_STATUS.get(FailureReason(reason), 422), reason, detail)
