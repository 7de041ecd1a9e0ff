"""Beam's in-process runner, with two things mended that its worker processes need."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job.utils import dict_to_struct
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    ControlConnection,
)
from apache_beam.runners.runner import PipelineRunner

_close = ControlConnection.close


def local_runner(options: PipelineOptions) -> PipelineRunner:
    """The in-process runner; left to itself, it does not tell worker processes the options of their filesystems."""
    ControlConnection.close = _close_unconnected
    given = {
        f"beam:option:{name}:v1": str(value) if type(value) is int else value  # JSON would make it 2.0
        for name, value in options.get_all_options(drop_default=True).items()
    }
    info = beam_provision_api_pb2.ProvisionInfo(
        retrieval_token="none",  # noqa: S106 - nothing is staged
        pipeline_options=dict_to_struct(given),
    )
    return FnApiRunner(provision_info=ExtendedProvisionInfo(info))


def _close_unconnected(connection: ControlConnection) -> None:
    """As Beam's own, and a worker that has not connected yet is told to end when it does.

    Beam tells only those that have, and then waits for all: a job that is interrupted, or fails, while its worker
    processes start (they import for seconds) would hang for ever.
    """
    with ControlConnection._lock:
        if connection._state == BeamFnControlServicer.UNSTARTED_STATE:
            connection.push(BeamFnControlServicer._DONE_MARKER)
    _close(connection)
