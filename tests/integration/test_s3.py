"""The main job from and to a real S3 server: same bytes as locally, resumed after a kill, clear where it cannot."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from integration.runs import dedup
from onceseen.cli import main
from onceseen.core import files, remote
from onceseen.core.config import RunnerConfig
from onceseen.core.layout import RunLayout
from onceseen.core.remote import use_beam_options
from onceseen.core.s3_client import s3_client
from onceseen.jobs.lock import LockHeldError, run_lock
from onceseen.jobs.runner import Runner
from s3_server import BUCKET, KEYS, bare_client, download, s3_server, upload

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
HASHES = ("--set", "embed.model=none", "--set", "cells.enabled=false")
COMPARED = ("shards/", "verdicts/", "pairs/", "stats/", "features/", "thumbs/", "failures/")
KINDS = ("tars", "parquet", "folder")
MOST_REQUESTS = 1_100
NOBODY_S = 60.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with s3_server() as started:
        yield started


@pytest.fixture(autouse=True)
def _environment(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials and the server by boto3's own variables, as on a user's machine."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    use_beam_options([])
    yield
    use_beam_options([])


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return bare_client(url)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, url: str) -> Path:
    """A dozen pictures, four of them copies: three tars with sidecars, three parquet files and a folder; uploaded."""
    directory = tmp_path_factory.mktemp("s3") / "in"
    data = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))[:8]]
    groups = [
        [data[0], data[1], data[2], _smaller(data[3])],
        [data[3], data[4], _smaller(data[0]), data[5]],
        [data[6], _smaller(data[1]), data[1], data[7]],
    ]
    for name in KINDS:
        (directory / name).mkdir(parents=True)
    for number, group in enumerate(groups):
        _write_tar(directory / "tars" / f"{number:05d}.tar", group)
        keys = pa.table({"key": [f"{row:09d}" for row in range(4)], "status": ["success"] * 4})
        pq.write_table(keys, directory / "tars" / f"{number:05d}.parquet")
        rows = pa.table(
            {"key": [f"k{row}" for row in range(4)], "image": group, "caption": ["a caption"] * 4}
        )
        pq.write_table(rows, directory / "parquet" / f"{number}.parquet")
        for row, picture in enumerate(group):
            (directory / "folder" / f"{number}-{row}.jpg").write_bytes(picture)
    upload(bare_client(url), directory, "in")
    return directory


def _smaller(picture: bytes) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def _write_tar(path: Path, pictures: list[bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for row, picture in enumerate(pictures):
            for extension, data in (("jpg", picture), ("txt", b"a caption"), ("json", b"{}")):
                member = tarfile.TarInfo(f"{row:09d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _compared(run: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in run.items() if name.startswith(COMPARED)}


def _local(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in run.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def requests() -> Counter[str]:
    """The requests of the run below, by method and object."""
    return Counter()


@pytest.fixture(scope="module")
def run(inputs: Path, url: str, requests: Counter[str]) -> str:
    """A finished run with the default model, its server named by Beam's options, not by the environment."""
    flags = [f"--s3_endpoint_url={url}", "--s3_access_key_id=test", "--s3_secret_access_key=hidden-word"]
    flags.append("--s3_region_name=us-east-1")
    use_beam_options(flags)

    def note(request: Any, **_: object) -> None:
        path = request.url.partition(f"{BUCKET}/")[2].partition("?")[0]
        requests[f"{request.method} {path.removeprefix('run/')}"] += 1

    events = s3_client().meta.events
    events.register("before-send.s3", note)
    try:
        sources = [f"s3://bucket/in/{kind}/" for kind in KINDS]
        assert main(["dedup", *sources, "--output", "s3://bucket/run", "--quiet", *flags]) == 0
    finally:
        events.unregister("before-send.s3", note)
    return "s3://bucket/run"


def test_the_same_bytes_as_locally(inputs: Path, run: str, client: Any, tmp_path: Path) -> None:
    sources = [str(inputs / kind) for kind in KINDS]
    assert main(["dedup", *sources, "--output", str(tmp_path / "run"), "--quiet"]) == 0
    remote_run, local_run = _compared(download(client, "run")), _compared(_local(tmp_path / "run"))
    assert remote_run.keys() == local_run.keys()
    assert not [name for name in local_run if remote_run[name] != local_run[name]]
    summary = json.loads(remote_run["stats/summary.json"])
    assert (summary["read"], summary["kept"]) == (36, 8)
    assert {
        "shards/tars/00000.tar",
        "shards/tars/00000.parquet",
        "shards/parquet/0.parquet",
    } <= remote_run.keys()


