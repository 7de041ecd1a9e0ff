"""From a site to deduplicated shards: fetch, then dedup, by the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import pytest
import webdataset as wds

from onceseen.cli import main
from picture_server import Answer, serve

# Two commands, and each of img2dataset's processes imports torch, pandas and wandb anew.
pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = tuple(sorted((ROOT / "examples" / "photos").glob("monument-*.jpg"))[:6])


def _reencoded(photograph: Path) -> bytes:
    return cv2.imencode(".jpg", cv2.imread(str(photograph)), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()


def _answers() -> dict[str, Answer]:
    """Six photographs, the first twice more: as the same file, and encoded again."""
    answers = {f"/{number}.jpg": Answer(path.read_bytes()) for number, path in enumerate(PHOTOGRAPHS)}
    answers["/same-file.jpg"] = Answer(PHOTOGRAPHS[0].read_bytes())
    answers["/encoded-again.jpg"] = Answer(_reencoded(PHOTOGRAPHS[0]))
    answers["/broken.jpg"] = Answer(b"not a picture")
    answers["/slow.jpg"] = Answer(hangs=True)
    return answers


def _write_table(path: Path, urls: list[str]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["url", "caption"])
        rows.writerows([url, f"a photograph at {url}"] for url in urls)


def test_fetched_shards_are_deduplicated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    table, shards, output = tmp_path / "urls.csv", tmp_path / "shards", tmp_path / "run"
    answers = _answers()
    with serve(answers) as site:
        _write_table(table, [site.root + path for path in [*answers, "/missing.jpg"]])
        options = ["--caption-column", "caption", "--shard-size", "10", "--timeout-s", "2", "--retries", "0"]
        assert main(["fetch", str(table), "--output", str(shards), *options]) == 0

    configuration = str(ROOT / "configs" / "local-cpu.yaml")
    assert main(["dedup", str(shards), "--output", str(output), "--config", configuration]) == 0

    summary = json.loads((output / "stats" / "summary.json").read_text(encoding="utf-8"))
    assert summary["read"] == len(PHOTOGRAPHS) + 2
    assert summary["read"] == summary["kept"] + summary["dropped"] + summary["failed"]
    assert (summary["kept"], summary["dropped"], summary["failed"]) == (len(PHOTOGRAPHS), 2, 0)

    urls = [str(path) for path in sorted((output / "shards").rglob("*.tar"))]
    kept = {s["jpg"] for s in wds.WebDataset(urls, shardshuffle=False)}
    assert kept == {path.read_bytes() for path in PHOTOGRAPHS}
