"""What is told of a job that failed on a remote runner; the texts are Spark's own, cut short."""

from __future__ import annotations

import logging

import pytest

from onceseen.jobs.remote_errors import lost_workers, no_traces, short_cause

KILLED = (
    "Pipeline onceseen-match-verify_c7 failed in state FAILED: org.apache.spark.SparkException: Job aborted due to "
    "stage failure: Task 0 in stage 2.0 failed 4 times, most recent failure: Lost task 0.3 in stage 2.0 (TID 12): "
    "org.apache.beam.vendor.grpc.v1p60p1.io.grpc.StatusRuntimeException: CANCELLED: call already cancelled.\n"
    "\tat org.apache.beam.vendor.grpc.v1p60p1.io.grpc.Status.asRuntimeException(Status.java:524)\n"
    "\tat java.base/java.lang.Thread.run(Thread.java:840)\n\nDriver stacktrace:"
)
RAISED = (
    "Pipeline onceseen-extract_1 failed in state FAILED: java.util.concurrent.ExecutionException: "
    "java.lang.RuntimeException: Error received from SDK harness for instruction 3: "
    "Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1498, in process\n'
    "    return self.do_fn_invoker.invoke_process(windowed_value)\n"
    "OSError: [Errno 28] No space left on device [while running 'ExtractShards/Extract-ptransform-31']\n\n"
    "\tat java.base/java.util.concurrent.CompletableFuture.reportGet(CompletableFuture.java:396)\n"
    "Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3\n"
)


def test_a_killed_worker_is_told_from_an_error_in_one() -> None:
    assert lost_workers(KILLED)
    assert not lost_workers(RAISED)


def test_the_cause_is_one_line() -> None:
    assert short_cause(RAISED) == (
        "OSError: [Errno 28] No space left on device [while running 'ExtractShards/Extract-ptransform-31']"
    )
    assert short_cause(KILLED).endswith("CANCELLED: call already cancelled.")
    unseen = short_cause(
        "java.lang.RuntimeException: No client connected within timeout\n\tat org.apache.beam.A"
    )
    assert unseen.endswith(
        "within timeout (a Python worker could not begin; its log says why, for example other versions than here)"
    )
    assert short_cause("") == "it gave no cause"
    assert len(short_cause("x" * 10_000)) == 600


def test_stack_traces_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with no_traces():
        logging.error(KILLED)
        logging.error("another error")
    logging.error(RAISED)
    assert [r.getMessage() for r in caplog.records] == ["another error", RAISED]
