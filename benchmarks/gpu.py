"""Extract with OpenCLIP on the device at hand, against the model alone and against the work before it alone.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/gpu.py [--models ViT-B-32,ViT-L-14] [--device auto] [--repeats R]
        [--images N] [--batch-size B]

`extract` is the real path: a tar of JPEGs through `extract_shard`, features written. `model` runs the same architecture
in the same precision on tensors that lie on the device already. `prepare` is what comes before the model in a plain
pool of as many threads (decode, fingerprint, preprocess), `decode` is decoding alone. All in pictures a second; one
repeat times all four, one after another, and `ratio` is extract over the smaller of model and prepare, paired by
repeat; `ratio_to_decode` takes the smaller of model and decode. Where the model runs on the CPU it shares the cores
with the rest, so that extract cannot come near either; `ratio_shared` is to 1 / (1 / model + 1 / prepare). There the
policy matters: by default OpenMP's threads spin while they wait, but not where several threads call torch, as extract's
do, and on a busy machine the model then runs at half the speed alone.

Pictures are the bundled photographs, each with a comment of its own, since equal bytes are embedded once. Weights are
random unless `--checkpoint ARCHITECTURE=FILE` names some: the speed does not depend on them. Without a GPU it takes a
small number of pictures and says `cpu`. `load_before` is the machine's load of others when it started. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from extract import timed

from onceseen.core.config import EmbedConfig, PipelineConfig
from onceseen.core.cores import available_cores, one_thread_a_call
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.embed import Embedder, load_embedder
from onceseen.embed.torch_device import precision_name
from onceseen.fingerprint import decode_image, fingerprint_image
from onceseen.jobs.extract import extract_shard
from onceseen.shards import list_shards

_IMAGES = {"cuda": 16_384, "cpu": 48}
_BATCH = {"cuda": 256, "cpu": 8}
_LARGE = 4
"""A ViT-L/14 does 18 times the work of a ViT-B/32; it gets a quarter of the pictures."""


def distinct_jpegs(photos: Path, count: int) -> list[bytes]:
    """`count` JPEGs of different bytes: the photographs in turn, a comment segment after each one's first marker."""
    files = [path.read_bytes() for path in sorted(photos.glob("*.jpg"))]
    if not files:
        raise ValueError(f"--photos {photos} holds no .jpg")
    out = []
    for i in range(count):
        data, comment = files[i % len(files)], f"{i:08d}".encode()
        out.append(data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:])
    return out


