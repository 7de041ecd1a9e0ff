"""Rules that every graph keeps, on the graphs of real runs: all that a job starts, as the runner gets it.

A run over two small shards is watched where pipelines reach the runner, so no graph is forgotten; the first test makes
sure that every transform of the jobs was in one. What crosses a border between stages is looked at while it does.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import pkgutil
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.internal import pickler
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import onceseen.jobs
from onceseen.core.config import CellsConfig, PipelineConfig, RunnerConfig
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import NAMESPACE
from onceseen.core.records import Shard, ShardKind
from onceseen.jobs import shuffles
from onceseen.jobs.append import append_config
from onceseen.jobs.audit.run import AuditRequest, audit_config, run_audit
from onceseen.jobs.checks import check_workers
from onceseen.jobs.dedup import DedupRequest, run_dedup
from onceseen.jobs.match import verification
from onceseen.jobs.reference_run import ReferenceRun, open_reference, scan_config
from onceseen.jobs.runner import Runner
from onceseen.jobs.scan.run import ScanRequest, run_scan
from onceseen.jobs.shuffles import ELEMENT_LIMIT, SIZES, Gather, MeasureFn, Merge, Spread
from onceseen.shards import list_shards

pytestmark = pytest.mark.timeout(
    180
)  # the first test waits for all jobs, on a busy machine for most of a minute
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
MAX_PICKLE = 100_000
SIDE = 320

SMALL_SIDE_INPUTS = {"MeasureRecall/AddUp": "one list of eight numbers: the default of an empty recall"}
"""Side inputs that there may be, with their bound; all far under the 50 MB that none may exceed."""

SMALL_GROUPINGS = {
    "_NextTurn": "nothing but (0, ()) and the ranges of shard numbers",
    "LabelComponents": "(0, shard number), one a shard",
    "MeasureRecall": "eight numbers a shard",
    "ClusterDuplicates": "a shard description each, and what is measured as match/verdicts",
    "WriteFindings": "a shard description each, and what is measured as scan/asked and scan/answers",
    "WritePairs": "a shard description each, and what is measured as match/ballots and match/votes",
}
"""Transforms that group beside `Gather`, `Spread` and `Merge`, and what crosses there."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """One pipeline as the runner got it, and what its run measured."""

    name: str
    proto: beam_runner_api_pb2.Pipeline
    nodes: list[AppliedPTransform]
    sizes: dict[str, int]

    def par_dos(self) -> Iterator[tuple[str, beam_runner_api_pb2.ParDoPayload]]:
        """Every ParDo, with its full label."""
        for transform in self.proto.components.transforms.values():
            if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
                payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
                yield transform.unique_name, payload


@dataclasses.dataclass
class Watched:
    """All graphs of a run, and what crossed."""

    pictures: list[bytes]
    run: Path
    graphs: list[Graph]
    crossed: dict[str, list[Any]]


class _Collector(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[AppliedPTransform] = []

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node)

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node)


def _pictures() -> list[bytes]:
    """Twelve photographs, each with a smaller and coarser copy; and one of them twice, byte for byte."""
    out = []
    for path in sorted(PHOTOS.glob("*.jpg"))[::13][:12]:
        image = cv2.imread(str(path))
        image = cv2.resize(image, None, fx=SIDE / max(image.shape[:2]), fy=SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        for pixels, quality in ((image, 92), (small, 70)):
            out.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return [*out, out[0]]


def _write_tars(directory: Path, pictures: list[bytes]) -> Path:
    directory.mkdir()
    for number, part in enumerate((pictures[::2], pictures[1::2])):
        with tarfile.open(directory / f"{number:05d}.tar", "w") as tar:
            for row, data in enumerate(part):
                info = tarfile.TarInfo(f"{row:04d}.jpg")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return directory


def _config() -> PipelineConfig:
    return PipelineConfig(cells=CellsConfig(passes=2, recall_samples=8))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    root = tmp_path_factory.mktemp("watched")
    pictures = _pictures()
    source = _write_tars(root / "input", pictures)
    graphs: list[Graph] = []
    crossed: dict[str, list[Any]] = defaultdict(list)
    run_pipeline, process = FnApiRunner.run_pipeline, MeasureFn.process

    def watch(self: FnApiRunner, pipeline: beam.Pipeline, options: Any) -> Any:
        direct = options.view_as(DirectOptions)  # worker processes would not be seen into
        direct.direct_num_workers, direct.direct_running_mode = 1, "in_memory"
        collector = _Collector()
        pipeline.visit(collector)
        proto = pipeline.to_runner_api()
        result = run_pipeline(self, pipeline, options)
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["distributions"]
        sizes = {d.key.metric.name: d.committed.max for d in found if d.key.metric.name.startswith(SIZES)}
        name = options.view_as(GoogleCloudOptions).job_name
        graphs.append(Graph(name, proto, collector.found, sizes))
        return result

    def look(self: MeasureFn, element: Any) -> Iterator[Any]:
        crossed[self._name].append(element)
        yield from process(self, element)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FnApiRunner, "run_pipeline", watch)
        patch.setattr(MeasureFn, "process", look)
        done = run_dedup(DedupRequest((str(source),), str(root / "run"), _config(), quiet=True))
        _against_it(root, pictures)
        shards = list_shards([str(source)], _config().read)
        check_workers(RunLayout(str(root / "run")), shards, Runner(RunnerConfig(workers=2)))
    assert done.summary["dropped"] >= 12
    return Watched(pictures, root / "run", graphs, crossed)


def _against_it(root: Path, pictures: list[bytes]) -> None:
    """What is done against the finished run: a scan by either policy, a crawl that is appended, and an audit."""
    reference = open_reference(str(root / "run"))
    some = _write_tars(root / "queries", pictures[:6])
    for policy in ("flag", "decontaminate"):
        config = scan_config(reference, None, ["cells.passes=2"], policy)
        request = ScanRequest((str(some),), reference, str(root / policy), config, apply=True, quiet=True)
        assert run_scan(request).summary["duplicate"] == 6
    appended = DedupRequest(
        (str(some),),
        str(root / "appended"),
        append_config(reference, None, []),
        quiet=True,
        append_to=reference,
        prefix="new",
    )
    assert run_dedup(appended).summary["dropped"] >= 18
    _audit_it(root, reference, pictures)


def _audit_it(root: Path, reference: ReferenceRun, pictures: list[bytes]) -> None:
    """An audit of a model that gives the run's first picture back for one prompt."""
    generated = _write_tars(root / "generated", [pictures[0]] * 4 + pictures[2:8:2])
    ids = [f"{shard:05d}/{row:04d}" for row in range(4) for shard in (0, 1)][:7]
    prompts = ["one picture"] * 4 + ["another each time"] * 3
    rows = [f"{name},{prompt},\n" for name, prompt in zip(ids, prompts, strict=True)]
    (root / "prompts.csv").write_text("file,prompt,seed\n" + "".join(rows))
    config = audit_config(reference, None, ["audit.min_clique=3", "audit.train_samples=8"])
    request = AuditRequest(
        (str(generated),),
        reference,
        str(root / "audit"),
        config,
        table=str(root / "prompts.csv"),
        quiet=True,
    )
    assert run_audit(request).summary["memorised"] == 1


