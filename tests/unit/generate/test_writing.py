"""Shards of generations: what is in them, and what happens when the work is interrupted or asked for otherwise."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from onceseen.core.config import ReadConfig
from onceseen.core.layout import RunLayout
from onceseen.core.records import ImageSample
from onceseen.generate import generate_shards, generation_seed, load_callable, prompt_id
from onceseen.generate.writing import RECORD
from onceseen.jobs.lock import LockHeldError, run_lock
from onceseen.shards import list_shards, read_shard

PROMPTS = ("a red fox", "Zwei Hühner", "a cat")
Picture = npt.NDArray[np.uint8]


class Painter:
    """Pictures of noise, a function of prompt and seed; remembers its batches, and stops where it is told."""

    def __init__(self, name: str = "one", stop_after: int = 1 << 30) -> None:
        self.spec = {"kind": "test", "weights": {"sha256": name}}
        self.batches: list[list[tuple[str, int]]] = []
        self._left = stop_after

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture]:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        self.batches.append(list(zip(prompts, seeds, strict=True)))
        return [paint(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]


def paint(prompt: str, seed: int) -> Picture:
    return np.random.default_rng([seed, len(prompt)]).integers(0, 256, (12, 10, 3), np.uint8)


def _generate(output: Path, painter: Any = None, prompts: Sequence[str] = PROMPTS, **settings: Any) -> Any:
    given = {"per_prompt": 5, "batch_size": 4, "shard_size": 11, "quiet": True, **settings}
    return generate_shards(painter or Painter(), prompts, str(output), **given)


def _bytes(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.glob("*.tar"))}


def _samples(output: Path) -> list[ImageSample]:
    config = ReadConfig(meta_columns=("prompt", "seed"))
    found = [s for shard in list_shards([str(output)], config) for s in read_shard(shard, config)]
    assert all(isinstance(s, ImageSample) and s.error is None for s in found)
    return [s for s in found if isinstance(s, ImageSample)]


def test_a_shard_holds_whole_prompts_and_readers_see_prompt_seed_and_picture(tmp_path: Path) -> None:
    written = _generate(tmp_path / "out")
    assert (written.prompts, written.generations, written.shards, written.made) == (3, 15, 2, 15)
    assert list(_bytes(tmp_path / "out")) == ["00000.tar", "00001.tar"]
    samples = _samples(tmp_path / "out")
    keys = [f"00000{i:04d}" for i in range(10)] + [f"00001{i:04d}" for i in range(5)]
    assert [s.key for s in samples] == keys
    assert [s.caption for s in samples] == [prompt for prompt in PROMPTS for _ in range(5)]
    for number, sample in enumerate(samples):
        seed = generation_seed(sample.caption, number % 5)
        assert json.loads(sample.meta) == {"prompt": sample.caption, "seed": seed}
        assert sample.image is not None
        bgr = cv2.imdecode(np.frombuffer(sample.image, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(bgr[:, :, ::-1], paint(sample.caption, seed))


def test_members_say_nothing_of_when_or_by_whom(tmp_path: Path) -> None:
    _generate(tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "00001.tar") as tar:
        members = tar.getmembers()
        note = tar.extractfile("000010000.json")
        assert note is not None
        seed = generation_seed("a cat", 0)
        assert note.read().decode() == (
            f'{{"index":0,"prompt":"a cat","prompt_id":"{prompt_id("a cat")}","seed":{seed}}}'
        )
    assert [m.name for m in members[:4]] == [f"00001000{n}" for n in ("0.json", "0.png", "0.txt", "1.json")]
    assert {(m.mtime, m.uid, m.uname, m.mode) for m in members} == {(0, 0, "", 0o644)}
    assert (tmp_path / "out" / "00001.tar").stat().st_size % 10_240 == 0


def test_webp_is_lossless_too(tmp_path: Path) -> None:
    _generate(tmp_path / "out", image_format="webp")
    first = _samples(tmp_path / "out")[0]
    assert first.image is not None
    assert first.extension == "webp"
    bgr = cv2.imdecode(np.frombuffer(first.image, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(bgr[:, :, ::-1], paint(PROMPTS[0], generation_seed(PROMPTS[0], 0)))


def test_prompts_longer_than_a_shard_go_over_several(tmp_path: Path) -> None:
    painter = Painter()
    assert _generate(tmp_path / "out", painter, shard_size=3).shards == 5
    assert [len(batch) for batch in painter.batches] == [3] * 5
    assert [s.caption for s in _samples(tmp_path / "out")] == [prompt for prompt in PROMPTS for _ in range(5)]


@pytest.mark.parametrize("stop_after", [0, 1, 3, 4])
def test_an_interrupted_call_is_gone_on_with_to_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    _generate(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _generate(tmp_path / "out", Painter(stop_after=stop_after))
    finished = 1 if stop_after >= 3 else 0
    assert len(_bytes(tmp_path / "out")) == finished
    assert not list((tmp_path / "out").glob("*onceseen-tmp*"))
    painter = Painter()
    assert _generate(tmp_path / "out", painter).made == (5 if finished else 15)
    assert len(painter.batches) == (2 if finished else 5)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "whole")


def test_a_finished_output_is_left_as_it_is(tmp_path: Path) -> None:
    _generate(tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    painter = Painter()
    assert _generate(tmp_path / "out", painter).made == 0
    assert not painter.batches
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")} == before


def test_a_lost_shard_alone_is_made_again(tmp_path: Path) -> None:
    _generate(tmp_path / "out")
    whole = _bytes(tmp_path / "out")
    (tmp_path / "out" / "00000.tar").unlink()
    assert _generate(tmp_path / "out").made == 10
    assert _bytes(tmp_path / "out") == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"painter": Painter("two")}, "generator.weights.sha256 was 'one', is now 'two'"),
        ({"prompts": PROMPTS[:2]}, "prompts.count was 3, is now 2; prompts.sha256 was"),
        ({"per_prompt": 4}, "per_prompt was 5, is now 4"),
        ({"batch_size": 3}, "batch_size was 4, is now 3"),
        ({"shard_size": 5}, "shard_size was 10, is now 5"),
        ({"image_format": "webp"}, "image_format was 'png', is now 'webp'"),
    ],
)
def test_pictures_made_otherwise_are_refused_and_overwritten_when_asked(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _generate(tmp_path / "out")
    before = _bytes(tmp_path / "out")
    with pytest.raises(ValueError, match=message) as error:
        _generate(tmp_path / "out", **change)
    assert "--overwrite to start again" in str(error.value)
    assert _bytes(tmp_path / "out") == before
    written = _generate(tmp_path / "out", **change, overwrite=True)
    assert written.made == written.generations
    _generate(tmp_path / "fresh", **change)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "fresh")


def test_overwrite_makes_the_same_again_as_well(tmp_path: Path) -> None:
    _generate(tmp_path / "out")
    assert _generate(tmp_path / "out", overwrite=True).made == 15


def test_settings_may_change_while_no_shard_is_finished(tmp_path: Path) -> None:
    """A batch that does not fit into memory fails at once; a smaller one needs no --overwrite."""
    with pytest.raises(KeyboardInterrupt):
        _generate(tmp_path / "out", Painter(stop_after=1))
    assert _generate(tmp_path / "out", batch_size=2).made == 15


def test_files_of_others_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.tar").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(
            ValueError, match=r"files that onceseen generate did not write, such as .*00000\.tar"
        ):
            _generate(tmp_path / "out", overwrite=overwrite)
    assert _bytes(tmp_path / "out") == {"00000.tar": b"mine"}
    assert not (tmp_path / "out" / RECORD).exists()


def test_one_call_a_directory_at_a_time(tmp_path: Path) -> None:
    with run_lock(RunLayout(str(tmp_path / "out"))), pytest.raises(LockHeldError):
        _generate(tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_prompt": 0}, "per_prompt is 0; expected 1 or more"),
        ({"batch_size": -1}, "batch_size is -1; expected 1 or more"),
        ({"shard_size": 10_001}, "shard_size is 10001; expected 1 to 10000"),
        ({"image_format": "jpg"}, "the image format is 'jpg'; expected one of png, webp"),
        ({"prompts": ()}, "there is no prompt"),
        ({"prompts": ("a", " \n")}, "prompt 1 is empty"),
        ({"prompts": ("a", "b", "A ")}, "prompts 0 and 2 are the same but for case and white space"),
        (
            {"per_prompt": 100_000, "shard_size": 1},
            "300,000 pictures are 300,000 shards; expected at most 100,000",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    painter = Painter()
    with pytest.raises(ValueError, match=message):
        _generate(tmp_path / "out", painter, **settings)
    assert not painter.batches
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "gave 0 pictures for 4 prompts"),
        ([np.zeros((8, 8, 3))] * 4, r"gave float64 \(8, 8, 3\) for 'a red fox'"),
        ([np.zeros((8, 8), np.uint8)] * 4, r"gave uint8 \(8, 8\)"),
        ([np.zeros((8, 8, 4), np.uint8)] * 4, r"gave uint8 \(8, 8, 4\)"),
        ([np.zeros((0, 8, 3), np.uint8)] * 4, r"gave uint8 \(0, 8, 3\)"),
        (["a picture"] * 4, "gave str"),
    ],
)
def test_wrong_answers_are_refused_and_leave_no_shard(tmp_path: Path, answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _generate(tmp_path / "out", lambda prompts, seeds: answer)
    assert not _bytes(tmp_path / "out")


def test_a_spec_must_be_what_json_can_hold(tmp_path: Path) -> None:
    painter = Painter()
    painter.spec = {"weights": object()}  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="a spec that JSON cannot hold"):
        _generate(tmp_path / "out", painter)


def test_one_array_of_pictures_will_do(tmp_path: Path) -> None:
    def all_black(prompts: Sequence[str], seeds: Sequence[int]) -> Picture:
        return np.zeros((len(prompts), 8, 8, 3), np.uint8)

    assert _generate(tmp_path / "out", all_black).made == 15


def test_a_callable_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "class Model:\n    def sample(self, prompts, seeds): return []\nmodel = Model()\nx = 3\n"
    (tmp_path / "a_model_of_mine.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert load_callable("a_model_of_mine:model.sample")([], []) == []
    for name, message in (
        ("a_model_of_mine", "expected module:function"),
        ("a_model_of_mine:", "expected module:function"),
        ("no_such_model:f", "the module no_such_model cannot be imported"),
        ("a_model_of_mine:model.nothing", "has no 'nothing'"),
        ("a_model_of_mine:x", "is of type int, which cannot be called"),
    ):
        with pytest.raises(ValueError, match=message):
            load_callable(name)
