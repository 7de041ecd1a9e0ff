"""Checks of a remote runner before any job is sent to it: is it there, may we use it, can it see the files."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    WorkerOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from apache_beam.runners.portability.job_server import JavaJarJobServer
from apache_beam.runners.portability.spark_runner import SparkJarJobServer
from apache_beam.runners.runner import create_runner

from onceseen.core.config import EXTRACT
from onceseen.core.files import is_local
from onceseen.core.remote import remote_files
from onceseen.jobs.checks import CheckError
from onceseen.jobs.java import find_java
from onceseen.jobs.remote_errors import unreachable
from onceseen.jobs.runner import DATAFLOW, Runner

_JAR_SERVERS: dict[str, type[JavaJarJobServer]] = {
    "SparkRunner": SparkJarJobServer,
    "FlinkRunner": FlinkJarJobServer,
}
_IMAGE = re.compile(r"[a-z0-9.\-]+(:\d+)?(/[a-z0-9._\-]+)*(:[\w.\-]+)?(@sha256:[0-9a-f]{64})?")
_GOOGLE_CLIENTS = ("google.cloud.dataflow", "google.cloud.storage", "google_auth_httplib2")
_INSTALL_GCP = "pip install 'onceseen[gcp]'"
_LOG_IN = (
    "run `gcloud auth application-default login`, or name a service account's key file in "
    "GOOGLE_APPLICATION_CREDENTIALS"
)


def check_remote(runner: Runner, sources: Sequence[str], output: str) -> None:
    """Checks whatever can be known of a runner and of buckets from here. Cost: a few requests; nothing is started.

    Args:
        runner: Any runner; the in-process one passes, but for its buckets.
        sources: SRC arguments.
        output: RUN.

    Raises:
        ValueError: Wrong usage: an option is missing, or a path is one that the workers cannot see (exit code 2).
        CheckError: Something is not there or not reachable (exit code 1).
    """
    name = runner.config.runner
    if name == DATAFLOW:
        _check_dataflow(runner, sources, output)
    elif not runner.is_local:
        _check_job_server(runner)
    buckets = [p for p in (output, *sources) if p.startswith("gs://")]
    if buckets:
        remote_files(buckets[0])  # says what to install where the client is missing
    if name == DATAFLOW or output.startswith("gs://"):
        _check_credentials()
    if name == DATAFLOW:
        buckets.append(str(_cloud_options(runner, EXTRACT).temp_location))
    _check_buckets(runner, buckets)


def _check_job_server(runner: Runner) -> None:
    """For runners behind a job server: that it listens or, where Beam itself starts it, that it can be started."""
    name = runner.config.runner
    options = runner.options("check")
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint:
        _check_endpoint(str(endpoint))
    elif name == "PortableRunner":
        raise ValueError(
            "runner PortableRunner needs --job_endpoint=HOST:PORT, the address of a running Beam job server; "
            "`make spark-demo` shows one started"
        )
    elif name in _JAR_SERVERS and not _submits_jar(runner):
        find_java(str(options.view_as(JobServerOptions).job_server_java_launcher))
        _check_jar(name, options)


def _submits_jar(runner: Runner) -> bool:
    """Whether jobs go to a cluster's REST port as one jar, so that no job server is started here."""
    flags = runner.options("check").get_all_options()
    return bool(flags.get("spark_submit_uber_jar") or flags.get("flink_submit_uber_jar"))


def _check_endpoint(endpoint: str) -> None:
    if endpoint == "embed":
        return
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--job_endpoint is {endpoint!r}; expected HOST:PORT, such as localhost:8099")
    refused = unreachable(endpoint)
    if refused:
        raise CheckError(
            f"no Beam job server answers at --job_endpoint={endpoint} ({refused}): start it (infra/README.md says "
            "how), or correct the address"
        )


