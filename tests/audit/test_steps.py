"""The steps of an audit called without Beam, held against plain loops over the same run."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from audit.conftest import Audited
from onceseen.audit import largest_tile, tile_distances
from onceseen.core.config_io import config_from_mapping
from onceseen.core.features import read_thumbs, thumb_array
from onceseen.core.files import read_json
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_shards
from onceseen.core.records import Shard, node_id
from onceseen.jobs.audit.facts import gather_facts
from onceseen.jobs.audit.nearest import find_candidates, measure, nearest_and_second
from onceseen.jobs.audit.plan import CAPTIONS, PROBE, PROBES, SAMPLE, AuditPlan, Pictures, read_verdicts
from onceseen.jobs.audit.prompts import read_prompts
from onceseen.jobs.audit.training import (
    BestComponentsFn,
    look_up,
    read_nearest,
    read_training_probes,
    search_shard,
    write_known,
    write_nearest,
)
from onceseen.stats.text import hash64, normalise_caption

Loaded = tuple[AuditPlan, list[Shard]]


@pytest.fixture(scope="module")
def steps(audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The first three steps, shard by shard in this process."""
    layout = RunLayout(str(audited.copy(tmp_path_factory.mktemp("steps"))))
    shards = read_shards(layout)
    first = next(s.number for s in shards if s.run == "scan")
    held_out = next(s.number for s in shards if s.run == "held-out")
    config = config_from_mapping(read_json(layout.run_json())["config"])
    plan = AuditPlan(layout, RunLayout(str(audited.trained.run)), config, first, held_out)
    for shard in shards[first:]:
        read_prompts(shard, plan)
    gather_facts(plan, shards[first:])
    for kind, block in _merged(pair for shard in shards[:first] for pair in look_up(shard, plan)):
        write_known((str(kind), block), plan)
    for shard in shards[:first]:
        read_training_probes(shard, plan)
    for key, block in _merged(
        pair for shard in reversed(shards[:first]) for pair in search_shard(shard, plan)
    ):
        write_nearest((int(key), block), plan)
    return plan, shards


def _merged(pairs: Iterator[tuple[str | int, tuple[int, bytes]]]) -> Iterator[tuple[str | int, bytes]]:
    """What a runner makes of keyed blocks."""
    merging = BestComponentsFn()
    found: dict[str | int, tuple[int, bytes]] = {}
    for key, block in pairs:
        found[key] = merging.add_input(found.get(key, merging.create_accumulator()), block)
    yield from ((key, merging.extract_output(value)) for key, value in found.items())


def _training(plan: AuditPlan, shards: list[Shard]) -> dict[int, tuple[NDArray[np.int64], int]]:
    """Small thumbs and components of all training pictures that can be nearest, by node."""
    found = {}
    for shard in shards[: plan.first]:
        thumbs = read_thumbs(plan.layout, shard)["thumb"].to_pylist()
        components = read_verdicts(plan, shard)["component_id"].to_pylist()
        for row, (data, component) in enumerate(zip(thumbs, components, strict=True)):
            thumb = thumb_array(data)
            if thumb is not None and thumb.std() >= plan.config.fingerprint.blank_std:
                found[node_id(shard.number, row)] = _small(thumb), hash64(component)
    return found


def _small(thumb: NDArray[np.uint8]) -> NDArray[np.int64]:
    cells = thumb.astype(np.float64).reshape(16, 4, 16, 4)
    return np.floor(cells.mean(axis=(1, 3)) + 0.5).astype(np.int64)