def write_shard(path: Path, jpegs: list[bytes]) -> Shard:
    """One tar of the pictures."""
    with tarfile.open(path, "w") as tar:
        for i, data in enumerate(jpegs):
            info = tarfile.TarInfo(f"{i:08d}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return list_shards([str(path)], PipelineConfig().read)[0]


def random_checkpoint(architecture: str, directory: Path) -> Path:
    """A checkpoint of seeded random weights."""
    torch.manual_seed(0)
    path = directory / f"{architecture}.pt"
    torch.save(open_clip.create_model(architecture).state_dict(), path)
    return path


def model_alone(config: EmbedConfig, device: str, side: int, batches: int) -> Callable[[], int]:
    """The model on a batch that lies on the device; returns how many pictures a call of it embeds."""
    model = open_clip.create_model(
        config.model.removeprefix("openclip:"), pretrained=config.pretrained, device=device
    ).eval()
    batch = torch.rand(config.batch_size, 3, side, side, device=device)
    precision = precision_name(config, device)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16

    def run() -> int:
        autocast: Any = contextlib.nullcontext()
        if precision != "fp32":
            autocast = torch.autocast(device, dtype=dtype)
        with torch.inference_mode(), autocast:
            for _ in range(batches):
                out = model.encode_image(batch)
        out.float().cpu()  # waits for all of them
        return batches * len(batch)

    return run


def pooled(jpegs: list[bytes], work: Callable[[bytes], object]) -> int:
    """A plain pool of threads over the pictures."""
    with ThreadPoolExecutor(available_cores()) as pool:
        return sum(1 for _ in pool.map(work, jpegs))


def measure(
    architecture: str, config: EmbedConfig, jpegs: list[bytes], repeats: int, root: Path
) -> dict[str, Any]:
    """All four, in turn, `repeats` times."""
    pipeline = replace(PipelineConfig(), embed=config)
    embedder = load_embedder(config)
    if embedder is None:
        raise ValueError(f"no model for {architecture}")
    shard = write_shard(root / f"{architecture}.tar", jpegs)
    layout = RunLayout(str(root / architecture))
    side = embedder.preprocess(np.zeros((8, 8, 3), dtype=np.uint8)).shape[-1]
    batches = max(2, len(jpegs) // config.batch_size)
    alone = model_alone(config, embedder.device, side, batches)

    def decode(data: bytes) -> object:
        return decode_image(data, pipeline.read.max_pixels)

    def prepare(data: bytes) -> object:
        return _prepare(data, pipeline, embedder)

    def extract() -> int:
        return extract_shard(shard, pipeline, layout, embedder, "benchmark").read

    model_alone(config, embedder.device, side, 1)()
    embedder.embed(np.zeros((config.batch_size, 3, side, side), np.float32) + 0.5)
    rates: dict[str, list[float]] = {"model": [], "decode": [], "prepare": [], "extract": []}
    for _ in range(repeats):
        for name, work in (
            ("model", alone),
            ("decode", lambda: pooled(jpegs, decode)),
            ("prepare", lambda: pooled(jpegs, prepare)),
            ("extract", extract),
        ):
            seconds, done = timed(work)
            rates[name].append(done / seconds)
    regions = json.loads(Path(layout.extract_summary(shard.name)).read_text())["regions"]
    rates["model"] = [rate * len(jpegs) / regions for rate in rates["model"]]  # views are embedded as well
    return {
        "model": architecture,
        "runs_on": embedder.runs_on,
        "batch_size": config.batch_size,
        "images": len(jpegs),
        "regions": regions,
        **_ratios(rates),
        "images_per_s": {name: round(statistics.median(found), 2) for name, found in rates.items()},
    }


def _prepare(data: bytes, config: PipelineConfig, embedder: Embedder) -> object:
    picture = decode_image(data, config.read.max_pixels)
    fingerprint_image(data, picture, config.fingerprint)
    return embedder.preprocess(picture.rgb)


def _ratios(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Median, least and greatest of the paired ratios."""
    paired = list(zip(rates["extract"], rates["model"], rates["prepare"], rates["decode"], strict=True))
    found = {
        "ratio": [e / min(m, p) for e, m, p, _ in paired],
        "ratio_to_decode": [e / min(m, d) for e, m, _, d in paired],
        "ratio_shared": [e * (1 / m + 1 / p) for e, m, p, _ in paired],
    }
    out: dict[str, Any] = {}
    for name, values in found.items():
        out[name] = round(statistics.median(values), 3)
        out[f"{name}_min_max"] = [round(min(values), 3), round(max(values), 3)]
    return out


def main() -> None:
    """Measures each model and prints JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="ViT-B-32,ViT-L-14")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="ARCHITECTURE=FILE")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=0, help="pictures; 0: 16384 on a GPU, 48 without, fewer for L"
    )
    parser.add_argument("--batch-size", type=int, default=0, help="0: 256 on a GPU, 8 without")
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    args = parser.parse_args()
    one_thread_a_call()
    load = os.getloadavg()[0]
    device = "cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu"
    given = dict(entry.split("=", 1) for entry in args.checkpoint)
    rows = []
    for architecture in args.models.split(","):
        count = args.images or _IMAGES[device] // (_LARGE if "-L-" in architecture else 1)
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            config = EmbedConfig(
                model=f"openclip:{architecture}",
                pretrained=given.get(architecture) or str(random_checkpoint(architecture, root)),
                device=args.device,
                precision=args.precision,
                batch_size=args.batch_size or _BATCH[device],
            )
            rows.append(measure(architecture, config, distinct_jpegs(args.photos, count), args.repeats, root))
    result = {
        "benchmark": "gpu",
        "device": device,
        "models": rows,
        "weights": {row["model"]: given.get(row["model"], "random") for row in rows},
        "repeats": args.repeats,
        "threads": available_cores(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "load_before": round(load, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
