"""What is said, before any worker starts, where a remote runner is not there or may not be used."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_storage import cloud_storage
from onceseen.cli import main
from onceseen.core import remote
from onceseen.core.config import RunnerConfig
from onceseen.core.config_io import load_config
from onceseen.jobs import remote_checks
from onceseen.jobs.checks import CheckError
from onceseen.jobs.java import find_java
from onceseen.jobs.remote_checks import check_remote
from onceseen.jobs.runner import Runner, with_flags

ROOT = Path(__file__).resolve().parents[2]

IMAGE = "sdk_container_image=europe-west4-docker.pkg.dev/my-project/onceseen/worker-cpu:0.1.0"
CLOUD = ("project=my-project", "region=europe-west4", "temp_location=gs://bucket/temp", IMAGE)
SOURCE, OUTPUT = "gs://bucket/shards", "gs://bucket/run"


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which nobody listens, and nobody can while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def _java(directory: Path, version: str) -> str:
    file = directory / "java"
    file.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    file.chmod(0o755)
    return str(directory)


def _check(runner: str, *options: str, source: str = "shards", output: str = "run") -> None:
    check_remote(Runner(RunnerConfig(runner, options=options)), [source], output)


def test_a_job_server_that_does_not_answer(port: int) -> None:
    with pytest.raises(CheckError, match=rf"--job_endpoint=127\.0\.0\.1:{port} \(.*refused.*\): start it"):
        _check("PortableRunner", f"job_endpoint=127.0.0.1:{port}")
    with pytest.raises(ValueError, match=r"needs --job_endpoint=HOST:PORT"):
        _check("PortableRunner")
    with pytest.raises(ValueError, match=r"'8099'; expected HOST:PORT"):
        _check("PortableRunner", "job_endpoint=8099")


def test_a_job_server_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _check("PortableRunner", f"job_endpoint=127.0.0.1:{server.getsockname()[1]}")


def test_the_command_says_it_in_one_line(
    port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards").mkdir()
    flags = ["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}"]
    assert main(["dedup", str(tmp_path / "shards"), "--output", str(tmp_path / "run"), *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"onceseen dedup: no Beam job server answers at --job_endpoint=127.0.0.1:{port}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("runner", ["SparkRunner", "FlinkRunner"])
def test_without_java_it_says_what_to_install(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CheckError, match=r"no `java` in PATH: install Java 17"):
        _check(runner)


@pytest.mark.parametrize("version", ["1.8.0_392", "21.0.1", "25"])
def test_a_java_of_another_version(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{_java(tmp_path, version)}:/usr/bin:/bin")
    with pytest.raises(CheckError, match=rf"run on Java 11 to 17, but .*{version}.*install Java 17"):
        find_java()


@pytest.mark.parametrize(("runner", "option"), [("SparkRunner", "spark"), ("FlinkRunner", "flink")])
def test_a_job_server_jar_that_is_not_there(
    runner: str, option: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{_java(tmp_path, '17.0.1')}:/usr/bin:/bin")
    jar = tmp_path / "server.jar"
    with pytest.raises(
        CheckError, match=rf"from {jar}, which cannot be had \(no such file\).*--{option}_job"
    ):
        _check(runner, f"{option}_job_server_jar={jar}")
    url = f"http://127.0.0.1:{port}/server.jar"
    with pytest.raises(CheckError, match=rf"from {url}, which cannot be had \(Unable to fetch .*refused"):
        _check(runner, f"{option}_job_server_jar={url}", f"jar_cache_dir={tmp_path / 'cache'}")
    jar.write_bytes(b"")
    _check(runner, f"{option}_job_server_jar={jar}")


def test_a_local_path_with_dataflow(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"--output run is a path of this machine, but runner DataflowRunner"
    ):
        _check("DataflowRunner", *CLOUD, source=SOURCE)
    with pytest.raises(ValueError, match=r"SRC shards is a path of this machine.*expected gs://"):
        _check("DataflowRunner", *CLOUD, output=OUTPUT)
    flags = ["--runner=DataflowRunner", *(f"--{option}" for option in CLOUD)]
    assert main(["dedup", str(tmp_path), "--output", str(tmp_path / "run"), *flags]) == 2
    assert "is a path of this machine" in capsys.readouterr().err


def test_a_bucket_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_installed", lambda _: False)
    remote._store.cache_clear()
    with pytest.raises(
        ValueError, match=r"^gs:// paths need google\.cloud\.storage, .*pip install 'onceseen\[gcp\]'"
    ):
        check_remote(Runner(RunnerConfig()), ["gs://bucket/shards"], "gs://bucket/run")


def test_googles_clients_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_checks, "_GOOGLE_CLIENTS", ("google.cloud.no_such_client",))
    with pytest.raises(ValueError, match=r"pip install 'onceseen\[gcp\]'"):
        _check("DataflowRunner", *CLOUD, source=SOURCE, output=OUTPUT)


@pytest.mark.parametrize("missing", ["project", "region", "temp_location", "sdk_container_image"])
def test_what_dataflow_must_be_told(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.cloud.dataflow", reason="needs onceseen[gcp]")
    monkeypatch.setenv("PATH", str(tmp_path))  # without gcloud, which may know a region
    monkeypatch.delenv("CLOUDSDK_COMPUTE_REGION", raising=False)
    options = [option for option in CLOUD if not option.startswith(f"{missing}=")]
    with pytest.raises(ValueError, match=rf"runner DataflowRunner needs --{missing}="):
        _check("DataflowRunner", *options, source=SOURCE, output=OUTPUT)


def test_a_place_for_temporaries_on_this_machine() -> None:
    pytest.importorskip("google.cloud.dataflow", reason="needs onceseen[gcp]")
    with pytest.raises(ValueError, match=r"--temp_location is '/tmp'; expected a gs:// path"):
        _check("DataflowRunner", *CLOUD, "temp_location=/tmp", source=SOURCE, output=OUTPUT)


def test_a_profile_whose_images_are_not_filled_in() -> None:
    pytest.importorskip("google.cloud.dataflow", reason="needs onceseen[gcp]")
    profile = load_config(ROOT / "configs" / "dataflow-gpu.yaml").runner
    runner = Runner(with_flags(profile, [f"--{option}" for option in CLOUD if option != IMAGE]))
    with pytest.raises(
        ValueError, match=r"sdk_container_image=REGION-.*/worker-gpu:0\.1\.0 is no image's name"
    ):
        check_remote(runner, [SOURCE], OUTPUT)


@pytest.mark.parametrize("runner", ["DataflowRunner", "local"])
def test_no_credentials(runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.auth", reason="needs onceseen[gcp]")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no look for a metadata server
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(
        CheckError, match=r"no Google Cloud credentials \(.*gcloud auth application-default login"
    ):
        _check(runner, *CLOUD, source=SOURCE, output=OUTPUT)


def test_credentials_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("google.auth", reason="needs onceseen[gcp]")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(CheckError, match=r"no Google Cloud credentials \(.*nowhere\.json"):
        _check("DataflowRunner", *CLOUD, source=SOURCE, output=OUTPUT)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with cloud_storage(monkeypatch):
        yield


@pytest.mark.usefixtures("storage")
def test_a_bucket_that_is_not_there() -> None:
    _check("DataflowRunner", *CLOUD, source=SOURCE, output=OUTPUT)
    with pytest.raises(
        CheckError, match=r"bucket gs://misspelt cannot be listed \(.*404.*gcloud storage buckets cr"
    ):
        _check("DataflowRunner", *CLOUD, source="gs://misspelt/shards", output=OUTPUT)
    with pytest.raises(CheckError, match=r"bucket gs://nowhere cannot be listed"):
        _check("DataflowRunner", *CLOUD, "temp_location=gs://nowhere/temp", source=SOURCE, output=OUTPUT)
    with pytest.raises(CheckError, match=r"bucket gs://misspelt cannot be listed"):
        _check("local", source="shards", output="gs://misspelt/run")
