"""What extract does with a model: decoding and copying overlap it, batches stay in order, failures are rows."""

from __future__ import annotations

import io
import tarfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from onceseen.core.config import EmbedConfig, FingerprintConfig, PipelineConfig
from onceseen.core.files import read_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.embed import DeviceError, EmbedderSpec, InferenceError
from onceseen.embed.vectors import unit_rows
from onceseen.jobs import extract
from onceseen.jobs.extract import extract_shard
from onceseen.shards import list_shards

BATCH = 4
PICTURES = 23
CONFIG = replace(
    PipelineConfig(),
    embed=EmbedConfig(batch_size=BATCH),
    fingerprint=FingerprintConfig(threads=2, trim_borders=False),
)
SPEC = EmbedderSpec("means", "0" * 64, 3, "none", "none")
_PATIENCE_S = 20


@dataclass
class _Means:
    """Embeds a picture as its mean colour; notes each batch."""

    batches: list[NDArray[Any]] = field(default_factory=list)
    prepared: int = 0
    device: str = "cpu"
    runs_on: str = "cpu in fp32"
    spec: EmbedderSpec = SPEC
    lock: threading.Lock = field(default_factory=threading.Lock)

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self.lock:
            self.prepared += 1
        return rgb.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        with self.lock:
            self.batches.append(batch)
        return unit_rows(batch, None)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """23 pictures of noise around different colours, the sixth and the seventh of the same bytes."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("input") / "00000.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(PICTURES):
            if i != 6:
                colour = rng.integers(40, 200, 3)
                pixels = rng.normal(colour, 20, (24, 24, 3)).clip(0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
            info = tarfile.TarInfo(f"{i:03d}.png")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    return list_shards([str(path)], CONFIG.read)[0]


def _vectors(layout: RunLayout, shard: Shard) -> NDArray[np.float16]:
    table = pq.read_table(layout.features(shard.name))
    return np.stack([np.asarray(v, dtype=np.float16) for v in table.column("embedding").to_pylist()])


def test_batches_run_through_blocks_of_rows_and_only_the_last_is_padded(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = _Means(), _Means()
    extract_shard(shard, CONFIG, RunLayout(str(tmp_path / "whole")), whole, "test")
    monkeypatch.setattr(extract, "BLOCK_ROWS", 5)
    extract_shard(shard, CONFIG, RunLayout(str(tmp_path / "cut")), cut, "test")
    vectors = [_vectors(RunLayout(str(tmp_path / name)), shard) for name in ("whole", "cut")]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    np.testing.assert_array_equal(vectors[0][5], vectors[0][6])  # equal bytes are embedded once
    assert (np.linalg.norm(vectors[0].astype(np.float64), axis=1) > 0.99).all()
    for model in (whole, cut):
        assert [len(b) for b in model.batches] == [BATCH] * 6  # 22 distinct pictures
        rows = sorted(tuple(row) for batch in model.batches for row in batch.tolist())
        assert len(set(rows)) == PICTURES - 1


def test_what_the_model_ran_on_is_in_the_done_mark(shard: Shard, tmp_path: Path) -> None:
    layout = RunLayout(str(tmp_path))
    extract_shard(shard, CONFIG, layout, _Means(runs_on="cuda (NVIDIA L4) in fp16"), "test")
    assert read_json(layout.extract_summary(shard.name))["runs_on"] == "cuda (NVIDIA L4) in fp16"


@dataclass
class _Waiting(_Means):
    """The first batch waits in the model until later pictures are decoded and the next batch is handed over."""

    decoded: threading.Event = field(default_factory=threading.Event)
    handed: threading.Event = field(default_factory=threading.Event)
    seen: dict[str, bool] = field(default_factory=dict)
    calls: int = 0

    def preprocess(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        one = super().preprocess(rgb)
        if self.prepared >= 2 * BATCH:
            self.decoded.set()
        return one

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        with self.lock:
            self.calls += 1
            first = self.calls == 1
        if first:
            self.seen = {name: getattr(self, name).wait(_PATIENCE_S) for name in ("decoded", "handed")}
        else:
            self.handed.set()
        return super().embed(batch)


def test_decoding_and_the_next_batch_go_on_while_the_model_runs(shard: Shard, tmp_path: Path) -> None:
    model = _Waiting()
    summary = extract_shard(shard, CONFIG, RunLayout(str(tmp_path)), model, "test")
    assert model.seen == {"decoded": True, "handed": True}
    assert (summary.read, summary.failed) == (PICTURES, 0)


@dataclass
class _Poisoned(_Means):
    """Has no memory for a picture whose red is the greatest of all, even alone; or raises what it is told to."""

    red: float = 0.0
    error: Exception | None = None

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        if self.error is not None:
            raise self.error
        if (batch[:, 0] == np.float32(self.red)).any():
            raise InferenceError("CUDA out of memory", out_of_memory=True)
        return super().embed(batch)


def test_a_picture_that_never_fits_is_a_row_with_its_reason(shard: Shard, tmp_path: Path) -> None:
    plain = _Means()
    extract_shard(shard, CONFIG, RunLayout(str(tmp_path / "plain")), plain, "test")
    red = max(float(row[0]) for batch in plain.batches for row in batch)
    layout = RunLayout(str(tmp_path / "poisoned"))
    summary = extract_shard(shard, CONFIG, layout, _Poisoned(red=red), "test")
    assert (summary.read, summary.failed_by) == (PICTURES, {"infer_error": 1})
    failures = pq.read_table(layout.shard_failures(shard.name)).to_pylist()
    assert [f["stage"] for f in failures] == ["embed"]
    assert "out of memory" in failures[0]["detail"]


def test_a_broken_device_leaves_no_done_mark(shard: Shard, tmp_path: Path) -> None:
    layout = RunLayout(str(tmp_path))
    with pytest.raises(DeviceError):
        extract_shard(shard, CONFIG, layout, _Poisoned(error=DeviceError("lost")), "test")
    assert not Path(layout.extract_summary(shard.name)).exists()
    assert not Path(layout.features(shard.name)).exists()
