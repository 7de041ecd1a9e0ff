"""Worker processes of the in-process runner: they end with their job, however that ends."""

from __future__ import annotations

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler

from onceseen.core.config import RunnerConfig
from onceseen.jobs.runner import Runner, with_flags


def test_a_job_interrupted_while_its_workers_start_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam alone would wait for ever for the workers that have not connected."""
    start, workers = SubprocessSdkWorkerHandler.start_worker, []

    def start_and_interrupt(self: SubprocessSdkWorkerHandler) -> None:
        start(self)
        workers.append(self)
        if len(workers) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(SubprocessSdkWorkerHandler, "start_worker", start_and_interrupt)
    runner = Runner(with_flags(RunnerConfig(), ["--direct_num_workers=2"]))
    with pytest.raises(KeyboardInterrupt):
        runner.run("interrupted", lambda p: p | beam.Create(range(10)) | beam.Map(str))
    assert len(workers) == 2
    assert not any(worker.worker_thread.is_alive() for worker in workers)
