"""A GPU belongs to the extract job, in one of two profiles."""

from __future__ import annotations

import pytest

from onceseen.core.accelerator import Accelerator, find_accelerator
from onceseen.core.config import EmbedConfig, PipelineConfig, RunnerConfig

L4 = "dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
ONE = "experiments=no_use_multiple_sdk_containers"
THREADS = "number_of_worker_harness_threads=4"


def test_an_accelerator_is_read_from_the_option() -> None:
    assert find_accelerator(["region=r", f"{L4};use_nvidia_mps"]) == Accelerator("nvidia-l4", 1, True)
    assert find_accelerator([f"{L4},enable_preflight_validation=false"]) == Accelerator("nvidia-l4", 1, False)
    old = "experiments=x,worker_accelerator=type:nvidia-tesla-t4;count:2"
    assert find_accelerator([old]) == Accelerator("nvidia-tesla-t4", 2, False)
    assert find_accelerator(["region=r", "experiments=use_runner_v2"]) is None


@pytest.mark.parametrize(
    "options",
    [
        (L4, ONE, THREADS),
        (f"{L4};use_nvidia_mps",),
        (f"{L4};use_nvidia_mps", "number_of_worker_harness_threads=12"),
    ],
)
def test_each_profile_by_itself_passes(options: tuple[str, ...]) -> None:
    config = RunnerConfig("DataflowRunner", options=("region=r",), extract_options=options)
    assert config.options_of("extract") == ("region=r", *options)
    assert config.options_of("match-verify") == ("region=r",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            (f"{L4};use_nvidia_mps", ONE, THREADS),
            r"mixes two GPU profiles: use_nvidia_mps .* remove the other",
        ),
        ((L4,), r"expected one of experiments=no_use_multiple_sdk_containers .* and ;use_nvidia_mps"),
        ((L4, ONE), r"number_of_worker_harness_threads is not given; expected 1 to 8"),
        ((L4, ONE, "number_of_worker_harness_threads=64"), r"is 64; expected 1 to 8"),
        ((L4.replace("count:1", "count:2"), ONE, THREADS), r"has count:2; .* expected count:1"),
        ((L4.replace("count:1", "count:all"), ONE, THREADS), r"count is 'all'; expected a number of GPUs"),
    ],
)
def test_what_is_neither_profile_is_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunnerConfig("DataflowRunner", extract_options=options)


def test_a_mix_across_common_and_extract_options_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mixes two GPU profiles"):
        RunnerConfig("DataflowRunner", options=(ONE,), extract_options=(f"{L4};use_nvidia_mps",))


@pytest.mark.parametrize("section", ["options", "other_options"])
def test_no_other_job_gets_a_gpu(section: str) -> None:
    with pytest.raises(ValueError, match=rf"runner\.{section} asks for worker_accelerator.* move it there"):
        RunnerConfig("DataflowRunner", **{section: (L4, ONE, THREADS)})


@pytest.mark.parametrize("option", ["machine_type=g2-standard-8", "sdk_container_image=eu/gpu:1"])
def test_the_gpus_machine_and_image_are_not_for_all(option: str) -> None:
    with pytest.raises(ValueError, match=rf"runner\.options holds {option}.* in runner\.other_options"):
        RunnerConfig("DataflowRunner", options=(option,), extract_options=(L4, ONE, THREADS))
    RunnerConfig("DataflowRunner", options=(option,))


def test_a_gpu_that_the_model_need_not_use_is_refused() -> None:
    runner = RunnerConfig("DataflowRunner", extract_options=(L4, ONE, THREADS))
    with pytest.raises(ValueError, match=r"embed\.device is 'auto'; expected 'cuda'"):
        PipelineConfig(runner=runner)
    PipelineConfig(runner=runner, embed=EmbedConfig(device="cuda"))