def test_options_reach_workers_that_are_processes(
    inputs: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the server is in their environment."""

    def copy_object(name: str) -> None:  # pickled by value: workers do not have this module
        files.write_bytes("s3://bucket/copied", files.read_bytes(f"s3://bucket/{name}"))

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    runner = Runner(RunnerConfig(workers=2, options=(f"s3_endpoint_url={url}",)))
    runner.run("copy", lambda p: p | beam.Create(["in/tars/00000.tar"]) | beam.Map(copy_object))
    use_beam_options([f"--s3_endpoint_url={url}"])
    assert files.read_bytes("s3://bucket/copied") == (inputs / "tars" / "00000.tar").read_bytes()


def test_the_record_of_a_run_holds_no_secret(run: str, client: Any) -> None:
    found = download(client, "run")
    assert not [name for name, data in found.items() if b"hidden-word" in data]
    options = json.loads(found["run.json"])["config"]["runner"]["options"]
    assert "s3_secret_access_key=(not recorded)" in options


def test_nothing_is_left_of_locks_and_uploads(run: str, client: Any) -> None:
    names = download(client, "run").keys()
    assert not [
        name for name in names if ".lock" in name or "tmp" in name or name.startswith(".state/match/")
    ]
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_the_commands_on_a_run(
    run: str,
    client: Any,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    option = f"--s3_endpoint_url={url}"
    truth = io.StringIO()
    writer = csv.writer(truth)
    writer.writerow(("file", "source_id", "transform"))
    writer.writerows((f"tars/0000{s}/{r:09d}", f"{s}-{r}", "original") for s in range(3) for r in range(4))
    client.put_object(Bucket=BUCKET, Key="truth.csv", Body=truth.getvalue().encode())
    assert main(["explain", run, "tars/00000/000000000", option]) == 0
    assert "verdict" in capsys.readouterr().out
    client.delete_object(Bucket=BUCKET, Key="run/report.html")
    assert main(["report", run, option]) == 0
    assert b"</html>" in client.get_object(Bucket=BUCKET, Key="run/report.html")["Body"].read()
    assert main(["evaluate", run, "--truth", "s3://bucket/truth.csv", option]) == 0
    assert "wrong drops" in capsys.readouterr().out


def test_a_scan_of_a_run(run: str, client: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    config = "runner.options=[s3_endpoint_url=" + url + "]"
    arguments = ["scan", "s3://bucket/in/tars/00000.tar", "--reference", run, "--output", "s3://bucket/scan"]
    assert main([*arguments, "--quiet", "--apply", "--set", config]) == 0
    found = download(client, "scan")
    summary = json.loads(found["summary.json"])
    assert (summary["read"], summary["duplicate"], summary["duplicates_by"]) == (4, 4, {"bytes": 4})
    assert {"flagged.parquet", "delete_list.csv", "report.html", "shards/00000.tar"} <= found.keys()
    append = [
        "scan",
        "s3://bucket/in/folder/",
        "--reference",
        run,
        "--output",
        "s3://bucket/second",
        "--append",
    ]
    assert main([*append, "--prefix", "second", "--quiet", f"--s3_endpoint_url={url}"]) == 0
    summary = json.loads(download(client, "second")["stats/summary.json"])
    assert (summary["read"], summary["kept"]) == (48, 8)


def test_a_killed_run_is_resumed_and_done_anew(inputs: Path, client: Any, tmp_path: Path) -> None:
    command = [
        "-m",
        "onceseen",
        "dedup",
        "s3://bucket/in/tars",
        "--output",
        "s3://bucket/run3",
        "--quiet",
        *HASHES,
    ]
    process = subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + NOBODY_S
    while not _objects(client, "run3/.state") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    marked = {
        name.rpartition("/")[2].removesuffix(".json") for name in _objects(client, "run3/.state/extract")
    }
    before = {k: v for k, v in _objects(client, "run3/features").items() if Path(k).stem in marked}
    assert before, "it was not killed in the middle"
    client.create_multipart_upload(Bucket=BUCKET, Key="run3/shards/00000.tar")  # as a killed writer leaves it
    assert dedup("s3://bucket/in/tars", "s3://bucket/run3", *HASHES) == 0
    assert before.items() <= _objects(client, "run3/features").items()
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    said = b"sample_id,decision\n00002/000000003,drop\n"
    client.put_object(Bucket=BUCKET, Key="said.csv", Body=said)
    client.put_object(Bucket=BUCKET, Key="run4/features/stale.parquet", Body=b"old")
    client.put_object(
        Bucket=BUCKET,
        Key="run4/run.json",
        Body=client.get_object(Bucket=BUCKET, Key="run3/run.json")["Body"].read(),
    )
    client.put_object(Bucket=BUCKET, Key="run4/of-a-person.txt", Body=b"mine")
    flags = (
        "--overwrite",
        "--dry-run",
        "--features",
        "s3://bucket/run3",
        "--decisions",
        "s3://bucket/said.csv",
    )
    assert dedup("s3://bucket/in/tars", "s3://bucket/run4", *HASHES, *flags) == 0
    first, second = download(client, "run3"), download(client, "run4")
    assert "features/stale.parquet" not in second
    assert second["of-a-person.txt"] == b"mine"
    assert second["features/00000.parquet"] == first["features/00000.parquet"]
    dropped = [json.loads(run["stats/summary.json"])["dropped"] for run in (first, second)]
    assert dropped == [4, 5]


def _objects(client: Any, prefix: str) -> dict[str, object]:
    """When each object was written: what is done again gets a new time."""
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")
    return {entry["Key"]: entry["LastModified"] for entry in found.get("Contents", ())}


def test_requests_for_a_shard(run: str, requests: Counter[str]) -> None:
    """Each file is asked for when it is read, not before; a file is written by one request."""
    shard = "tars/00001"
    for name in (f"features/{shard}.parquet", f"shards/{shard}.tar", f".state/extract/{shard}.json"):
        assert requests[f"PUT {name}"] == 1
    assert requests[f"GET .state/extract/{shard}.json"] <= 6
    assert requests[f"GET in/{shard}.tar"] <= 6
    assert not [key for key in requests if key.startswith("HEAD") and shard in key and "verdicts" not in key]
    assert sum(count for key, count in requests.items() if shard in key) <= 70
    assert requests.total() < MOST_REQUESTS


def test_missing_buckets(inputs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert dedup("s3://nowhere/in", tmp_path / "run") == 2
    assert "there is no bucket 'nowhere'" in _error(capsys)
    assert dedup("s3://bucket/in/tars", "s3://nowhere/run") == 1
    assert "there is no bucket 'nowhere'" in _error(capsys)
    assert dedup("s3://bucket/in/nothing", tmp_path / "run") == 2
    assert "matches nothing" in _error(capsys)
    assert main(["explain", "s3://nowhere/run", "00000/1"]) == 1
    assert "there is no bucket 'nowhere'" in _error(capsys)
    assert not (tmp_path / "run").exists()


def test_missing_credentials_and_clients(
    inputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    option = "--s3_region_name=eu-west-1"  # another client than those that have credentials
    assert dedup("s3://bucket/in/tars", tmp_path / "run", option) == 2
    assert "no AWS credentials were found" in _error(capsys)
    monkeypatch.setitem(sys.modules, "boto3", None)
    remote._store.cache_clear()
    assert dedup("s3://bucket/in/tars", tmp_path / "run", option) == 2
    assert "pip install 'onceseen[aws]'" in _error(capsys)
    remote._store.cache_clear()


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text


def test_a_file_appears_whole_or_not_at_all(client: Any) -> None:
    data = os.urandom(33 << 20)
    path = "s3://bucket/whole/x"
    files.write_bytes(path, data)
    assert files.read_bytes(path) == data

    def write_half() -> None:
        with files.atomic_write(path) as stream:
            stream.write(data[: 20 << 20])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert files.read_bytes(path) == data
    assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    writing = files.atomic_write("s3://bucket/whole/y")
    stream = writing.__enter__()
    stream.write(data)
    stream.close()
    del stream, writing
    assert not files.exists("s3://bucket/whole/y")
    files.write_bytes("s3://bucket/whole/empty", b"")
    assert files.read_bytes("s3://bucket/whole/empty") == b""
    files.remove("s3://bucket/whole")
    assert files.list_files("s3://bucket/whole") == []


def test_pieces_of_a_file(client: Any) -> None:
    data = os.urandom(3 << 20)
    path = "s3://bucket/pieces"
    files.write_bytes(path, data)
    with files.open_parts(path) as stream:
        for offset, size in ((5, 100_000), (2_000_000, 60_000), (2_150_000, 10), (17, 3 << 20), (3 << 20, 1)):
            stream.seek(offset)
            assert stream.read(size) == data[offset : offset + size]
    with files.open_parts(path) as stream:
        stream.seek(2 << 20)
        client.put_object(Bucket=BUCKET, Key="pieces", Body=data[::-1])
        with pytest.raises(OSError, match="was replaced while it was read"):
            stream.read(10)
    with pytest.raises(FileNotFoundError, match="is not there"):
        files.open_read("s3://bucket/none")


def test_one_of_many_gets_the_lock(client: Any) -> None:
    layout = RunLayout("s3://bucket/locked")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: files.create_new(f"{layout.lock()}.test", b"%d" % n), range(8)))
    assert sum(made) == 1
    with run_lock(layout), pytest.raises(LockHeldError, match="is held by process"), run_lock(layout):
        pass
    assert not files.exists(layout.lock())
    gone = subprocess.Popen(["true"])
    gone.wait()
    holder = json.loads(json.dumps({"host": os.uname().nodename, "pid": gone.pid, "time": time.time()}))
    for text, free in (
        ({**holder, "host": "elsewhere"}, False),
        (holder, True),
        ({**holder, "time": 0}, True),
    ):
        files.write_json(layout.lock(), text)
        if free:
            with run_lock(layout):
                pass
        else:
            with pytest.raises(LockHeldError, match="elsewhere"), run_lock(layout):
                pass
