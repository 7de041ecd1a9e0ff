"""Spark on this machine: starts what a portable Beam job needs, runs a command against it, and stops it all.

    python infra/spark/stack.py --jars build/spark/jars -- onceseen dedup SHARDS --output RUN
    python infra/spark/stack.py --jars build/spark/jars --workers 2 -- onceseen dedup SHARDS --output RUN

Started are Beam's job server and Onceseen's pool of Python workers (environment EXTERNAL: the workers are processes of
their own, all that they run is pickled and sent), and with --workers a standalone cluster of one master and so many
workers, else Spark runs inside the job server. The flags that lead a Beam job there are appended to the command.
Logs lie beside the jars, in logs/.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onceseen.jobs.checks import CheckError
from onceseen.jobs.java import find_java

HOST = "127.0.0.1"
# what Spark 3.5's own launcher opens for Java 17 (org.apache.spark.launcher.JavaModuleOptions)
_OPENED = [
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "jdk.internal.ref",
    "sun.nio.ch",
    "sun.nio.cs",
    "sun.security.action",
    "sun.util.calendar",
]
_START_SECONDS = 90.0
_WORKER_IDLE_MS = 10_000
"""How long a Python worker waits for its job's next task; at 0 every task starts one of its own."""
_log = logging.getLogger("stack")


class StackError(RuntimeError):
    """Something that the stack needs is missing or did not start; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is started.

    Attributes:
        java: The java command.
        beam_jars: Directory of Beam's jars.
        spark_home: The pyspark package's directory, which holds Spark's jars.
        logs: Where logs go.
    """

    java: str
    beam_jars: Path
    spark_home: Path
    logs: Path

    def java_command(self, main: str, arguments: Sequence[str], properties: Sequence[str] = ()) -> list[str]:
        """A JVM with Beam's jars before Spark's: Beam needs the newer of the two guavas."""
        classes = f"{self.beam_jars}/*:{self.spark_home}/jars/*"
        return [self.java, "-Xmx1g", *java_flags(), *properties, "-cp", classes, main, *arguments]


def java_flags() -> list[str]:
    """Flags that open to Spark what Java 17 closes, and those of a JVM that lives for seconds beside others."""
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return [*quick, *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED)]


def find_parts(jars: Path) -> Parts:
    """Looks for Java, Beam's jars and Spark's.

    Raises:
        StackError: Naming what is missing.
    """
    try:
        java = find_java()
    except CheckError as error:
        raise StackError(str(error)) from error
    if not list(jars.glob("beam-runners-spark-3-*.jar")):
        raise StackError(
            f"{jars} holds no beam-runners-spark-3 jar: run `make spark-jars`, which fetches them"
        )
    package = importlib.util.find_spec("pyspark")
    if package is None or package.origin is None:
        raise StackError(
            "the Python package pyspark, which brings Spark, is not installed: run `make spark-jars`"
        )
    logs = jars.parent / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return Parts(java, jars.resolve(), Path(package.origin).parent, logs)


@contextlib.contextmanager
def running_stack(parts: Parts, workers: int) -> Iterator[list[str]]:
    """Starts the stack and stops it, whatever happens.

    Args:
        parts: What is started.
        workers: Workers of a standalone cluster; 0: Spark inside the job server.

    Yields:
        The Beam flags of a job that is to run there.

    Raises:
        StackError: If a part does not start.
    """
    with contextlib.ExitStack() as processes:
        properties: list[str] = []
        master = "local[2]"
        if workers:
            master = _start_cluster(parts, workers, processes)
            properties = _executor_properties(parts)
        pool, job, artifacts = (_free_port() for _ in range(3))
        command = [sys.executable, "-m", "onceseen.jobs.worker_pool", f"--port={pool}"]
        _start(parts, "worker-pool", command, pool, processes)
        server = parts.java_command(
            "org.apache.beam.runners.spark.SparkJobServerDriver",
            [
                f"--job-host={HOST}",
                f"--job-port={job}",
                f"--artifact-port={artifacts}",
                "--expansion-port=0",
                f"--spark-master-url={master}",
                f"--artifacts-dir={parts.logs.parent / 'artifacts'}",
            ],
            properties,
        )
        _start(parts, "job-server", server, job, processes)
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint={HOST}:{job}",
            "--environment_type=EXTERNAL",
            f"--environment_config={HOST}:{pool}",
            f"--environment_cache_millis={_WORKER_IDLE_MS}",
            # without the option every jar of the class path is sent with every job, and the executors have them all
            f"--files_to_stage={_empty_jar(parts)}",
        ]


def _empty_jar(parts: Parts) -> Path:
    path = parts.logs.parent / "nothing.jar"
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
    return path.resolve()


def _start_cluster(parts: Parts, workers: int, processes: contextlib.ExitStack) -> str:
    port = _free_port()
    master = ["--host", HOST, "--port", str(port), "--webui-port", str(_free_port())]
    command = parts.java_command("org.apache.spark.deploy.master.Master", master)
    _start(parts, "master", command, port, processes)
    url = f"spark://{HOST}:{port}"
    # the launcher asks for the Scala version where there is no build of Spark to look at
    home = {"SPARK_HOME": str(parts.spark_home), "SPARK_SCALA_VERSION": "2.12"}
    for number in range(workers):
        own = _free_port()
        arguments = ["--host", HOST, "--port", str(own), "--webui-port", str(_free_port())]
        arguments += [
            "--cores",
            "1",
            "--memory",
            "1g",
            "--work-dir",
            str(parts.logs / f"worker-{number}"),
            url,
        ]
        command = parts.java_command("org.apache.spark.deploy.worker.Worker", arguments)
        _start(parts, f"worker-{number}", command, own, processes, home)
    return url


def _executor_properties(parts: Parts) -> list[str]:
    options = " ".join(java_flags())
    return [
        f"-Dspark.driver.host={HOST}",
        f"-Dspark.executor.extraClassPath={parts.beam_jars}/*",
        f"-Dspark.executor.extraJavaOptions={options}",
        "-Dspark.executor.memory=1g",
        # a task that lost its Python worker would get the same dead one again; Onceseen starts the job again instead
        "-Dspark.task.maxFailures=1",
    ]


def _start(
    parts: Parts,
    name: str,
    command: Sequence[str],
    port: int,
    processes: contextlib.ExitStack,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Starts a process, to be stopped with the stack, and waits until it listens."""
    log = parts.logs / f"{name}.log"
    handle = processes.enter_context(log.open("wb"))
    process = subprocess.Popen(
        command,
        stdout=handle,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    processes.callback(_stop, process)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StackError(f"{name} ended with code {process.returncode} while starting; see {log}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            _log.info("%s listens on port %d", name, port)
            return
        time.sleep(0.2)
    raise StackError(f"{name} did not listen on port {port} within {_START_SECONDS:.0f} s; see {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Runs the command with the flags appended and returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--jars", type=Path, default=Path("build/spark/jars"), help="directory of Beam's jars"
    )
    parser.add_argument("--workers", type=int, default=0, help="workers of a standalone cluster; 0: none")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="spark: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped then too
    try:
        with running_stack(find_parts(options.jars), options.workers) as flags:
            return subprocess.run([*options.command, *flags], check=False).returncode
    except StackError as error:
        _log.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
