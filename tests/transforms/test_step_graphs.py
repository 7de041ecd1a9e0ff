"""Steps over shards: which shards they get, and that each waits for the one before."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from onceseen.core.config import PipelineConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs.graphs import list_shards, number_ranges, over_shards
from onceseen.jobs.state import RunState


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    layout = RunLayout(str(tmp_path / "run"))
    state = RunState.start(layout, _shards(), PipelineConfig(), None)
    state.mark("extract", "running", "")
    return layout


def _shards(count: int = 12) -> list[Shard]:
    return [
        Shard(n, f"{n:05d}", ShardKind.FOLDER, f"in/{n:05d}", 1, "1", files=("a.jpg",)) for n in range(count)
    ]


def test_ranges_are_ascending_and_whole() -> None:
    assert number_ranges([]) == ()
    assert number_ranges([5, 1, 2, 3, 9, 8]) == ((1, 4), (5, 6), (8, 10))


def test_listed_are_the_shards_asked_for(layout: RunLayout) -> None:
    found = list(list_shards(((2, 4), (7, 8)), layout, False))
    assert [s.number for s in found] == [2, 3, 7]
    assert found == [_shards()[n] for n in (2, 3, 7)]
    assert all(s.files == () for s in list_shards(((2, 4),), layout, True))


class _Write(beam.DoFn):
    """Writes a file a shard, after having seen that those of the step before are all there."""

    def __init__(self, directory: str, earlier: str, count: int) -> None:
        self._directory, self._earlier, self._count = Path(directory), Path(earlier), count

    def process(self, shard: Shard) -> None:
        found = len(list(self._earlier.glob("*")))
        if found != self._count:
            raise RuntimeError(f"{found} of {self._count} files of the step before are there")
        self._directory.mkdir(exist_ok=True)
        (self._directory / shard.name).touch()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_step_waits_for_the_one_before(layout: RunLayout, tmp_path: Path, workers: int) -> None:
    chosen = [s for s in _shards() if s.number != 4]
    steps = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        write = _Write(str(tmp_path / str(number + 1)), str(tmp_path / str(number)), number and len(chosen))
        steps.append(f"step {number}" >> _SpreadAndWrite(write))
    options = PipelineOptions(
        [f"--direct_num_workers={workers}", "--direct_running_mode=multi_threading"]
        if workers > 1
        else ["--direct_running_mode=in_memory"]
    )
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    over_shards(layout, chosen, steps)(pipeline)
    pipeline.run().wait_until_finish()
    assert {p.name for p in (tmp_path / "3").glob("*")} == {s.name for s in chosen}


class _SpreadAndWrite(beam.PTransform):
    def __init__(self, write: _Write) -> None:
        super().__init__()
        self._write = write

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        return shards | "Spread" >> beam.Reshuffle() | "Write" >> beam.ParDo(self._write)


def test_a_graph_is_no_larger_for_more_shards(layout: RunLayout) -> None:
    def size(count: int) -> int:
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
        over_shards(layout, _shards(count), ["step" >> beam.Map(len)])(pipeline)
        return len(pipeline.to_runner_api().SerializeToString())

    assert size(100_000) - size(10) < 100
