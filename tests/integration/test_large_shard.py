"""A shard passes through a worker and is not held there: memory against the bytes of a shard, in fresh processes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from onceseen.core.config import PipelineConfig
from onceseen.core.layout import RunLayout
from onceseen.shards import list_shards

TAR_GROWTH = {"extract": 160, "rewrite": 60}
"""MB: images read ahead (64), pictures in decoding and the jobs' own (measured: 119); a window over the shard (17)."""

PARQUET_GROWTH = {"extract": 200, "rewrite": 220}
"""MB: as above and batches of 8 MB in the making (measured: 150); a row group of 60 MB as it was read (160)."""


@pytest.fixture(scope="module")
def memory() -> Iterator[ModuleType]:
    """benchmarks/memory.py, which measures the same at 2 GB."""
    if not sys.platform.startswith("linux"):
        pytest.skip("peaks of resident memory are read from /proc: this needs Linux")
    path = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("memory_benchmark", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("megabytes", "height", "beside", "parquet"),
    [(150, 900, 0, False), (110, 240, 55_000_000, False), (120, 900, 0, True)],
    ids=["pictures", "other members", "parquet"],
)
def test_a_shard_is_not_held(
    memory: ModuleType, tmp_path: Path, megabytes: int, height: int, beside: int, parquet: bool
) -> None:
    kind = memory.Kind(height, height * 4 // 3, ".png", beside, parquet, page_rows=4)
    source, run = tmp_path / "input", tmp_path / "run"
    memory.make_large_shard(kind, source, megabytes)
    (shard,) = list_shards([str(source)], PipelineConfig().read)
    assert shard.size > megabytes * 1e6
    growth = PARQUET_GROWTH if parquet else TAR_GROWTH
    extracted = memory.run_alone("extract", source, run, "none", threads=4)
    assert extracted["peak_mb"] - extracted["before_mb"] < growth["extract"]
    memory.write_verdicts(RunLayout(str(run)), shard)
    rewritten = memory.run_alone("rewrite", source, run, "none", threads=4)
    assert rewritten["peak_mb"] - rewritten["before_mb"] < growth["rewrite"]
    (output,) = (run / "shards").glob(f"00000.{'parquet' if parquet else 'tar'}")
    assert output.stat().st_size > 0.5 * shard.size
    output.unlink()
    Path(shard.path).unlink()
