"""One place where Beam is told where to run: options from the config and the command line, and the runner's name.

The local runner is Beam's in-process portable runner, named explicitly: Beam's own DirectRunner would first try to
download another runner.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import grpc
from apache_beam.metrics import MetricsFilter
from apache_beam.metrics.execution import MetricResult
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.options.pipeline_options import _BeamArgumentParser as BeamArgumentParser
from apache_beam.runners.runner import PipelineResult, create_runner

from onceseen.core.config import EXTRACT, RunnerConfig
from onceseen.core.metrics import NAMESPACE
from onceseen.jobs.local_runner import local_runner
from onceseen.jobs.options import ParsedOptions
from onceseen.jobs.remote_errors import lost_workers, no_traces, server_error, short_cause, unreachable
from onceseen.jobs.shuffles import SIZES

LOCAL_NAMES = ("local", "DirectRunner", "FnApiRunner", "InProcessRunner")
DATAFLOW = "DataflowRunner"
_PAUSE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class JobError(RuntimeError):
    """A job failed; the message names the job, the cause and what to do."""


class TemplateStagedError(Exception):
    """Nothing ran, as asked: `--template_location` had the graph kept for Dataflow to start."""


class _WorkersLostError(JobError):
    """The runner lost its workers; the job may well succeed with others."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs pipelines, by the options of one config section."""

    config: RunnerConfig

    @property
    def is_local(self) -> bool:
        """Whether workers are on this machine and share its memory."""
        return self.config.runner in LOCAL_NAMES

    @property
    def in_process(self) -> bool:
        """Whether the workers are threads of this very process."""
        return self.is_local and self.config.workers <= 1

    @property
    def template(self) -> str:
        """Where Dataflow's graph of the extract job is kept instead of run; empty: it is run."""
        given = [o.partition("=")[2] for o in self.config.options if o.startswith("template_location=")]
        return given[-1] if given else ""

    def check_name(self) -> None:
        """Looks the runner up by name.

        Raises:
            ValueError: If Beam has no such runner, or its part of Beam is not installed.
        """
        if self.is_local:
            return
        try:
            create_runner(self.config.runner)
        except (ValueError, ImportError) as error:
            raise ValueError(f"runner {self.config.runner!r} cannot be used: {error}") from error

    def options(self, name: str, *, light: bool = False) -> PipelineOptions:
        """Beam options of one job; only extract gets the accelerator.

        Args:
            name: Job name; `extract` is the one that `runner.extract_options` are for.
            light: Not worth local worker processes, which take seconds each to start.
        """
        flags = [f"--{option}" for option in self.config.options_of(name)]
        prefix = next(
            (f.partition("=")[2] for f in reversed(flags) if f.startswith("--job_name=")), "onceseen"
        )
        flags += [f"--job_name={prefix}-{name}", "--no_save_main_session"]
        if self.is_local:
            here = light or self.in_process
            flags.append(f"--direct_num_workers={1 if here else self.config.workers}")
            mode = "in_memory" if here else "multi_processing"
            flags.append(f"--direct_running_mode={mode}")
        else:
            flags.append(f"--runner={self.config.runner}")
        return ParsedOptions(flags)

    def run(
        self, name: str, build: Callable[[beam.Pipeline], object], *, light: bool = False
    ) -> dict[str, int]:
        """Builds a pipeline, runs it and waits.

        Args:
            name: Job name.
            build: Applies the transforms.
            light: Whether the work is small beside the start of local worker processes.

        Returns:
            The counters in Onceseen's namespace, by name. They are for progress only: results come from files.

        Raises:
            JobError: If the job does not end in state DONE. Where a remote runner lost its workers, the job is tried
                again first, `runner.attempts` times in all: what a job writes is a function of its input.
            TemplateStagedError: Instead of running extract, where `--template_location` is given.
            ValueError: If it is given and the job is another: a template is of one job.
        """
        if self.template and name != EXTRACT:
            raise ValueError(
                f"--template_location is for the extract job alone, and {name} is what is to be done: run without it"
            )
        for attempt in range(1, self._attempts):
            try:
                return self._run_once(name, build, light=light)
            except _WorkersLostError as error:
                self._check_server(name)
                _log.warning("%s; trying it again (%d of %d)", error, attempt + 1, self._attempts)
        return self._run_once(name, build, light=light)

    def _check_server(self, name: str) -> None:
        """Before a job is tried again: Beam would wait minutes for a job server that is gone."""
        time.sleep(_PAUSE_SECONDS)  # one that is being stopped listens for a moment longer
        endpoint = self.options(name).view_as(PortableOptions).job_endpoint
        refused = unreachable(endpoint) if endpoint and endpoint != "embed" else ""
        if refused:
            raise self._server_gone(name, refused)

    def _server_gone(self, name: str, why: str) -> JobError:
        return JobError(
            f"job {name}: the job server of {self.config.runner} is gone ({why}); start it again and run the same "
            "command to resume"
        )

    @property
    def _attempts(self) -> int:
        """The in-process runner loses no worker without this process, and Dataflow tries again by itself."""
        return 1 if self.is_local or self.config.runner == DATAFLOW else self.config.attempts

    def _run_once(
        self, name: str, build: Callable[[beam.Pipeline], object], *, light: bool
    ) -> dict[str, int]:
        options = self.options(name, light=light)
        pipeline = beam.Pipeline(runner=local_runner(options) if self.is_local else None, options=options)
        build(pipeline)
        result = self._result(name, pipeline)
        if result.state != "DONE":
            raise JobError(f"job {name} ended in state {result.state}; the runner's log has the cause")
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
        _log_sizes(name, found["distributions"])
        return {c.key.metric.name: c.committed for c in found["counters"] if c.committed is not None}

    def _result(self, name: str, pipeline: beam.Pipeline) -> PipelineResult:
        """Runs a pipeline to its end; a remote runner's stack traces become one line."""
        try:
            with no_traces():
                result = pipeline.run()
                if self.template:
                    raise TemplateStagedError(
                        f"{self.template}: the extract job's graph, for Dataflow to start. When that job is done, run "
                        "the same command without --template_location: match and rewrite follow"
                    )
                result.wait_until_finish()
                return result
        except RuntimeError as error:
            if self.is_local:
                raise
            said = str(error)
            kind = _WorkersLostError if lost_workers(said) else JobError
            raise kind(f"job {name} failed on {self.config.runner}: {short_cause(said)}") from error
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise self._server_gone(name, server_error(error)) from error