def test_the_search_is_exact(steps: Loaded) -> None:
    plan, shards = steps
    training = _training(plan, shards)
    most = plan.config.audit.candidates + 1
    searched = 0
    for shard in shards:
        nodes = plan.work.read(PROBES, shard.number, PROBE)["node"].tolist()
        if not nodes:
            continue
        near = read_nearest(plan, shard.number)
        thumbs = read_thumbs(plan.layout, shard)["thumb"].to_pylist()
        for node in nodes[::5]:
            own = thumb_array(thumbs[node & 0xFFFFFFFF])
            assert own is not None
            best: dict[int, tuple[int, int]] = {}
            for other, (small, component) in training.items():
                distance = int(((_small(own) - small) ** 2).sum())
                best[component] = min(best.get(component, (distance, other)), (distance, other))
            expected = sorted((d, n, c) for c, (d, n) in best.items())[:most]
            mine = near[near["owner"] == node]
            assert list(zip(mine["rank"], mine["node"], mine["component"], strict=True)) == expected
            searched += 1
    assert searched > 30


def test_the_sample_is_of_distinct_components_and_kept_pictures(steps: Loaded) -> None:
    plan, shards = steps
    sample = plan.known(SAMPLE)
    kept: set[str] = set()
    for shard in shards[: plan.first]:
        rows = read_verdicts(plan, shard).to_pylist()
        for node in sample["node"].tolist():
            if node >> 32 == shard.number:
                row = rows[node & 0xFFFFFFFF]
                assert row["verdict"] == "keep"
                kept.add(row["component_id"])
    components = {component for _, component in _training(plan, shards).values()}
    assert len(sample) == len(kept) == min(plan.config.audit.train_samples, len(components))


def test_captions_lead_to_the_most_copied_pictures(steps: Loaded, audited: Audited) -> None:
    plan, shards = steps
    captions = plan.known(CAPTIONS)
    photos = {title: photo for photo, title in audited.trained.titles.items()}
    ids = {}
    for shard in shards[: plan.first]:
        for row, sample in enumerate(read_verdicts(plan, shard)["sample_id"].to_pylist()):
            ids[node_id(shard.number, row)] = sample
    for prompt in audited.answers:
        mine = captions[captions["owner"] == hash64(normalise_caption(prompt))]
        if prompt not in photos:
            assert not len(mine)
            continue
        samples = audited.trained.samples[photos[prompt]]
        assert {ids[node] for node in mine["node"].tolist()} <= samples
        assert -int(mine["rank"][0]) == len(samples)


def test_distances_are_those_of_the_pictures(steps: Loaded, audited: Audited) -> None:
    """Of a held-out photograph, which lies as a file: squeezed here by OpenCV itself."""
    plan, shards = steps
    shard = shards[plan.held_out]
    nodes = plan.work.read(PROBES, shard.number, PROBE)["node"]
    found = find_candidates(shard, plan, nodes)
    assert found.keys() == set(nodes.tolist())
    candidates = {node: found[node] for node in nodes[:6].tolist()}
    assert {len(some) for some in candidates.values()} <= {4, 5}, "by thumbs, and by the detector"
    measured = measure(candidates, Pictures(plan, 64))
    pictures = Pictures(plan, 64)
    files = sorted(path.name for path in audited.held_out.iterdir())
    for node, some in candidates.items():
        image = cv2.imread(str(audited.held_out / files[node & 0xFFFFFFFF]))
        small = cv2.cvtColor(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        pixels = pictures.load(pictures.wanted(sorted(some)))
        expected = {}
        for other, component in sorted(some.items()):
            distance = float(largest_tile(tile_distances(small[None], pixels[other][None]))[0, 0])
            expected[component] = min(expected.get(component, (distance, other)), (distance, other))
        mine = measured[measured["probe"] == node]
        assert list(zip(mine["distance"], mine["node"], strict=True)) == sorted(expected.values())
    first, second = nearest_and_second(measured)
    assert (first <= second).all()
    assert len(first) == len(candidates)


def test_a_training_picture_is_not_its_own_neighbour(steps: Loaded) -> None:
    plan, shards = steps
    own = dict(
        zip(plan.known(SAMPLE)["node"].tolist(), plan.known(SAMPLE)["component"].tolist(), strict=True)
    )
    for shard in shards[: plan.first]:
        nodes = plan.work.read(PROBES, shard.number, PROBE)["node"]
        for node, some in find_candidates(shard, plan, nodes).items():
            assert own[node] not in some.values()
            assert len(some) == plan.config.audit.candidates
