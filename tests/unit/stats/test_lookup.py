"""Rows of a run by sample_id, and pictures of folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, jpeg, pair, picture, write_features

from onceseen.core.config import PipelineConfig, ReadConfig
from onceseen.core.files import read_json, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import ImageSample, Shard, ShardKind
from onceseen.shards import list_shards, read_shard
from onceseen.stats.lookup import (
    RunRecord,
    find_pairs,
    find_verdicts,
    group_members,
    ordered,
    pairs_of_sample,
    read_run,
    shards_of,
)
from onceseen.stats.report.thumbnails import load_thumbnails

ONE, TWO = jpeg(picture(1)), jpeg(picture(2))


def _shard(name: str, kind: ShardKind = ShardKind.TAR, prefix: str = "") -> Shard:
    return Shard(0, name, kind, name, 1, "m", (), prefix)


def test_shards_are_found_by_every_prefix() -> None:
    shards = [_shard("a"), _shard("a/b"), _shard("é")]
    found = shards_of(["a/b/c", "a/x", "é/1", "b/a", "a"], shards)
    assert found == {"a": ["a/b/c", "a/x"], "a/b": ["a/b/c"], "é": ["é/1"]}


def test_any_folder_shard_may_hold_an_id_of_its_source() -> None:
    shards = [_shard("one/_root", ShardKind.FOLDER, "one/"), _shard("two/_root", ShardKind.FOLDER, "two/")]
    assert shards_of(["one/sub/x.jpg"], shards) == {"one/_root": ["one/sub/x.jpg"]}


def test_ids_are_ordered_by_their_bytes() -> None:
    assert ordered("s/z", "s/é") == ("s/z", "s/é")
    assert ordered("s/é", "s/z") == ("s/z", "s/é")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    samples = [
        Planted("a/1", ONE),
        dropped("a/2", ONE, "a/1", "bytes"),
        dropped("b/1", ONE, "a/1", score=0.7),
        Planted("b/2", TWO),
    ]
    pairs = [
        pair("a/1", "a/2", "bytes"),
        pair("a/1", "b/1", score=0.7),
        pair("b/1", "b/2", verified=False, score=0.2),
    ]
    return SmallRun(tmp_path, samples, pairs).write()


def test_verdicts_pairs_and_groups(layout: RunLayout) -> None:
    run = read_run(layout)
    verdicts = find_verdicts(layout, run.shards, ["a/2", "b/2", "b/unknown", "c/1"])
    assert {i: v.representative_id for i, v in verdicts.items()} == {"a/2": "a/1", "b/2": "b/2"}
    assert find_pairs(layout, {("a/1", "b/1"), ("a/2", "b/1")}).keys() == {("a/1", "b/1")}
    assert [row.ids for row in pairs_of_sample(layout, "b/1")] == [("a/1", "b/1"), ("b/1", "b/2")]
    groups = group_members(layout, run.shard_names, ["a/1"])
    assert [row.sample_id for row in groups["a/1"].members] == ["a/2", "b/1"]


@pytest.mark.parametrize("broken", [{"shards": []}, {"config": {}, "shards": [{"name": "a"}]}])
def test_a_record_that_is_not_one_is_refused(layout: RunLayout, broken: dict[str, object]) -> None:
    write_json(layout.run_json(), broken)
    with pytest.raises(ValueError, match="not the record of a run"):
        read_run(layout)


def test_the_record_is_read_back(layout: RunLayout) -> None:
    run = read_run(layout)
    assert run.config == PipelineConfig()
    assert run.shard_names == ("a", "b")
    assert run.model == read_json(layout.run_json())["model"]


def test_pictures_of_a_folder_are_read_without_a_list_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "pictures/sub"
    folder.mkdir(parents=True)
    for name, data in (("é.jpg", ONE), ("b.jpg", TWO)):
        (folder / name).write_bytes(data)
    (folder / "b.txt").write_text("a caption")
    layout = RunLayout(str(tmp_path / "run"))
    (shard,) = list_shards([str(tmp_path / "pictures")], ReadConfig())
    read = [s for s in read_shard(shard, ReadConfig()) if isinstance(s, ImageSample)]
    write_features(layout, shard, read, {s.sample_id: Planted(s.sample_id, s.image or b"") for s in read})
    bare = dataclasses.replace(shard, files=())
    run = RunRecord(PipelineConfig(), (bare,), {}, {}, {})
    pictures = load_thumbnails(layout, run, {"sub/b.jpg": 64, "sub/é.jpg": 64})
    assert pictures.notes == []
    assert {i: (t.width, t.height, t.stored) for i, t in pictures.by_id.items()} == {
        "sub/b.jpg": (64, 48, False),
        "sub/é.jpg": (64, 48, False),
    }