def _log_sizes(name: str, distributions: Iterable[MetricResult]) -> None:
    """Says how large the elements between a job's stages were; see `onceseen.jobs.shuffles`."""
    for found in distributions:
        border, size = found.key.metric.name.removeprefix(SIZES), found.committed
        if found.key.metric.name.startswith(SIZES) and size is not None:
            _log.debug("%s: %s: %d elements of up to %d bytes", name, border, size.count, size.max)


def with_flags(config: RunnerConfig, flags: Sequence[str]) -> RunnerConfig:
    """The runner section with Beam options from the command line added.

    Args:
        config: The section from YAML.
        flags: Command-line flags such as `--runner=SparkRunner`; `--direct_num_workers=2` sets `workers`.

    Raises:
        ValueError: If Beam knows no such option.
    """
    joined = _joined(flags)
    given = (*config.options, *config.extract_options, *config.other_options)
    refuse_unknown_flags([*(f"--{option}" for option in given), *joined])
    common = list(config.options)
    for flag in joined:
        name, _, value = flag.removeprefix("--").partition("=")
        if name == "runner":
            config = replace(config, runner=value)
        elif name == "direct_num_workers":
            config = replace(config, workers=int(value))
        else:
            common.append(flag.removeprefix("--"))
    return replace(config, options=tuple(common))


def _joined(flags: Sequence[str]) -> list[str]:
    """`--name value` as `--name=value`.

    Raises:
        ValueError: If a value has no option before it.
    """
    out: list[str] = []
    for flag in flags:
        if flag.startswith("--"):
            out.append(flag)
        elif out and "=" not in out[-1]:
            out[-1] += f"={flag}"
        else:
            raise ValueError(f"{flag!r} belongs to no option: give all SRC together, before the options")
    return out


def refuse_unknown_flags(flags: Sequence[str]) -> None:
    """Beam itself discards what it does not know with a warning; a misspelt option must not pass.

    Raises:
        ValueError: Naming the unknown flags, or the one whose value is of the wrong type.
    """
    parser = BeamArgumentParser(allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in options.__dict__:
            options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(flags))
    except argparse.ArgumentError as error:
        raise ValueError(f"Beam option: {error}") from error
    if unknown:
        raise ValueError(
            f"unknown option {' '.join(unknown)}: neither Onceseen nor Apache Beam has it; see `onceseen dedup --help`"
        )
