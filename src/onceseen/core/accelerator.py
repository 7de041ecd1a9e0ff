"""The rules for a GPU in Beam options: it belongs to the extract job, and one of two profiles says who shares it.

On Dataflow every vCPU of a worker has a Python process of its own, and each of them sees the worker's one GPU. Either
there is one process with few threads (`no_use_multiple_sdk_containers`), or every process holds a model and NVIDIA's
Multi-Process Service shares the GPU between them (`use_nvidia_mps`); Google names the two as excluding each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ONE_PROCESS = "no_use_multiple_sdk_containers"
SHARED = "use_nvidia_mps"
THREADS = "number_of_worker_harness_threads"
MAX_THREADS = 8
"""Above that, shards in work at once fill the memory of the one process rather than the GPU."""
_LISTS = ("dataflow_service_option", "dataflow_service_options", "experiment", "experiments")
_ACCELERATOR = "worker_accelerator"
_OF_ONE_KIND = ("machine_type", "worker_machine_type", "sdk_container_image")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What `worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver` asks for.

    Attributes:
        kind: Type, such as `nvidia-l4`; empty where none is named.
        count: GPUs a worker.
        shared: Whether processes share it by MPS.
    """

    kind: str
    count: int
    shared: bool


def find_accelerator(options: Sequence[str]) -> Accelerator | None:
    """The accelerator among Beam options without leading dashes; None where there is none.

    Raises:
        ValueError: If its count is no number.
    """
    found = [word for word in _words(options) if word.partition("=")[0] == _ACCELERATOR]
    if not found:
        return None
    parts = found[-1].partition("=")[2].split(";")
    named = {name: value for name, _, value in (part.partition(":") for part in parts)}
    count = named.get("count", "1")
    if not count.isdigit():
        raise ValueError(f"{found[-1]}: its count is {count!r}; expected a number of GPUs, such as count:1")
    return Accelerator(named.get("type", ""), int(count), SHARED in named)


def check_accelerator(common: Sequence[str], extract: Sequence[str], other: Sequence[str]) -> None:
    """Refuses an accelerator outside the extract job, and a mix of the two profiles within it.

    Args:
        common: `runner.options`, which every job gets.
        extract: `runner.extract_options`.
        other: `runner.other_options`.

    Raises:
        ValueError: Naming the option, and where it belongs.
    """
    for name, options in (("runner.options", common), ("runner.other_options", other)):
        if find_accelerator(options) is not None:
            raise ValueError(
                f"{name} asks for {_ACCELERATOR}, which match and rewrite would pay for and not use; expected it in "
                "runner.extract_options: move it there (from the command line: --set 'runner.extract_options=[...]')"
            )
    accelerator = find_accelerator(extract)
    if accelerator is None:
        return
    _check_profile(accelerator, [*common, *extract])
    for option in common:
        if option.partition("=")[0] in _OF_ONE_KIND:
            raise ValueError(
                f"runner.options holds {option}, but runner.extract_options asks for a GPU, so that extract and the "
                "other jobs need different machines and images; expected it in runner.extract_options and, for CPUs, "
                "in runner.other_options"
            )


def _check_profile(accelerator: Accelerator, options: Sequence[str]) -> None:
    where = "runner.extract_options"
    if accelerator.count != 1:
        raise ValueError(
            f"{where}: {_ACCELERATOR} has count:{accelerator.count}; a worker's model runs on one GPU: expected "
            "count:1, and more workers"
        )
    one_process = ONE_PROCESS in _words(options)
    if accelerator.shared and one_process:
        raise ValueError(
            f"{where} mixes two GPU profiles: {SHARED} shares the GPU between the processes of a worker, and "
            f"{ONE_PROCESS} makes it one process; expected one of the two: remove the other"
        )
    if not accelerator.shared and not one_process:
        raise ValueError(
            f"{where} asks for a GPU, and every vCPU's process would load a model onto it by itself; expected one of "
            f"experiments={ONE_PROCESS} (with {THREADS}) and ;{SHARED} at the end of {_ACCELERATOR}"
        )
    if one_process:
        given = [value for name, _, value in (o.partition("=") for o in options) if name == THREADS]
        threads = given[-1] if given else ""
        if not threads.isdigit() or not 1 <= int(threads) <= MAX_THREADS:
            raise ValueError(
                f"{where}: {ONE_PROCESS} goes with few threads, each with a shard in memory; {THREADS} is "
                f"{threads or 'not given'}; expected 1 to {MAX_THREADS}"
            )


def _words(options: Sequence[str]) -> Iterator[str]:
    """The single entries of options that are lists."""
    for option in options:
        name, _, value = option.removeprefix("--").partition("=")
        if name in _LISTS:
            yield from (word.strip() for word in value.split(","))
