"""The real img2dataset fetches from a local site: pictures, missing ones, broken ones, a slow one."""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from onceseen.fetch import FetchConfig, fetch
from onceseen.fetch.cli import add_arguments, run
from onceseen.fetch.tables import input_format, table_columns
from picture_server import Answer, PictureServer, serve

# Each of img2dataset's processes imports torch, pandas and wandb anew: 10 s of one core.
pytestmark = pytest.mark.timeout(300)
SEED = 20
PICTURES = 9


def _picture(number: int, extension: str = ".jpg") -> bytes:
    noise = np.random.default_rng(SEED + number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.imencode(extension, cv2.resize(noise, (160, 120), interpolation=cv2.INTER_CUBIC))[1].tobytes()


JPEGS = {f"/{number}.jpg": _picture(number) for number in range(PICTURES)}
ODD = {
    "/a.png": Answer(_picture(100, ".png")),
    "/broken.jpg": Answer(b"<html>no picture here</html>"),
    "/empty.jpg": Answer(b""),
    "/forbidden.jpg": Answer(_picture(101), headers={"X-Robots-Tag": "noai"}),
    "/flaky.jpg": Answer(_picture(102), fails_first=1),
    "/slow.jpg": Answer(_picture(103), hangs=True),
}
MISSING = ("/missing-1.jpg", "/missing-2.jpg")
PATHS = (*JPEGS, *ODD, *MISSING)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[PictureServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({**{path: Answer(body) for path, body in JPEGS.items()}, **ODD}) as server:
        yield server


def _table(directory: Path, site: PictureServer, paths: tuple[str, ...] = PATHS) -> Path:
    table = directory / "urls.csv"
    with open(table, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["link", "words", "licence"])
        rows.writerows([site.root + path, f"caption of {path}, naïve", "CC0"] for path in paths)
    return table


def _config(table: Path, output: Path, **changes: int) -> FetchConfig:
    settings = {"shard_size": 10, "threads": 8, "timeout_s": 2, "retries": 1, **changes}
    columns = {"url_column": "link", "caption_column": "words"}
    return FetchConfig(str(table), str(output), extra_columns=("licence",), **columns, **settings)


def test_pictures_become_shards_and_failures_are_counted(site: PictureServer, tmp_path: Path) -> None:
    output = tmp_path / "shards"
    summary = fetch(_config(_table(tmp_path, site), output))

    assert (summary.shards, summary.read, summary.fetched) == (2, 17, 11)
    assert (summary.failed_to_download, summary.failed_to_decode) == (4, 2)
    assert summary.read == summary.fetched + summary.failed_to_download + summary.failed_to_decode
    assert sum(summary.errors.values()) == 6
    assert summary.errors["HTTP Error 404: Not Found"] == 2
    assert summary.errors["timed out"] == 1
    assert summary.errors["Use of image disallowed by X-Robots-Tag directive"] == 1
    assert site.requests["/flaky.jpg"] == 2
    assert not (output / "_tmp").exists()

    urls = [str(path) for path in sorted(output.glob("*.tar"))]
    samples = {json.loads(s["json"])["url"]: s for s in wds.WebDataset(urls, shardshuffle=False)}
    assert len(samples) == 11
    for path, body in JPEGS.items():
        sample = samples[site.root + path]
        assert sample["jpg"] == body
        assert sample["txt"].decode() == f"caption of {path}, naïve"
        facts = json.loads(sample["json"])
        assert facts["sha256"] == hashlib.sha256(body).hexdigest()
        assert (facts["width"], facts["height"], facts["licence"]) == (160, 120, "CC0")
    decoded = cv2.imdecode(np.frombuffer(samples[site.root + "/a.png"]["jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (120, 160, 3)

    sidecar = pa.concat_tables([pq.read_table(path) for path in sorted(output.glob("*.parquet"))])
    assert sidecar.num_rows == 17
    assert sidecar["status"].to_pylist().count("success") == 11


def _command(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def _command_for(table: Path, output: Path) -> list[str]:
    columns = ["--url-column", "link", "--caption-column", "words", "--extra-column", "licence"]
    return [str(table), "--output", str(output), "--shard-size", "3", "--threads", "4", *columns]


def test_the_command_goes_on_with_missing_shards_of_the_same_table(
    site: PictureServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table, output = _table(tmp_path, site, tuple(JPEGS)), tmp_path / "shards"
    handler = signal.getsignal(signal.SIGINT)
    assert _command(_command_for(table, output)) == 0
    whole = _printed(capfd)
    assert (whole["shards"], whole["fetched"]) == (3, PICTURES)
    assert signal.getsignal(signal.SIGINT) is handler

    first = (output / "00000.tar").read_bytes()
    for name in ("00001.tar", "00001.parquet", "00001_stats.json"):
        (output / name).unlink()
    before = site.requests.copy()
    assert _command(_command_for(table, output)) == 0
    assert _printed(capfd) == whole
    assert dict(site.requests - before) == {"/3.jpg": 1, "/4.jpg": 1, "/5.jpg": 1}
    assert (output / "00000.tar").read_bytes() == first

    before = site.requests.copy()
    assert _command(_command_for(table, output)) == 0
    assert _printed(capfd) == whole
    assert site.requests == before

    other = _table(tmp_path, site, ("/2.jpg", "/3.jpg"))
    assert _command(_command_for(other, output)) == 2
    assert "shards of another table" in capfd.readouterr().err
    (output / ".onceseen-fetch").unlink()
    assert _command(_command_for(other, output)) == 2
    assert "did not write" in capfd.readouterr().err


def _printed(capfd: pytest.CaptureFixture[str]) -> dict[str, int]:
    """The summary; what img2dataset's own processes print to standard output comes before it."""
    text = capfd.readouterr().out
    summary: dict[str, int] = json.loads(text[text.index("{") :])
    return summary


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "json", "jsonl", "parquet", "csv.gz"])
def test_tables_are_counted_as_img2dataset_reads_them(tmp_path: Path, kind: str) -> None:
    from img2dataset.reader import Reader

    urls = [f"http://127.0.0.1/{number}.jpg" for number in range(5)]
    table = tmp_path / f"urls.{kind}"
    rows = {
        "txt": urls,
        "csv": ["url,n", *(f"{url},1" for url in urls)],
        "tsv": ["url\tn", *(f"{url}\t1" for url in urls)],
        "json": [json.dumps([{"url": url, "n": 1} for url in urls])],
        "jsonl": [json.dumps({"url": url, "n": 1}) for url in urls],
    }
    text = "\n".join(rows.get(kind.removesuffix(".gz"), ())) + "\n"
    if kind == "parquet":
        pq.write_table(pa.table({"url": urls, "n": [1] * 5}), table)
    else:
        table.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())

    columns, count = table_columns(str(table))
    assert columns == (["url"] if kind == "txt" else ["url", "n"])
    (tmp_path / "_tmp").mkdir()
    reader = Reader(
        str(table), input_format(str(table)), "url", None, None, None, None, 2, set(), str(tmp_path / "_tmp")
    )
    read = [url for _, path in reader for url in pa.ipc.open_file(path).read_all()["url"].to_pylist()]
    assert (count, sorted(read)) == (5, urls)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("urls.csv", "address,words\nhttp://127.0.0.1/a.jpg,a\n", "has no column 'url'"),
        ("urls.csv", "url\n", "holds no URL"),
        ("urls.csv", "", "has no column 'url'"),
        ("urls.parquet", "no parquet", "can't be read as parquet"),
        ("urls.xlsx", "", "no table of URLs by its ending"),
        ("urls.csv", None, "no such file"),
    ],
)
def test_a_wrong_table_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
) -> None:
    table = tmp_path / name
    if text is not None:
        table.write_text(text, encoding="utf-8")
    assert _command([str(table), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_img2dataset_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "urls.txt"
    table.write_text("http://127.0.0.1/a.jpg\n", encoding="utf-8")
    find_spec = "onceseen.fetch.download.importlib.util.find_spec"
    monkeypatch.setattr(find_spec, lambda name: None)
    assert _command([str(table), "--output", str(tmp_path / "out")]) == 2
    assert "pip install 'onceseen[fetch]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("processes", 0), ("threads", 0), ("shard_size", 1), ("retries", -1)]
)
def test_numbers_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"fetch {name} is {value}"):
        FetchConfig("urls.csv", "out", **{name: value})
