"""Extract with hashing only against the same functions in a plain loop over the same tars, in one run.

    python benchmarks/extract.py [--photos examples/photos] [--shards S] [--repeats R] [--model]

The plain loop reads each tar with Python's `tarfile`, decodes and fingerprints each distinct image once, hashes
captions, and keeps nothing; `extract_shard` does the same and also writes features, thumbs, failures and done marks.
Both use the same number of threads (a plain thread pool's `map` in the loop). Prints JSON; `ratio` is extract's time
over the loop's, paired by repeat. `one_thread_over_all_threads` is the time with one decoding thread over the time with
all; beside it `machine_one_over_all` is what the machine could give at that time, by hashing that holds no lock: under
the number of cores where others use them. Repeats in which it was less than 85 % of the cores are left out of both
where others remain (`quiet_repeats`). Memory is measured by `benchmarks/memory.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from onceseen.core.config import EmbedConfig, FingerprintConfig, PipelineConfig
from onceseen.core.cores import available_cores, one_thread_a_call
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.embed import load_embedder
from onceseen.fingerprint import caption_minhash, decode_image, fingerprint_image
from onceseen.jobs.extract import extract_shard
from onceseen.planted.demo import build_demo
from onceseen.planted.plan import DemoConfig
from onceseen.shards import list_shards

_QUIET = 0.85


def plain_loop(shards: list[Shard], config: PipelineConfig) -> int:
    """The same functions over the same tars, without Onceseen's reader and tables."""
    threads = config.fingerprint.threads or available_cores()
    done = 0

    def judge(item: tuple[bytes, bytes]) -> None:
        sha256, data = item
        fingerprint_image(data, decode_image(data, config.read.max_pixels), config.fingerprint, sha256)

    with ThreadPoolExecutor(threads) as pool:
        for shard in shards:
            images: dict[bytes, bytes] = {}
            captions = []
            with tarfile.open(shard.path) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    if stream is None:
                        continue
                    if member.name.endswith(".txt"):
                        captions.append(stream.read().decode())
                    elif not member.name.endswith(".json"):
                        data = stream.read()
                        images[hashlib.sha256(data).digest()] = data
                        done += 1
            for _ in pool.map(judge, images.items()):
                pass
            for caption in captions:
                caption_minhash(caption, config.fingerprint.minhash_permutations)
    return done


def extract_all(shards: list[Shard], config: PipelineConfig, directory: Path) -> int:
    """Extract, shard by shard, without a runner."""
    layout = RunLayout(str(directory))
    embedder = load_embedder(config.embed)
    return sum(extract_shard(s, config, layout, embedder, "benchmark").read for s in shards)


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Seconds and what the work returned."""
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def machine_speed_up(threads: int) -> float:
    """How much faster all threads hash than one, now: 20 MB, a call releases the interpreter lock once for each MB."""
    block = bytes(1 << 20)

    def hash_blocks(count: int) -> int:
        return sum(len(hashlib.blake2b(block).digest()) for _ in range(count))

    one, _ = timed(lambda: hash_blocks(10 * threads))
    with ThreadPoolExecutor(threads) as pool:
        every, _ = timed(lambda: sum(pool.map(hash_blocks, [10] * threads)))
    return one / every


def main() -> None:
    """Runs the comparison and prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", action="store_true", help="embed as well, with the bundled model")
    args = parser.parse_args()
    one_thread_a_call()
    threads = available_cores()
    model = "efficientnet-lite0" if args.model else "none"
    config = replace(PipelineConfig(), embed=EmbedConfig(model=model))
    single = replace(config, fingerprint=FingerprintConfig(threads=1))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        build_demo(args.photos, root, DemoConfig(num_shards=args.shards, broken=False))
        shards = list_shards([str(root / "shards")], config.read)
        extract_all(shards[:1], config, root / "warm")
        loop, ours, alone, could = [], [], [], []
        for repeat in range(args.repeats):
            seconds, images = timed(lambda: plain_loop(shards, config))
            loop.append(seconds)
            target = root / f"run{repeat}"
            before = machine_speed_up(threads)
            ours.append(timed(lambda at=target: extract_all(shards, config, at))[0])  # type: ignore[misc]
            between = machine_speed_up(threads)
            alone.append(timed(lambda at=target: extract_all(shards, single, at))[0])  # type: ignore[misc]
            could.append(min(before, between, machine_speed_up(threads)))
    ratios = [o / p for o, p in zip(ours, loop, strict=True)]
    quiet = [i for i, speed_up in enumerate(could) if speed_up >= _QUIET * threads] or range(args.repeats)
    result = {
        "benchmark": "extract",
        "model": model,
        "images": images,
        "repeats": args.repeats,
        "threads": threads,
        "ratio": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "plain_images_per_s": round(images / statistics.median(loop), 1),
        "extract_images_per_s": round(images / statistics.median(ours), 1),
        "one_thread_over_all_threads": round(statistics.median(alone[i] / ours[i] for i in quiet), 2),
        "machine_one_over_all": round(statistics.median(could[i] for i in quiet), 2),
        "quiet_repeats": sum(speed_up >= _QUIET * threads for speed_up in could),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
