"""The audit's prompt list."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, jpeg, named, picture

from onceseen.core.files import read_bytes, remove
from onceseen.core.layout import RunLayout
from onceseen.generate import read_prompts
from onceseen.stats import write_captions_table
from onceseen.stats.prompts import PROMPTS_HEADER, PromptBin, describe_bins, write_prompts
from onceseen.stats.text import hash64, normalise_caption

_SINGLE = [
    f"{thing} seen once, numbered {i}" for i, thing in enumerate(["a boat", "two hens", "my hat", "no sea"])
]
_DOG = "a photograph of a small brown dog running over a wide green field under a cloudy sky in the late afternoon"


def _group(key: str, seed: int, copies: int, caption: str) -> list[Planted]:
    """A picture with so many copies, each with the caption."""
    image = jpeg(picture(seed))
    head = Planted(f"a/{key}0", image, caption)
    return [
        head,
        *(dropped(f"a/{key}{i}", image, head.sample_id, "bytes", caption=caption) for i in range(1, copies)),
    ]


def _samples() -> list[Planted]:
    return [
        *_group("c", 10, 3, _DOG),
        *_group("d", 11, 4, "Four of a kind, with a comma"),
        *_group("e", 12, 2, 'a "quoted" pair'),
        Planted("b/0", jpeg(picture(20)), "the same words of two pictures"),
        Planted("b/1", jpeg(picture(21)), "The same words of  two pictures"),
        Planted(
            "b/2", jpeg(picture(22)), _DOG + "."
        ),  # near-identical to a caption of three copies: no control
        *(Planted(f"b/{3 + i}", jpeg(picture(30 + i)), text) for i, text in enumerate(_SINGLE)),
        Planted("b/8", jpeg(picture(40)), ""),
    ]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    layout = SmallRun(tmp_path, _samples()).write()
    write_captions_table(layout, named("a", "b"))
    return layout


def _rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        assert tuple(reader.fieldnames or ()) == PROMPTS_HEADER
        return list(reader)


def test_bins_of_copies_and_controls_of_one(layout: RunLayout) -> None:
    summary = write_prompts(layout, 100)
    assert summary.path == layout.stats("prompts.csv")
    assert summary.bins == (PromptBin(1, 1, 6, 5), PromptBin(2, 2, 1, 1), PromptBin(3, 4, 2, 2))
    rows = _rows(summary.path)
    assert summary.prompts == len(rows) == 8
    assert [row["bin"] for row in rows] == ["3-4", "3-4", "2", *["1"] * 5]
    by_prompt = {row["prompt"]: row for row in rows}
    assert by_prompt[_DOG] == {
        "prompt": _DOG,
        "copies": "3",
        "occurrences": "4",
        "pictures": "2",
        "sample_id": "a/c0",
        "bin": "3-4",
    }
    single = by_prompt[_SINGLE[1]]
    assert (single["copies"], single["occurrences"], single["sample_id"]) == ("1", "1", "b/4")
    twice = by_prompt["the same words of two pictures"]
    assert (twice["copies"], twice["occurrences"], twice["pictures"]) == ("1", "2", "2")
    assert _DOG + "." not in by_prompt


def test_a_bin_is_sampled_and_a_larger_sample_holds_the_smaller(layout: RunLayout) -> None:
    drawn = {
        n: [row["prompt"] for row in _rows(write_prompts(layout, n).path) if row["bin"] == "1"]
        for n in (1, 2, 5)
    }
    assert [len(prompts) for prompts in drawn.values()] == [1, 2, 5]
    assert drawn[5][:2] == drawn[2]
    assert drawn[2][:1] == drawn[1]
    assert drawn[5] != sorted(drawn[5])


def test_near_identical_ones_are_passed_over_until_there_are_enough(tmp_path: Path) -> None:
    """More of them than are read at once: the next are read, and the control is found."""
    near = [f"{_DOG}{'.' * i}" for i in range(80)]
    by_draw = sorted([*near[1:], "a lone goose"], key=lambda text: hash64(normalise_caption(text)))
    assert by_draw.index("a lone goose") > 65  # twice as many as asked for, and 64 more
    samples = _group("c", 10, 2, _DOG)
    samples += [
        Planted(f"b/{i:02d}", jpeg(picture(50)), text) for i, text in enumerate([*near[1:], "a lone goose"])
    ]
    layout = SmallRun(tmp_path, samples).write()
    write_captions_table(layout, named("a", "b"))
    rows = _rows(write_prompts(layout, 1).path)
    assert [row["prompt"] for row in rows] == [_DOG, "a lone goose"]


def test_the_same_bytes_again_and_generate_reads_them(layout: RunLayout, tmp_path: Path) -> None:
    path = write_prompts(layout, 3).path
    again = write_prompts(layout, 3, str(tmp_path / "elsewhere" / "list.csv")).path
    assert read_bytes(again) == read_bytes(path)
    found = read_prompts(path)
    assert list(found.prompts) == [row["prompt"] for row in _rows(path)]
    assert not found.merged


def test_bins_are_told(layout: RunLayout) -> None:
    lines = list(describe_bins(write_prompts(layout, 1)))
    assert [line.split() for line in lines] == [
        ["copies", "captions", "drawn"],
        ["1", "6", "1"],
        ["2", "1", "1"],
        ["3-4", "2", "1"],
    ]


def test_what_is_refused(layout: RunLayout, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--per-bin is 0; expected 1 or more"):
        write_prompts(layout, 0)
    with pytest.raises(ValueError, match=r"nowhere is not a run directory: it has no run\.json"):
        write_prompts(RunLayout(str(tmp_path / "nowhere")), 1)
    remove(layout.stats("captions.parquet"))
    with pytest.raises(ValueError, match=r"captions\.parquet is missing: finish `onceseen dedup`"):
        write_prompts(layout, 1)
    remove(layout.verdicts("b"))
    with pytest.raises(ValueError, match="no verdicts for shard b yet: finish `onceseen dedup` on it first"):
        write_prompts(layout, 1)


def test_a_run_without_captions_is_refused(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("a/1", jpeg(picture(1)))]).write()
    write_captions_table(layout, named("a"))
    with pytest.raises(ValueError, match=r"no picture of .*run has a caption"):
        write_prompts(layout, 1)
    assert not (tmp_path / "run" / "stats" / "prompts.csv").exists()
