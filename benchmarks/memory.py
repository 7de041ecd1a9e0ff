"""Resident memory of extract and rewrite against the number of images: bounded by a shard's blocks, not by the set.

    python benchmarks/memory.py [--photos examples/photos] [--shards N] [--samples M] [--times T] [--model]
    python benchmarks/memory.py --large 2000 [--threads 16] [--model]

Both jobs run as `onceseen dedup` runs them, on the in-process runner, each in a fresh process:

- `by_shards`: N shards of M samples each, then T times as many shards;
- `by_samples`: one shard of N x M samples, then one of T times as many.

The samples are the bundled photographs, shrunk to 160 pixels, no two with the same bytes (identical ones would be
decoded once). In rewrite, every third sample is dropped. Prints JSON, in MB: the peak of the resident set (VmHWM), the
resident set when the job began, and `growth_mb_per_1000_images`: what the peak gained from the smaller input to the
larger one, beside the size of the images themselves. `by_shards` shows that the number of images does not matter.
Within one shard, extract grows until its memo of the last 8,192 distinct images is full (6 KB each), and rewrite by
the shard's verdicts (1 to 2 KB a sample).

`--large MB` instead runs `onceseen dedup` over one shard of so many MB, of each of `KINDS`: the peak of resident memory
in each job, and in all. Every tenth picture is a copy of the one before it.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig, EmbedConfig, FingerprintConfig, PipelineConfig
from onceseen.core.features import read_features
from onceseen.core.files import write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.core.schemas import VERDICTS
from onceseen.jobs.dedup import DedupRequest, run_dedup
from onceseen.jobs.extract_job import ExtractShards
from onceseen.jobs.graphs import over_shards
from onceseen.jobs.rewrite_job import WriteDedupedShards
from onceseen.jobs.runner import Runner
from onceseen.jobs.state import RUNNING, RunState
from onceseen.shards import list_shards

SIDE = 160
FINGERPRINT = "benchmark"


@dataclass(frozen=True)
class Kind:
    """What a large shard is made of.

    Attributes:
        height: Of its pictures, in pixels.
        width: Of its pictures, in pixels.
        extension: `.jpg`, or `.png`, which has many bytes a pixel.
        beside: Bytes of a member beside each picture that is no picture.
        parquet: Whether it is a parquet file, in row groups of half of it.
        page_rows: Rows of one page of a parquet file, the least that can be read of it; 1,024 is pyarrow's own.
    """

    height: int
    width: int
    extension: str = ".jpg"
    beside: int = 0
    parquet: bool = False
    page_rows: int = 1024


KINDS = {
    "large pictures": Kind(3000, 4000),
    "many pictures": Kind(480, 640),
    "other members": Kind(480, 640, beside=64_000_000),
    "parquet": Kind(480, 640, parquet=True),
    "parquet, small pages": Kind(3000, 4000, parquet=True, page_rows=1),
}


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


def make_large_shard(kind: Kind, target: Path, megabytes: float) -> int:
    """Writes one shard of pictures as noisy as film, every tenth a copy of the one before. Returns their number."""
    target.mkdir(parents=True)
    rows = _large_rows(kind, megabytes * 1e6)
    if kind.parquet:
        return _write_parquet(rows, target / "00000.parquet", megabytes * 1e6 / 2, kind.page_rows)
    count = 0
    with tarfile.open(target / "00000.tar", "w") as tar:
        for count, members in enumerate(rows, 1):
            for name, data in members.items():
                info = tarfile.TarInfo(f"{count:06d}{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return count


def _large_rows(kind: Kind, total: float) -> Iterator[dict[str, bytes]]:
    """Members by extension, until there are `total` bytes."""
    rng = np.random.default_rng(1)
    grain = rng.integers(0, 60, (kind.height, kind.width, 3), np.uint8)
    written = number = 0
    image = grain
    while written < total:
        quality = 93
        if number % 10 == 9:
            quality = 88
        else:
            scene = _scene(rng, kind)
            image = cv2.add(scene, np.roll(grain, number * 37, axis=1))
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_PNG_COMPRESSION, 0]
        members = {kind.extension: cv2.imencode(kind.extension, image, options)[1].tobytes()}
        if kind.beside:
            members[".npy"] = rng.bytes(kind.beside)
        written += sum(map(len, members.values()))
        number += 1
        yield members


def _scene(rng: np.random.Generator, kind: Kind) -> NDArray[np.uint8]:
    """Forty discs and bars of any colours: no two scenes look alike, so what is verified is the copies."""
    scene = np.empty((kind.height, kind.width, 3), np.uint8)
    scene[:] = rng.integers(0, 196, 3)
    for shape in range(40):
        colour = tuple(int(value) for value in rng.integers(0, 196, 3))
        x, y, size = (int(value) for value in rng.random(3) * (kind.width, kind.height, kind.height / 4))
        if shape % 2:
            cv2.circle(scene, (x, y), size // 2, colour, cv2.FILLED)
        else:
            cv2.rectangle(scene, (x, y), (x + size, y + int(size * rng.random())), colour, cv2.FILLED)
    return scene


def _write_parquet(rows: Iterator[dict[str, bytes]], path: Path, group_bytes: float, page_rows: int) -> int:
    schema = pa.schema([("key", pa.string()), ("image", pa.binary())])
    count = held = 0
    group: list[dict[str, object]] = []
    options = {"compression": "none", "use_dictionary": False, "write_batch_size": page_rows}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for members in rows:
            (data,) = members.values()
            group.append({"key": f"{count:06d}", "image": data})
            count, held = count + 1, held + len(data)
            if held > group_bytes:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group, held = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    return count


def write_verdicts(layout: RunLayout, shard: Shard) -> None:
    """Verdicts for a shard's features: every third sample is dropped for the one before it."""
    found = read_features(layout, shard, ["sample_id", "key"]).to_pylist()
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


