"""A small run made of features alone: planted vectors, hashes and thumbs, no pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.core.config import BandsConfig, CellsConfig, PipelineConfig
from onceseen.core.features import Embeddings, feature_writer
from onceseen.core.files import write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.state import RunState

SHARDS, ROWS, DIMENSIONS = 3, 40, 16


@dataclass(frozen=True)
class FeatureRun:
    """A run whose extract job is done.

    Planted: row r of every shard has the same pixels for r < 5 (bytes too, but in shard 2); rows 5..14 are near
    (vectors and PDQ) across shards; row 39 failed; row 38 is blank, with the same vector as row 37.
    """

    layout: RunLayout
    shards: tuple[Shard, ...]
    config: PipelineConfig


@pytest.fixture
def feature_run(tmp_path: Path) -> FeatureRun:
    layout = RunLayout(str(tmp_path / "run"))
    shards = tuple(Shard(n, f"{n:05d}", ShardKind.TAR, f"{n:05d}.tar", 1, "m") for n in range(SHARDS))
    config = PipelineConfig(
        bands=BandsConfig(bands=8, bits=16),
        cells=CellsConfig(cell_size=16, max_cell=64, min_cosine=0.8, recall_samples=30),
    )
    state = RunState.start(layout, shards, config, None)
    state.mark("extract", "done", "x")
    rng = np.random.default_rng(11)
    base = rng.standard_normal((ROWS, DIMENSIONS))
    bits = rng.integers(0, 256, (ROWS, 32), dtype=np.uint8)
    for shard in shards:
        _write_shard(layout, shard, base, bits)
    return FeatureRun(layout, shards, config)


def _write_shard(layout: RunLayout, shard: Shard, base: NDArray[np.float64], bits: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(shard.number)
    vectors = rng.standard_normal((ROWS, DIMENSIONS))
    vectors[:15] = base[:15] + 0.05 * rng.standard_normal((15, DIMENSIONS)) * (np.arange(15) >= 5)[:, None]
    vectors[38] = vectors[37]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    signatures = rng.integers(0, 256, (ROWS, 32), dtype=np.uint8)
    signatures[:15] = bits[:15]
    signatures[5:15, shard.number] ^= 1
    rows = []
    for r in range(ROWS):
        exact = r < 5
        sha = f"{r}-{'odd' if exact and shard.number == 2 else ('same' if exact else shard.number)}"
        rows.append(
            {
                "sample_id": f"{shard.name}/{r:04d}",
                "shard": shard.name,
                "key": f"{r:04d}",
                "row": r,
                "status": "decode_error" if r == 39 else "ok",
                "width": 100,
                "height": 80,
                "num_bytes": 4_000 + r,
                "sha256": sha.encode().ljust(32, b"."),
                "pixel_hash": (f"{r}" if exact else f"{shard.number}-{r}").encode().ljust(16, b"."),
                "pdq": signatures[r].tobytes(),
                "pdq_mirrored": (~signatures[r]).tobytes(),
                "pdq_quality": 80,
                "sharpness": 100.0,
                "blank": r == 38,
                "views": [],
            }
        )
    thumb = {"thumb": bytes(4096), "trimmed": b""}
    with feature_writer(layout, shard, DIMENSIONS, None) as writer:
        none = np.empty((0, DIMENSIONS), dtype=np.float16)
        writer.write(rows, Embeddings(vectors.astype(np.float16), [none] * ROWS), [thumb] * ROWS)
    write_json(layout.extract_summary(shard.name), {"regions": ROWS - 1})
