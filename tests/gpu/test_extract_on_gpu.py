"""The whole of extract, with the model on a GPU: near the CPU's features, nothing failed, the device recorded."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gpu.conftest import DEVICE
from onceseen.core.config import EmbedConfig, PipelineConfig
from onceseen.core.files import read_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.embed import load_embedder
from onceseen.jobs.extract import extract_shard
from onceseen.shards import list_shards

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
COUNT = 21


def _shard(directory: Path) -> Shard:
    path = directory / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for i, photo in enumerate(sorted(PHOTOS.glob("*.jpg"))[:COUNT]):
            info = tarfile.TarInfo(f"{i:03d}.jpg")
            data = photo.read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return list_shards([str(path)], PipelineConfig().read)[0]


def _vectors(shard: Shard, directory: Path, config: EmbedConfig) -> NDArray[np.float64]:
    layout = RunLayout(str(directory))
    embedder = load_embedder(config)
    summary = extract_shard(shard, replace(PipelineConfig(), embed=config), layout, embedder, "test")
    assert (summary.read, summary.failed) == (COUNT, 0)
    runs_on = read_json(layout.extract_summary(shard.name))["runs_on"]
    assert runs_on.startswith(config.device)
    table = pq.read_table(layout.features(shard.name))
    return np.stack([np.asarray(v, dtype=np.float64) for v in table.column("embedding").to_pylist()])


def test_features_are_near_the_cpus(clip: dict[str, str], tmp_path: Path) -> None:
    shard = _shard(tmp_path)
    found = {
        device: _vectors(shard, tmp_path / device, EmbedConfig(device=device, batch_size=4, **clip))
        for device in ("cpu", DEVICE)
    }
    np.testing.assert_allclose(np.linalg.norm(found[DEVICE], axis=1), 1, atol=2e-3)
    assert (found["cpu"] * found[DEVICE]).sum(axis=1).min() > 0.998  # fp16 on the GPU, float16 in the file