def _own_transforms() -> set[type]:
    """Classes of transforms in onceseen.jobs."""
    for module in pkgutil.walk_packages(onceseen.jobs.__path__, "onceseen.jobs."):
        importlib.import_module(module.name)

    def below(cls: type) -> Iterator[type]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    return {c for c in below(beam.PTransform) if c.__module__.startswith("onceseen.jobs.")}


def _is_own(node: AppliedPTransform) -> bool:
    return node.transform is None or type(node.transform).__module__.startswith("onceseen.")


def test_every_transform_of_the_jobs_was_in_a_graph(watched: Watched) -> None:
    seen = {type(node.transform) for graph in watched.graphs for node in graph.nodes}
    assert len(_own_transforms()) > 10
    assert _own_transforms() <= seen
    names = {graph.name.removeprefix("onceseen-") for graph in watched.graphs}
    assert {"extract", "rewrite", "check", "match-exact-classes", "match-verify", "match-clusters"} <= names


def test_no_state_no_timers_no_dynamic_splits(watched: Watched) -> None:
    for graph in watched.graphs:
        urns = {t.spec.urn for t in graph.proto.components.transforms.values()}
        assert not [urn for urn in urns if "group_into_batches" in urn or "sdf" in urn], graph.name
        for label, payload in graph.par_dos():
            assert not payload.state_specs, label
            assert not payload.timer_family_specs, label
            assert not payload.restriction_coder_id, label
            assert not payload.requires_time_sorted_input, label


def test_side_inputs_are_small_ones_that_are_listed(watched: Watched) -> None:
    found = {
        label for graph in watched.graphs for label, payload in graph.par_dos() if len(payload.side_inputs)
    }
    listed = {label for label in found if any(label.startswith(name) for name in SMALL_SIDE_INPUTS)}
    assert found == listed
    assert {name for name in SMALL_SIDE_INPUTS if not any(f.startswith(name) for f in found)} == set()


def test_no_resource_hints(watched: Watched) -> None:
    for graph in watched.graphs:
        assert not [e for e in graph.proto.components.environments.values() if e.resource_hints], graph.name


def test_labels_do_not_change_with_the_code(watched: Watched) -> None:
    """Beam makes up a label such as `Map(f)` or `FlatMap(<lambda at x.py:7>)` where there is none."""
    labels = [
        node.full_label
        for graph in watched.graphs
        for node in graph.nodes
        if node.parent is not None and _is_own(node.parent)
    ]
    assert len(labels) > 100
    assert not [label for label in labels if set("(<") & set(label.rpartition("/")[2])]


