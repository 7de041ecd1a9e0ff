"""Counts what becomes of each sample of a shard, and sees to it that none is forgotten or invented."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

import numpy as np

from onceseen.core.config import ReadConfig
from onceseen.core.records import Shard, Verdict
from onceseen.shards.records import RewriteSummary, VerdictRow

_quote = json.encoder.encode_basestring


class Ledger:
    """The tally of one shard's rewrite. Also carries the counts that its parts add to."""

    def __init__(self, shard: Shard, verdicts: Mapping[str, VerdictRow], config: ReadConfig) -> None:
        """Starts at nothing."""
        self._shard = shard
        self._verdicts = verdicts
        self._keep_failed = config.on_failure == "keep"
        self._written = {Verdict.KEEP, Verdict.FAILED} if self._keep_failed else {Verdict.KEEP}
        self._counts: dict[str, int] = {Verdict.KEEP: 0, Verdict.DROP: 0, Verdict.FAILED: 0}
        self.bytes_read = 0
        self.bytes_written = 0
        self.members_copied = 0
        self.members_added = 0
        self.members_passed = 0
        self.sidecar_rows = 0
        self.damaged = ""
        self.warnings: list[str] = []

    def judge(self, key: str) -> VerdictRow | None:
        """Counts one sample; returns its row if it is to be written, None if it is left out.

        Raises:
            ValueError: If the sample has no verdict, so the shard is not the one that was read.
        """
        row = self._verdicts.get(key)
        if row is None:
            raise self._changed(f"sample {key!r} has no verdict")
        self._counts[row.verdict] += 1
        return row if self.writes(row) else None

    def writes(self, row: VerdictRow) -> bool:
        """Whether a sample with this verdict is in the output."""
        return row.verdict in self._written

    def check(self) -> None:
        """Called before the output gets its name.

        Raises:
            ValueError: If a verdict's sample was not met, so something would be lost.
        """
        read = sum(self._counts.values())
        if read != len(self._verdicts):
            why = f" ({self.damaged})" if self.damaged else ""
            raise self._changed(f"{len(self._verdicts)} samples have verdicts, {read} were met{why}")

    def summary(self) -> RewriteSummary:
        """The counts, once `check` has passed."""
        failed = self._counts[Verdict.FAILED]
        kept = self._counts[Verdict.KEEP]
        return RewriteSummary(
            shard=self._shard.name,
            read=sum(self._counts.values()),
            kept=kept,
            dropped=self._counts[Verdict.DROP],
            failed=failed,
            written=kept + (failed if self._keep_failed else 0),
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            members_copied=self.members_copied,
            members_added=self.members_added,
            members_passed=self.members_passed,
            sidecar_rows=self.sidecar_rows,
            damaged=self.damaged,
            warnings=tuple(self.warnings),
        )

    def _changed(self, what: str) -> ValueError:
        return ValueError(
            f"{self._shard.path}: {what}; expected the shard as it was when its features were made: it has "
            "changed since, run again with --overwrite"
        )


@functools.lru_cache(maxsize=1024)
def weight32(weight: float) -> float:
    """The shortest decimal that is the same float32: what table, columns and json agree on."""
    return float(str(np.float32(weight)))


def verdict_json(row: VerdictRow) -> bytes:
    """What a written sample says of itself: compact JSON with sorted keys.

    Put together by hand, a sixth of the time of an encoder that sorts: there is one for every kept sample.
    """
    return (
        f'{{"component_id":{_quote(row.component_id)},"component_size":{row.component_size},'
        f'"copies":{row.copies},"representative_id":{_quote(row.representative_id)},'
        f'"sample_id":{_quote(row.sample_id)},"verdict":{_quote(row.verdict)},"weight":{weight32(row.weight)!r}}}'
    ).encode()
