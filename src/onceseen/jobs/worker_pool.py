"""A pool of Python workers for Beam's environment EXTERNAL, whose workers start in a moment.

    python -m onceseen.jobs.worker_pool --port 50000

Spark and Flink ask such a pool, one on each machine, for a worker in every job. Beam's own starts a fresh interpreter
each time, which imports Beam, OpenCV and FAISS before its first element: 5 to 15 s a job. Here workers are forked from
a server process that has imported them and has started no thread and no connection. Each worker gets the job's own
options from the runner's provision service, as Beam's containers do, so that file systems are configured there too.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)
from google.protobuf import json_format, text_format

PRELOADED = (
    "apache_beam.runners.worker.sdk_worker_main",
    "onceseen.jobs.dedup",
    "cv2",
    "faiss",
    "onnxruntime",
)
_ANSWER_SECONDS = 30.0
_STOP_SECONDS = 10.0
_log = logging.getLogger(__name__)


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers, each a process of its own."""

    def __init__(self) -> None:
        """Sets up; the fork server itself starts with the first worker."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(PRELOADED))
        self._workers: dict[str, BaseProcess] = {}
        self._lock = threading.Lock()  # the fork server takes one order at a time

    def StartWorker(
        self, request: beam_fn_api_pb2.StartWorkerRequest, _: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Starts the worker of one job and environment."""
        environment = {
            "WORKER_ID": request.worker_id,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(request.control_endpoint),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(request.logging_endpoint),
        }
        try:
            environment["PIPELINE_OPTIONS"] = _pipeline_options(request)
            with self._lock:
                worker = self._context.Process(target=run_worker, args=(environment,), daemon=True)
                worker.start()
                self._workers = {name: w for name, w in self._workers.items() if w.is_alive()}
                self._workers[request.worker_id] = worker
        except (grpc.RpcError, OSError, EOFError) as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=f"worker {request.worker_id}: {error}")
        _log.info("worker %s started as process %d", request.worker_id, worker.pid)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(
        self, request: beam_fn_api_pb2.StopWorkerRequest, _: grpc.ServicerContext
    ) -> beam_fn_api_pb2.StopWorkerResponse:
        """Stops a worker; nothing where it has ended already."""
        with self._lock:
            worker = self._workers.pop(request.worker_id, None)
        if worker is not None:
            _end(worker)
            _log.info("worker %s ended with code %s", request.worker_id, worker.exitcode)
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Stops all workers."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            _end(worker)


def _pipeline_options(request: beam_fn_api_pb2.StartWorkerRequest) -> str:
    """The job's options as JSON, from the runner's provision service."""
    with grpc.insecure_channel(request.provision_endpoint.url) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        answer = service.GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(),
            metadata=[("worker_id", request.worker_id)],
            timeout=_ANSWER_SECONDS,
            wait_for_ready=True,
        )
    return json.dumps(json_format.MessageToDict(answer.info.pipeline_options))


def _end(worker: BaseProcess) -> None:
    worker.terminate()
    worker.join(_STOP_SECONDS)
    if worker.is_alive():
        worker.kill()
        worker.join()


def run_worker(environment: dict[str, str]) -> None:
    """Beam's worker, in the process that it has for itself."""
    from apache_beam.runners.worker import sdk_worker_main

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log, harness, _ = sdk_worker_main.create_harness(environment)
    try:
        harness.run()
    finally:
        if log is not None:
            log.close()


def serve(port: int, host: str = "127.0.0.1") -> tuple[grpc.Server, WorkerPool, int]:
    """Starts the pool's service.

    Args:
        port: 0 for any that is free.
        host: Where it listens; anyone who reaches it can run code here, so only this machine by default.

    Returns:
        The server, the pool and the port.

    Raises:
        OSError: If the port is taken.
    """
    pool = WorkerPool()
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error}") from error
    server.start()
    return server, pool, bound


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is told to stop."""
    description, *_ = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m onceseen.jobs.worker_pool", description=description)
    parser.add_argument("--port", type=int, default=50000, help="port to listen on")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on. Whoever reaches it can run code here: open it to the runner's machines only",
    )
    options = parser.parse_args(arguments)
    # force: Beam, as it is imported, sets logging up for warnings alone
    form = "%(asctime)s worker pool: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr, force=True)
    stopped = threading.Event()

    def stop(*_: Any) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        server, pool, port = serve(options.port, options.host)
    except OSError as error:
        _log.error("%s; choose another --port", error)
        return 2
    _log.info("listening on %s:%d", options.host, port)
    stopped.wait()
    server.stop(None)
    pool.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