def test_functions_pickle_small(watched: Watched) -> None:
    sizes = {label: len(p.do_fn.payload) for graph in watched.graphs for label, p in graph.par_dos()}
    assert len(sizes) > 60
    assert {label: size for label, size in sizes.items() if size >= MAX_PICKLE} == {}


def test_groupings_are_measured_or_small(watched: Watched) -> None:
    for graph in watched.graphs:
        for node in graph.nodes:
            if not isinstance(node.transform, beam.GroupByKey | beam.Reshuffle | beam.CoGroupByKey):
                continue
            owner = node.parent
            while not _is_own(owner):
                owner = owner.parent
            if owner.transform is None:  # Create spreads what it holds: one element
                assert graph.name.endswith("check"), node.full_label
            else:
                kind = type(owner.transform)
                assert kind in (Gather, Spread, Merge) or kind.__name__ in SMALL_GROUPINGS, node.full_label


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def test_only_plain_values_cross(watched: Watched) -> None:
    """No arrays and no NumPy numbers, which older Beams encoded all to one key; keys are text and whole numbers."""
    assert len(watched.crossed) > 10
    for name, elements in watched.crossed.items():
        assert elements, name
        kinds = {type(leaf) for element in elements for leaf in _leaves(element)}
        assert kinds <= {int, str, bytes, bool, float, type(None), Shard}, name
        if not name.endswith("/shards"):
            keys = {type(leaf) for key, _ in elements for leaf in _leaves(key)}
            assert keys <= {int, str}, name


def test_no_pixels_cross(watched: Watched) -> None:
    """Neither a picture's file nor anything of the size of its pixels; thumbs of 64 x 64 do, in dossiers."""
    stretches = [data[at : at + 32] for data in watched.pictures for at in (2_000, len(data) // 2)]
    for name, elements in watched.crossed.items():
        blocks = [leaf for element in elements for leaf in _leaves(element) if isinstance(leaf, bytes)]
        joined = b"\0".join(blocks)
        assert not [s for s in stretches if s in joined], name
        each = len(joined) / len(watched.pictures)
        assert each < SIDE * SIDE, f"{name}: {each:.0f} bytes a picture"


def test_sizes_of_elements_are_measured_and_small(watched: Watched) -> None:
    sizes: dict[str, int] = defaultdict(int)
    for graph in watched.graphs:
        for name, largest in graph.sizes.items():
            border = name.removeprefix(SIZES)
            sizes[border] = max(sizes[border], largest)
    assert set(sizes) == set(watched.crossed)
    for name, largest in sizes.items():
        longest = max(
            sum(len(leaf) for leaf in _leaves(e) if isinstance(leaf, bytes)) for e in watched.crossed[name]
        )
        assert longest <= largest < min(ELEMENT_LIMIT, 500_000), name
    assert sizes["extract/shards"] < 1_000


def _tables(run: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [
            row for path in sorted((run / name).rglob("*.parquet")) for row in pq.read_table(path).to_pylist()
        ]
        for name in ("verdicts", "pairs")
    }


def test_results_do_not_depend_on_how_blocks_are_cut(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffles, "BLOCK_BYTES", 100)
    for name, rows in (("PART_ROWS", 4), ("DOSSIER_ROWS", 2), ("_SEND_ROWS", 8), ("_REREAD_PAIRS", 3)):
        monkeypatch.setattr(verification, name, rows)
    again = DedupRequest(
        (str(watched.run.parent / "input"),),
        str(tmp_path / "run"),
        _config(),
        dry_run=True,
        features=str(watched.run),
        quiet=True,
    )
    run_dedup(again)
    assert _tables(tmp_path / "run") == _tables(watched.run)


def test_blocks_are_cut_at_their_bound() -> None:
    records = np.zeros(1_000_000, dtype="S41")
    parts = list(shuffles.portions(records, 41))
    assert sum(map(len, parts)) == len(records)
    assert max(part.nbytes for part in parts) <= shuffles.BLOCK_BYTES < ELEMENT_LIMIT
    assert len(parts) == 5
    assert list(shuffles.portions([], 41)) == []
    assert [len(p) for p in shuffles.portions(["long"] * 3, 10 * shuffles.BLOCK_BYTES)] == [1, 1, 1]


def test_a_shard_weighs_what_an_element_may() -> None:
    """The largest description: a folder with as many files as a shard of one has."""
    files = tuple(f"a/directory/{n:09d}.jpg" for n in range(10_000))
    shard = Shard(1, "folder", ShardKind.FOLDER, "in/folder", 1, "1", files=files)
    assert len(pickler.dumps(dataclasses.replace(shard, files=()))) < 1_000
    assert len(pickler.dumps(shard)) < ELEMENT_LIMIT / 50
