"""A server on this machine that takes Dataflow's requests: it keeps what was sent, and runs the graphs in this process.

What is sent is what Google would get: Beam's own runner translates the graph, stages it in the bucket and describes the
job. The graph is read back from the bucket and given to Beam's in-process runner, in place of worker machines.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as beam_proto
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment


@dataclass(frozen=True)
class SentJob:
    """One job.

    Attributes:
        description: The request's body: the service's `Job`.
        graph: The staged pipeline.
    """

    description: dict[str, Any] = field(repr=False)
    graph: beam_proto.Pipeline = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.description["name"])

    @property
    def pool(self) -> dict[str, Any]:
        """The worker pool."""
        (pool,) = self.description["environment"]["workerPools"]
        return dict(pool)


@dataclass
class DataflowService:
    """The server.

    Attributes:
        execute: Whether the graphs are run; else each job is said to be done at once.
        jobs: What was sent, in its order.
        endpoint: Beam's --dataflow_endpoint; to localhost Beam speaks plain HTTP.
    """

    execute: bool = True
    jobs: list[SentJob] = field(default_factory=list)
    endpoint: str = ""

    def take(self, description: dict[str, Any]) -> dict[str, Any]:
        """Takes a job and, where asked to, runs it."""
        options = description["environment"]["sdkPipelineOptions"]["options"]
        with FileSystems.open(options["pipelineUrl"]) as stream:
            graph = beam_proto.Pipeline.FromString(stream.read())
        self.jobs.append(SentJob(description, graph))
        if self.execute:
            here = beam_proto.Pipeline()
            here.CopyFrom(graph)
            embedded = EmbeddedPythonEnvironment.default().to_runner_api(PipelineContext())
            for environment in here.components.environments.values():
                environment.CopyFrom(embedded)
            FnApiRunner().run_via_runner_api(here, PipelineOptions([])).wait_until_finish()
        return {**description, "id": f"job-{len(self.jobs)}", "currentState": "JOB_STATE_DONE"}


@contextmanager
def dataflow_service(*, execute: bool = True) -> Iterator[DataflowService]:
    """Runs the server."""
    service = DataflowService(execute)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(service.take(body))

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            done = {"currentState": "JOB_STATE_DONE", "type": "JOB_TYPE_BATCH", "id": path.rpartition("/")[2]}
            self._answer({} if path.endswith(("/metrics", "/messages")) else done)

        def _answer(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    service.endpoint = f"http://localhost:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
