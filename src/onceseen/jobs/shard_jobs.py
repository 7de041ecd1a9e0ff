"""Jobs over shards that each leave a done mark: extract and rewrite, of a deduplication or of a scan."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import apache_beam as beam

from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.extract_job import extract_done
from onceseen.jobs.graphs import over_shards
from onceseen.jobs.progress import Marks, shard_progress, undone
from onceseen.jobs.rewrite_job import rewrite_done
from onceseen.jobs.runner import JobError, Runner
from onceseen.jobs.state import DONE, RunState

ShardDone = Callable[[RunLayout, Shard, str], bool]
"""Whether a shard has a job's done mark for a fingerprint."""

_DONE: dict[str, ShardDone] = {"extract": extract_done, "rewrite": rewrite_done}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardJobs:
    """Runs them, each over the shards that it has not done.

    Attributes:
        layout: The run.
        shards: The input.
        runner: Where jobs run.
        show: Whether there is anybody to show a bar to.
        timings: Filled with the seconds of each job.
    """

    layout: RunLayout
    shards: Sequence[Shard]
    runner: Runner
    show: bool
    timings: dict[str, float] = field(default_factory=dict)

    def run(self, state: RunState, name: str, transform: beam.PTransform, fingerprint: str) -> None:
        """Runs a job over the shards that have no done mark yet, and makes sure that all have one.

        Raises:
            JobError: If some are left undone.
        """

        def is_done(shard: Shard) -> bool:
            return _DONE[name](self.layout, shard, fingerprint)

        _log.info("%s", name)
        left = self.left(name, fingerprint)
        graph = over_shards(self.layout, left, [transform])
        with self.timed(name), self._bar(name, left, is_done):
            if left:  # all may be done: by a job of another launcher's, or before a kill
                self.runner.run(name, graph)
        missing = undone(left, is_done, self._marks(name))
        if missing:
            raise JobError(
                f"{name} left {len(missing)} shard(s) undone, for example {missing[0].name}; run again to resume"
            )
        state.mark(name, DONE, fingerprint)

    def left(self, name: str, fingerprint: str) -> list[Shard]:
        """The shards that a job has yet to do."""
        return undone(self.shards, lambda s: _DONE[name](self.layout, s, fingerprint), self._marks(name))

    def _marks(self, name: str) -> Marks:
        return {
            "extract": (self.layout.extract_marks_dir(), self.layout.extract_summary),
            "rewrite": (self.layout.rewrite_marks_dir(), self.layout.rewrite_mark),
        }[name]

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Notes how long a block took."""
        started = time.monotonic()
        yield
        self.timings[f"{name}_s"] = round(time.monotonic() - started, 3)

    @contextmanager
    def _bar(self, name: str, left: Sequence[Shard], is_done: Callable[[Shard], bool]) -> Iterator[None]:
        show = self.show and sys.stderr.isatty()
        with shard_progress(name, left, self._marks(name), is_done, total=len(self.shards), show=show):
            yield