def _check_jar(name: str, options: PipelineOptions) -> None:
    """Has Beam find or fetch the job server's jar now, as it would at the first job."""
    option = f"{name.removesuffix('Runner').lower()}_job_server_jar"
    wanted = str(options.get_all_options()[option] or "")
    try:
        if wanted and "://" not in wanted and not os.path.exists(wanted):
            raise FileNotFoundError("no such file")
        server = _JAR_SERVERS[name](options)
        wanted = server.path_to_jar()
        with _quiet():
            server.local_jar(wanted, options.view_as(JobServerOptions).jar_cache_dir)
    except Exception as error:  # Beam's loader raises whatever urllib does
        raise CheckError(
            f"{name} starts Beam's job server from {wanted}, which cannot be had ({_one_line(error)}): give a file "
            f"with --{option}=FILE, or start a job server and use --runner=PortableRunner --job_endpoint=HOST:PORT "
            "(infra/README.md says how)"
        ) from error


def _check_dataflow(runner: Runner, sources: Sequence[str], output: str) -> None:
    for option, path in (("--output", output), *(("SRC", source) for source in sources)):
        if is_local(path):
            raise ValueError(
                f"{option} {path} is a path of this machine, but runner {DATAFLOW} works elsewhere; expected gs:// (or "
                "s3://) paths: copy it there, for example with `gcloud storage cp -r`"
            )
    if not _has_google_clients():
        raise ValueError(f"runner {DATAFLOW} needs Google's clients, which are not installed: {_INSTALL_GCP}")
    for job in (EXTRACT, "check"):
        cloud = _cloud_options(runner, job)
        for option in ("project", "temp_location"):
            if not getattr(cloud, option):
                example = "my-project" if option == "project" else "gs://my-bucket/temp"
                raise ValueError(f"runner {DATAFLOW} needs --{option}=..., for example --{option}={example}")
        if not str(cloud.temp_location).startswith("gs://"):
            raise ValueError(f"--temp_location is {cloud.temp_location!r}; expected a gs:// path")
        if not cloud.region and not create_runner(DATAFLOW).get_default_gcp_region():
            raise ValueError(
                f"runner {DATAFLOW} needs --region=..., for example --region=europe-west4: one near the bucket's"
            )
        _check_image(runner, job)


def _check_image(runner: Runner, job: str) -> None:
    """Dataflow's own image has no Onceseen, and it tells only after minutes that an image is not there."""
    options = runner.options(job)
    image = str(options.view_as(WorkerOptions).sdk_container_image or "")
    setup = options.view_as(SetupOptions)
    if not image and not (setup.setup_file or setup.extra_packages or setup.requirements_file):
        raise ValueError(
            f"runner {DATAFLOW} needs --sdk_container_image=IMAGE, with Onceseen in it: infra/docker builds it"
        )
    if image and not _IMAGE.fullmatch(image):
        raise ValueError(
            f"sdk_container_image={image} is no image's name: these are in small letters. Put your own region, project "
            "and so on into it (the config file has it where the command line does not)"
        )


def _has_google_clients() -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # a parent package is missing
        return all(find_spec(name) for name in _GOOGLE_CLIENTS)
    return False


def _cloud_options(runner: Runner, job: str) -> GoogleCloudOptions:
    return runner.options(job).view_as(GoogleCloudOptions)


def _check_credentials() -> None:
    """Google's default credentials; Beam would retry for half a minute and then go on without."""
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        google.auth.default()
    except (GoogleAuthError, OSError, ValueError) as error:
        raise CheckError(f"no Google Cloud credentials ({_one_line(error)}): {_LOG_IN}") from error


def _check_buckets(runner: Runner, paths: Sequence[str]) -> None:
    """Lists one object of each gs:// bucket; a missing one would else pass for an empty one, or fail at the end."""
    if not paths:
        return
    FileSystems.set_options(runner.options(EXTRACT))
    for bucket in dict.fromkeys(path.removeprefix("gs://").split("/")[0] for path in paths):
        try:
            with _quiet():
                FileSystems.match([f"gs://{bucket}/*"], [1])
        except Exception as error:  # every client has exceptions of its own
            raise CheckError(
                f"bucket gs://{bucket} cannot be listed ({_one_line(error)}): make it (`gcloud storage buckets create "
                f"gs://{bucket}`), correct its name, or have these credentials allowed to read it"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of retries: the error says it."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)


def _one_line(error: BaseException) -> str:
    """The words of the first error: Beam hides causes in `exception_details`, one within the other."""
    cause = error
    while details := getattr(cause, "exception_details", None):
        cause = next(iter(details.values()))
    text = " ".join(str(cause).split()) or type(cause).__name__
    return re.sub(r"https?://\S+", "...", text)[:300]
