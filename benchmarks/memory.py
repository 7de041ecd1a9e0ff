"""Resident memory of extract and rewrite against the number of images: bounded by a shard's blocks, not by the set.

    python benchmarks/memory.py [--photos examples/photos] [--shards N] [--samples M] [--times T] [--model]

Both jobs run as `onceseen dedup` runs them, on the in-process runner, each in a fresh process:

- `by_shards`: N shards of M samples each, then T times as many shards;
- `by_samples`: one shard of N x M samples, then one of T times as many.

The samples are the bundled photographs, shrunk to 160 pixels, no two with the same bytes (identical ones would be
decoded once). In rewrite, every third sample is dropped. Prints JSON, in MB: the peak of the resident set (VmHWM), the
resident set when the job began, and `growth_mb_per_1000_images`: what the peak gained from the smaller input to the
larger one, beside the size of the images themselves. `by_shards` shows that the number of images does not matter.
Within one shard, extract grows until its memo of the last 8,192 distinct images is full (6 KB each), and rewrite by
the shard's verdicts (1 to 2 KB a sample).
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig, PipelineConfig
from onceseen.core.features import read_features
from onceseen.core.files import write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.core.schemas import VERDICTS
from onceseen.jobs.extract_job import ExtractShards
from onceseen.jobs.rewrite_job import WriteDedupedShards
from onceseen.jobs.runner import Runner, over_shards
from onceseen.shards import list_shards

SIDE = 160
FINGERPRINT = "benchmark"


def make_shards(photos: Path, target: Path, shards: int, samples: int) -> float:
    """Writes tars of distinct pictures with captions; returns MB of image bytes per 1,000 pictures."""
    target.mkdir(parents=True)
    small = [_shrunk(path) for path in sorted(photos.glob("*.jpg"))]
    total = 0
    for shard in range(shards):
        with tarfile.open(target / f"{shard:05d}.tar", "w") as tar:
            for row in range(samples):
                number = shard * samples + row
                image = _encode(small[number % len(small)], number // len(small))
                total += len(image)
                for name, data in (
                    (f"{number:09d}.jpg", image),
                    (f"{number:09d}.txt", f"picture {number}".encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return total / (shards * samples) * 1000 / 1e6


def _shrunk(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be read")
    scale = SIDE / max(image.shape[:2])
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _encode(image: NDArray[np.uint8], version: int) -> bytes:
    """A JPEG of which no two versions have the same bytes: a comment holds the version."""
    lighter = cv2.add(image, (version % 8, version % 8, version % 8, 0))
    data = bytes(cv2.imencode(".jpg", lighter, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].data)
    comment = f"version {version}".encode()
    return data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]


def write_verdicts(layout: RunLayout, shard: Shard) -> None:
    """Verdicts for a shard's features: every third sample is dropped for the one before it."""
    found = read_features(layout, shard.name, ["sample_id", "key"]).to_pylist()
    rows = []
    for i, row in enumerate(found):
        dropped = i % 3 == 2
        representative = found[i - 1]["sample_id"] if dropped else row["sample_id"]
        filled: dict[str, Any] = {
            "sample_id": row["sample_id"],
            "shard": shard.name,
            "key": row["key"],
            "verdict": "drop" if dropped else "keep",
            "representative_id": representative,
            "evidence_a": representative,
            "evidence_b": row["sample_id"],
            "kind": "perceptual" if dropped else "",
            "score": 1.0,
            "copies": 1,
            "component_id": representative,
            "component_size": 1,
            "weight": 1.0,
            "row": i,
        }
        rows.append(filled)
    write_table(layout.verdicts(shard.name), pa.Table.from_pylist(rows, schema=VERDICTS))


def run_job(job: str, source: Path, run: Path, model: str) -> dict[str, float]:
    """Runs one job over all shards in this process. Returns MB resident before it, and at its peak."""
    config = replace(PipelineConfig(), embed=EmbedConfig(model=model))
    layout = RunLayout(str(run))
    shards = list_shards([str(source)], config.read)
    if job == "rewrite":
        transform: Any = WriteDedupedShards(config, layout, FINGERPRINT)
    else:
        transform = ExtractShards(config, layout, FINGERPRINT)
    before = _status_mb("VmRSS")
    Runner(config.runner).run(job, over_shards(shards, transform))
    return {"before_mb": before, "peak_mb": _status_mb("VmHWM")}


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(f"/proc/self/status has no {field}: this benchmark needs Linux")


def run_alone(job: str, source: Path, run: Path, model: str) -> dict[str, float]:
    """`run_job` in a fresh process."""
    command = [sys.executable, __file__, "--child", job, str(source), str(run), model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} over {source} failed:\n{done.stderr[-4000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    root: Path, photos: Path, sizes: Sequence[tuple[int, int]], model: str
) -> tuple[dict[str, Any], float]:
    """Both jobs over two inputs (shards, samples a shard), the smaller first; and MB of 1,000 images."""
    measured: dict[str, list[dict[str, Any]]] = {"extract": [], "rewrite": []}
    image_mb = 0.0
    for shards, samples in sizes:
        place = root / f"{shards}x{samples}"
        image_mb = make_shards(photos, place / "input", shards, samples)
        images = {"shards": shards, "images": shards * samples}
        measured["extract"].append({**images, **run_alone("extract", place / "input", place / "run", model)})
        layout = RunLayout(str(place / "run"))
        for shard in list_shards([str(place / "input")], PipelineConfig().read):
            write_verdicts(layout, shard)
        measured["rewrite"].append({**images, **run_alone("rewrite", place / "input", place / "run", model)})
    report: dict[str, Any] = {}
    for job, (small, large) in measured.items():
        thousands = (large["images"] - small["images"]) / 1000
        growth = (large["peak_mb"] - small["peak_mb"]) / thousands
        report[job] = {"runs": [small, large], "growth_mb_per_1000_images": round(growth, 2)}
    return report, image_mb


def main() -> None:
    """Parses the arguments, measures, prints."""
    if sys.argv[1:2] == ["--child"]:
        job, source, run, model = sys.argv[2:6]
        sys.stdout.write(json.dumps(run_job(job, Path(source), Path(run), model)) + "\n")
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=250)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--model", action="store_true", help="embed as well, with the bundled model")
    parser.add_argument(
        "--directory", default=None, help="where the files are made; default: the system's own"
    )
    args = parser.parse_args()
    model = "efficientnet-lite0" if args.model else "none"
    shards, samples, times = args.shards, args.samples, args.times
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        root = Path(directory)
        by_shards, image_mb = measure(
            root, args.photos, [(shards, samples), (times * shards, samples)], model
        )
        by_samples, _ = measure(
            root, args.photos, [(1, shards * samples), (1, times * shards * samples)], model
        )
    report = {
        "benchmark": "memory",
        "model": model,
        "image_mb_per_1000": round(image_mb, 2),
        "by_shards": by_shards,
        "by_samples": by_samples,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
