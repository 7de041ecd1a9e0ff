"""The main job on Dataflow, as far as it goes without Google: what is sent, and that the graphs sent do the work.

Cloud Storage and Dataflow are servers on this machine; machines, GPUs and images are not tried by this.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2 as beam_proto

from cloud_storage import cloud_storage, download, upload
from integration.dataflow_service import DataflowService, SentJob, dataflow_service
from integration.runs import dedup
from onceseen.cli import main

pytest.importorskip("google.cloud.dataflow", reason="needs onceseen[gcp]")

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
IMAGES = "europe-west4-docker.pkg.dev/my-project/onceseen"
CPU_IMAGE, GPU_IMAGE = f"{IMAGES}/worker-cpu:0.1.0", f"{IMAGES}/worker-gpu:0.1.0"
HASHES = ("--set", "embed.model=none", "--set", "cells.enabled=false")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with cloud_storage(monkeypatch):
        yield


def _put_shards(demo: Path, directory: Path, *names: str) -> Path:
    """Some of the demo's shards, in a directory and in the bucket."""
    directory.mkdir()
    for path in sorted((demo / "shards").iterdir()):
        if path.name.startswith(names):
            shutil.copy(path, directory)
    upload(directory, "shards")
    return directory


@pytest.fixture
def service() -> Iterator[DataflowService]:
    with dataflow_service() as running:
        yield running


def _on_dataflow(service: DataflowService, config: Path, *flags: str) -> int:
    cloud = ["--project=my-project", "--region=europe-west4", "--temp_location=gs://bucket/temp"]
    cloud.append("--experiments=disable_logging_submission_environment")  # a `pip freeze` a job
    command = [
        "dedup",
        "gs://bucket/shards",
        "--output",
        "gs://bucket/run",
        "--quiet",
        "--config",
        str(config),
    ]
    return main([*command, *cloud, f"--dataflow_endpoint={service.endpoint}", *flags])


def _accelerators(job: SentJob) -> list[str]:
    options = job.description["environment"].get("serviceOptions", [])
    return [option for option in options if "accelerator" in option]


def _steps(job: SentJob) -> dict[str, beam_proto.PTransform]:
    return {step.unique_name: step for step in job.graph.components.transforms.values() if step.unique_name}


def _par_dos(job: SentJob) -> Iterator[tuple[str, beam_proto.ParDoPayload]]:
    for name, step in _steps(job).items():
        if step.spec.urn == "beam:transform:pardo:v1":
            yield name, beam_proto.ParDoPayload.FromString(step.spec.payload)


def _check_graph(job: SentJob) -> None:
    """What holds of every job's graph."""
    placed = {found for name in _steps(job) for found in re.findall(r"<lambda at (\S+?):\d+", name)}
    assert placed <= {"core.py", "util.py"}, "Beam's own: labels of ours do not change with the code"
    assert not [e for e in job.graph.components.environments.values() if e.resource_hints], job.name
    for name, par_do in _par_dos(job):
        small = name.endswith("/InjectDefault")  # Beam's own: the one value of a global combination
        assert small or not par_do.side_inputs, f"{job.name}: {name}"
        assert not par_do.state_specs, f"{job.name}: {name}"
        assert not par_do.timer_family_specs, f"{job.name}: {name}"


@pytest.mark.usefixtures("bucket")
def test_the_main_job_on_cpus(demo: Path, tmp_path: Path, service: DataflowService) -> None:
    shards = _put_shards(demo, tmp_path / "shards", "00000", "00001")
    flags = ("--set", "cells.coarse_probes=2")
    code = _on_dataflow(service, CONFIGS / "dataflow-cpu.yaml", f"--sdk_container_image={CPU_IMAGE}", *flags)
    assert code == 0
    names = [job.name for job in service.jobs]
    assert names[:2] == ["onceseen-check", "onceseen-extract"]
    assert names[-1] == "onceseen-rewrite"
    assert {"onceseen-match-candidates", "onceseen-match-verify", "onceseen-match-clusters"} <= set(names)
    for job in service.jobs:
        _check_graph(job)
        assert job.pool["machineType"] == "n2-standard-8"
        assert job.pool["workerHarnessContainerImage"] == CPU_IMAGE
        assert job.pool["numThreadsPerWorker"] == 1
        assert not _accelerators(job)
    # what the graphs did is what they do on this machine
    assert dedup(shards, tmp_path / "run", "--config", str(CONFIGS / "local-cpu.yaml"), *flags) == 0
    for part in ("shards", "stats"):
        here = {p.name: p.read_bytes() for p in (tmp_path / "run" / part).iterdir()}
        assert download(f"run/{part}") == here


