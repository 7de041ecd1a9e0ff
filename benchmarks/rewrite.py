"""Rewriting and reading shards against plain file reads and writes of the same bytes, in one run.

    python benchmarks/rewrite.py [--samples N] [--kilobytes K] [--repeats R] [--directory DIR]

Makes a WebDataset tar of N samples (an image member of K kilobytes on average, log-normal as LAION's are, a
caption and a json), then times, in turn and R times over, with fsync and the page cache warm:

- `plain_copy`: read and write of the whole tar in blocks of 4 MiB;
- `rewrite_all`: `rewrite_shard` with every sample kept and `.onceseen.json` members added;
- `plain_copy_kept`: read of the whole tar and write of as many bytes as `rewrite_70` writes;
- `rewrite_70`: `rewrite_shard` with 30% of the samples dropped;
- `plain_read`: read of the whole tar in blocks of 4 MiB;
- `read_shard`: all samples read, json parsed.

Prints one JSON object; the ratios compare medians: 1 is as fast as the plain loop, more is faster.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.records import ImageSample, Shard
from onceseen.shards import VerdictRow, list_shards, read_shard, rewrite_shard

BLOCK = 1 << 22
SEED = 20_230_130
DROPPED_SHARE = 0.3


def make_tar(path: Path, samples: int, kilobytes: float, seed: int) -> None:
    """Writes the input: random bytes stand for pictures, since nothing decodes them here."""
    rng = np.random.default_rng(seed)
    sigma = 0.6
    sizes = rng.lognormal(np.log(kilobytes * 1024) - sigma**2 / 2, sigma, samples).astype(int)
    with tarfile.open(path, "w") as tar:
        for i, size in enumerate(sizes):
            key = f"{i:09d}"
            caption = f"a picture with number {i} of a benchmark"
            fields = {"caption": caption, "key": key, "url": f"https://example.org/{key}.jpg", "width": 256}
            _add(tar, f"{key}.jpg", rng.bytes(int(size)))
            _add(tar, f"{key}.json", json.dumps(fields, indent=4).encode())
            _add(tar, f"{key}.txt", caption.encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def plain_copy(source: str, target: str, limit: int) -> None:
    """Reads all of a file and writes the first `limit` bytes of it, with fsync."""
    left = limit
    with open(source, "rb") as stream, open(target, "wb") as output:
        while block := stream.read(BLOCK):
            output.write(block if len(block) <= left else block[:left])
            left = max(0, left - len(block))
        output.flush()
        os.fsync(output.fileno())


def plain_read(source: str) -> None:
    """Reads all of a file."""
    with open(source, "rb") as stream:
        while stream.read(BLOCK):
            pass


def verdicts_of(shard: Shard, dropped_share: float, seed: int) -> dict[str, VerdictRow]:
    """Verdicts with a random share of drops."""
    rng = np.random.default_rng(seed)
    verdicts = {}
    for sample in read_shard(shard, ReadConfig()):
        if isinstance(sample, ImageSample):
            verdict = "drop" if rng.random() < dropped_share else "keep"
            verdicts[sample.key] = VerdictRow(
                sample.sample_id, verdict, sample.sample_id, 1, sample.sample_id, 1, 1.0, "", 0.0
            )
    return verdicts


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run(directory: Path, samples: int, kilobytes: float, repeats: int) -> dict[str, object]:
    """Times everything and returns the report."""
    source = directory / "input" / "00000.tar"
    source.parent.mkdir(parents=True)
    make_tar(source, samples, kilobytes, SEED)
    shard = list_shards([str(source)], ReadConfig())[0]
    verdicts = {share: verdicts_of(shard, share, SEED) for share in (0.0, DROPPED_SHARE)}

    def rewrite(share: float) -> int:
        output = str(directory / "output")
        return rewrite_shard(shard, verdicts[share], output, ReadConfig(), WriteConfig()).bytes_written

    written = {share: rewrite(share) for share in verdicts}
    target = str(directory / "plain.bin")
    works: dict[str, Callable[[], object]] = {
        "plain_copy": lambda: plain_copy(str(source), target, shard.size),
        "rewrite_all": lambda: rewrite(0.0),
        "plain_copy_kept": lambda: plain_copy(str(source), target, written[DROPPED_SHARE]),
        "rewrite_70": lambda: rewrite(DROPPED_SHARE),
        "plain_read": lambda: plain_read(str(source)),
        "read_shard": lambda: sum(1 for _ in read_shard(shard, ReadConfig())),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            seconds[name].append(timed(work))
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "benchmark": "rewrite",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "seed": SEED,
        "samples": samples,
        "input_bytes": shard.size,
        "written_bytes": {"rewrite_all": written[0.0], "rewrite_70": written[DROPPED_SHARE]},
        "repeats": repeats,
        "seconds": {
            name: {"median": round(median[name], 4), "min": round(min(v), 4), "max": round(max(v), 4)}
            for name, v in seconds.items()
        },
        "ratios": {
            "rewrite_all_to_plain": round(median["plain_copy"] / median["rewrite_all"], 3),
            "rewrite_70_to_plain": round(median["plain_copy_kept"] / median["rewrite_70"], 3),
            "read_to_plain": round(median["plain_read"] / median["read_shard"], 3),
        },
        "read_megabytes_per_second": round(shard.size / median["read_shard"] / 1e6, 1),
        "read_samples_per_second": round(samples / median["read_shard"], 1),
    }


def main() -> None:
    """Parses the arguments, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--kilobytes", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--directory", default=None, help="where the files are made; default: the system's own"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        report = run(Path(directory), arguments.samples, arguments.kilobytes, arguments.repeats)
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