class _PeakOfStep(logging.Handler):
    """Reads the peak at each step that a run names, and begins a new one."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.peaks: dict[str, float] = {}
        self._step = "start"

    def emit(self, record: logging.LogRecord) -> None:
        peak = _status_mb("VmHWM")
        self.peaks[self._step] = max(peak, self.peaks.get(self._step, 0))
        self._step = record.getMessage()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew


def run_all(source: Path, run: Path, model: str, threads: int) -> dict[str, Any]:
    """Runs `onceseen dedup` in this process. Returns MB at the peak of each step."""
    config = replace(
        PipelineConfig(),
        embed=EmbedConfig(model=model),
        # to a model, all scenes are of one style
        cells=CellsConfig(enabled=model != "none", min_cosine=0.95),
        fingerprint=FingerprintConfig(threads=threads),
    )
    peaks = _PeakOfStep()
    log = logging.getLogger("onceseen.jobs.dedup")
    log.setLevel(logging.INFO)
    log.addHandler(peaks)
    done = run_dedup(DedupRequest((str(source),), str(run), config, quiet=True))
    log.info("end")
    counts = {name: done.summary[name] for name in ("read", "kept", "dropped", "failed")}
    return {**counts, "peak_mb": max(peaks.peaks.values()), "peak_mb_by_step": peaks.peaks}


def run_job(job: str, source: Path, run: Path, model: str, threads: int) -> dict[str, Any]:
    """Runs one job over all shards in this process. Returns MB resident before it, and at its peak."""
    if job == "dedup":
        return run_all(source, run, model, threads)
    config = replace(
        PipelineConfig(), embed=EmbedConfig(model=model), fingerprint=FingerprintConfig(threads=threads)
    )
    layout = RunLayout(str(run))
    shards = list_shards([str(source)], config.read)
    if job == "rewrite":
        transform: Any = WriteDedupedShards(config, layout, FINGERPRINT)
    else:
        transform = ExtractShards(config, layout, FINGERPRINT)
    before = _status_mb("VmRSS")
    RunState.start(layout, shards, config, None).mark(job, RUNNING, FINGERPRINT)
    Runner(config.runner).run(job, over_shards(layout, shards, [transform]))
    return {"before_mb": before, "peak_mb": _status_mb("VmHWM")}


def _status_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(f"/proc/self/status has no {field}: this benchmark needs Linux")


def run_alone(job: str, source: Path, run: Path, model: str, threads: int = 0) -> dict[str, Any]:
    """`run_job` in a fresh process."""
    command = [sys.executable, __file__, "--child", job, str(source), str(run), model, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job} over {source} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
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


def measure_large(
    root: Path, kinds: Sequence[str], megabytes: float, model: str, threads: int
) -> dict[str, Any]:
    """A run over one large shard of each kind; a kind's files are removed before the next one's are made."""
    report: dict[str, Any] = {"megabytes": megabytes, "threads": threads}
    for name in map(str.strip, kinds):
        with tempfile.TemporaryDirectory(dir=root) as directory:
            place = Path(directory)
            make_large_shard(KINDS[name], place / "input", megabytes)
            report[name] = run_alone("dedup", place / "input", place / "run", model, threads)
    return report


def main() -> None:
    """Parses the arguments, measures, prints."""
    if sys.argv[1:2] == ["--child"]:
        job, source, run, model, threads = sys.argv[2:7]
        sys.stdout.write(json.dumps(run_job(job, Path(source), Path(run), model, int(threads))) + "\n")
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--samples", type=int, default=250)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--large", type=float, default=0, metavar="MB", help="one large shard of each kind")
    parser.add_argument("--kinds", default=";".join(KINDS), help="which kinds of large shards, parted by ;")
    parser.add_argument("--threads", type=int, default=0, help="decoding threads; default: the cores at hand")
    parser.add_argument("--model", action="store_true", help="embed as well, with the bundled model")
    parser.add_argument(
        "--directory", default=None, help="where the files are made; default: the system's own"
    )
    args = parser.parse_args()
    model = "efficientnet-lite0" if args.model else "none"
    shards, samples, times = args.shards, args.samples, args.times
    about: dict[str, Any] = {"benchmark": "memory", "model": model}
    about |= {"machine": platform.machine(), "python": platform.python_version()}
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        root = Path(directory)
        if args.large:
            found = measure_large(root, args.kinds.split(";"), args.large, model, args.threads)
            sys.stdout.write(json.dumps({**about, **found}, indent=2) + "\n")
            return
        by_shards, image_mb = measure(
            root, args.photos, [(shards, samples), (times * shards, samples)], model
        )
        by_samples, _ = measure(
            root, args.photos, [(1, shards * samples), (1, times * shards * samples)], model
        )
    report = {
        **about,
        "image_mb_per_1000": round(image_mb, 2),
        "by_shards": by_shards,
        "by_samples": by_samples,
    }
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