@pytest.mark.usefixtures("bucket")
def test_only_extract_has_a_gpu(demo: Path, tmp_path: Path, service: DataflowService) -> None:
    _put_shards(demo, tmp_path / "shards", "00000")
    config = tmp_path / "gpu.yaml"
    text = (CONFIGS / "dataflow-gpu.yaml").read_text(encoding="utf-8")
    config.write_text(
        text.replace("REGION", "europe-west4").replace("PROJECT", "my-project"), encoding="utf-8"
    )
    short = ("--set", "verify.local_features=false", "--set", "verify.rounds=0")
    assert _on_dataflow(service, config, *HASHES, *short) == 0
    assert {job.name.partition("-")[2].partition("-")[0] for job in service.jobs} == {
        "check",
        "extract",
        "match",
        "rewrite",
    }
    for job in service.jobs:
        _check_graph(job)
        extract = job.name == "onceseen-extract"
        assert job.pool["machineType"] == ("g2-standard-8" if extract else "n2-standard-8"), job.name
        images = {e["containerImage"] for e in job.pool["sdkHarnessContainerImages"]}
        assert images == {GPU_IMAGE if extract else CPU_IMAGE}, job.name
        assert _accelerators(job) == (
            ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"] if extract else []
        )
        one_process = "no_use_multiple_sdk_containers" in job.description["environment"]["experiments"]
        assert one_process == extract, job.name
        assert job.pool["numThreadsPerWorker"] == (4 if extract else 1), job.name


@pytest.mark.usefixtures("bucket")
def test_pictures_stay_in_the_step_that_reads_them(
    demo: Path, tmp_path: Path, service: DataflowService
) -> None:
    _put_shards(demo, tmp_path / "shards", "00000")
    service.execute = False
    flags = (f"--sdk_container_image={CPU_IMAGE}", *HASHES)
    assert _on_dataflow(service, CONFIGS / "dataflow-cpu.yaml", *flags) == 1  # no job did anything
    job = service.jobs[-1]
    assert job.name == "onceseen-extract"
    steps = _steps(job)
    (extract,) = (step for name, step in steps.items() if name.endswith("ExtractShards/Extract"))
    outputs = set(extract.outputs.values())
    assert not [name for name, step in steps.items() if outputs & set(step.inputs.values())]
    groupings = [name for name, step in steps.items() if step.spec.urn == "beam:transform:group_by_key:v1"]
    assert all("/Spread/" in name for name in groupings), "shard descriptions alone are shuffled"


@pytest.mark.usefixtures("bucket")
def test_a_flex_template_stages_extract_and_nothing_else(
    demo: Path, tmp_path: Path, service: DataflowService, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the launcher of a Flex Template starts the script: named parameters, and a place for the job's description."""
    _put_shards(demo, tmp_path / "shards", "00000")
    script = runpy.run_path(str(CONFIGS.parent / "pipelines" / "dedup.py"))
    arguments = [
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west4",
        "--job_name=someone-s-job",
        "--temp_location=gs://bucket/temp",
        "--staging_location=gs://bucket/staging",
        "--template_location=gs://bucket/launches/job_object",
        "--sources=gs://bucket/shards",
        "--output=gs://bucket/run",
        f"--config={CONFIGS / 'dataflow-cpu.yaml'}",
        "--settings=embed.model=none; cells.enabled=false; verify.local_features=false; verify.rounds=0",
        f"--sdk_container_image={CPU_IMAGE}",
        f"--dataflow_endpoint={service.endpoint}",
    ]
    command = script["command_line"](arguments)
    assert command[0] == "gs://bucket/shards"
    assert main(["dedup", *command]) == 0
    assert "run the same command without --template_location" in capsys.readouterr().out
    assert not service.jobs, "the service's launcher starts the job, not the script"
    staged = json.loads(download("launches")["job_object"])
    assert staged["name"] == "someone-s-job-extract"
    # the service starts it, and the same command without --template_location does the rest
    service.take(staged)
    assert main(["dedup", *(a for a in command if "template_location" not in a)]) == 0
    assert [job.name for job in service.jobs].count("someone-s-job-extract") == 1
    assert {name.partition("/")[0] for name in download("run")} >= {"features", "verdicts", "shards"}
    assert main(["dedup", *command, "--set=verify.min_score=0.6", "--redo=match"]) == 2
    assert "is for the extract job alone" in capsys.readouterr().err
