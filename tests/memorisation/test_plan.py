"""What the experiment trains on: counts, copies, rotation, arms and draws."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from examples.memorisation.arms import MAIN_ARMS, training_set
from examples.memorisation.audited import write_pictures
from examples.memorisation.dedup import Kept
from examples.memorisation.model import CaptionModel, Training, Words, draw_rows, to_cells, to_pictures, train
from examples.memorisation.pictures import AUDITED, Pictures, read_pictures
from examples.memorisation.plan import (
    GROUP,
    GROUPS,
    ROWS,
    VARIANTS,
    Plan,
    copies_of,
    main_plan,
    variants_plan,
)

from onceseen.planted.imaging import decode_rgb
from planted_demo import PHOTOS


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return read_pictures(PHOTOS)


@pytest.fixture(scope="module")
def plan(pictures: Pictures) -> Plan:
    return main_plan(pictures, 0)


def _perfect(plan: Plan) -> dict[str, Kept]:
    """What a deduplication keeps that makes no mistake: the first row of each picture."""
    first: dict[str, int] = {}
    for i, row in enumerate(plan.rows):
        first.setdefault(row.picture, i)
    kept = Kept(tuple(sorted(first.values())), (1.0,) * len(first))
    heavy = Kept(kept.rows, tuple(plan.copies.get(plan.rows[i].picture, 1) ** 0.5 for i in kept.rows))
    return {"dedup": kept, "exact": kept, "max_copies": kept, "weights": heavy}


def test_pictures_are_distinct_and_apart(pictures: Pictures) -> None:
    names = [p.name for p in (*pictures.audited, *pictures.others, *pictures.held_out)]
    assert len(pictures.audited) == AUDITED
    assert len(set(names)) == len(names)
    sources = [
        {p.name.partition("-tile")[0] for p in part}
        for part in (pictures.audited, pictures.others, pictures.held_out)
    ]
    assert not sources[0] & sources[1]
    assert not sources[2] & (sources[0] | sources[1])
    assert min(min(p.rgb.shape[:2]) for p in (*pictures.audited, *pictures.others)) >= 256
    captions = [p.caption for p in pictures.audited]
    assert len(set(captions)) == len(captions)


def test_counts_are_those_of_the_plan(plan: Plan) -> None:
    assert len(plan.rows) == ROWS
    shown = Counter(row.picture for row in plan.rows)
    assert {name: shown[name] for name in plan.copies} == plan.copies
    assert Counter(plan.copies.values()) == {
        50: GROUP,
        20: GROUP,
        10: GROUP,
        5: GROUP,
        2: GROUP,
        1: 3 * GROUP,
    }
    assert all(shown[p.name] == 0 for p in plan.fresh)


def test_half_of_the_copies_are_the_very_file(plan: Plan) -> None:
    for name, copies in plan.copies.items():
        rows = [row for row in plan.rows if row.picture == name]
        original = next(row.data for row in rows if row.copy == "original")
        same = sum(row.data == original for row in rows)
        assert same == (copies + 1) // 2
        assert len({row.data for row in rows}) == 1 + copies - same
        assert len({row.caption for row in rows}) == 1
        for row in rows:
            assert min(decode_rgb(row.data).shape[:2]) >= 0.7 * 256 - 1


def test_pictures_move_through_the_counts(pictures: Pictures) -> None:
    counts = [copies_of(pictures, seed) for seed in range(len(GROUPS))]
    for picture in pictures.audited:
        assert sorted(copies[picture.name] for copies in counts) == sorted(GROUPS)


def test_variants_cross_crops_and_captions(pictures: Pictures) -> None:
    plan = variants_plan(pictures, 0)
    assert len(plan.rows) == ROWS
    assert Counter(plan.cells.values()) == dict.fromkeys(VARIANTS, GROUP)
    for name, cell in plan.cells.items():
        rows = [row for row in plan.rows if row.picture == name]
        assert len({row.caption for row in rows}) == (len(rows) if cell.endswith("vary") else 1)
        assert any(row.copy == "crop" for row in rows) == cell.startswith("cropped")


def test_arms_differ_in_what_they_should(plan: Plan) -> None:
    kept = _perfect(plan)
    arms = {arm: training_set(arm, plan, kept, 3_000) for arm in MAIN_ARMS}
    assert len(arms["A"].names) == len(arms["B"].names) == ROWS
    assert arms["B"].steps == arms["A"].steps == arms["D"].steps
    assert set(Counter(arms["B"].names).values()) == {1}
    epochs = {arm: t.steps / len(t.names) for arm, t in arms.items()}
    assert epochs["C"] == pytest.approx(epochs["A"], rel=0.01)
    assert epochs["D"] > 5 * epochs["A"]
    seen = {arm: t.presentations(32) for arm, t in arms.items()}
    for name, copies in plan.copies.items():
        assert seen["A"][name] == pytest.approx(80 * copies)
        assert seen["B"][name] == pytest.approx(80)
        assert seen["C"][name] == pytest.approx(80, rel=0.01)
        assert seen["weights"][name] == pytest.approx(80 * copies**0.5, rel=0.01)


def test_an_arm_that_is_none_is_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="no arm 'E'"):
        training_set("E", plan, _perfect(plan), 10)


def test_rows_are_drawn_by_their_weights_every_epoch() -> None:
    weights = np.array([1.0, 1.0, 2.0, 4.0])
    drawn = draw_rows(weights, 400, seed=3)
    for epoch in drawn.reshape(-1, 4):
        assert np.bincount(epoch, minlength=4)[3] == 2
    assert np.bincount(drawn).tolist() == pytest.approx([50, 50, 100, 200], abs=12)
    assert (drawn == draw_rows(weights, 400, seed=3)).all()
    assert (drawn != draw_rows(weights, 400, seed=4)).any()


def test_pixels_survive_the_way_to_the_model_and_back(pictures: Pictures) -> None:
    small = np.stack([cv2.resize(p.rgb, (32, 32)) for p in pictures.audited[:3]])
    assert (to_pictures(to_cells(small)) == small).all()


def test_words_never_trained_on_are_left_out() -> None:
    words = Words(["American Bison 9", "a bison, detail 3"])
    assert words.encode(["bison"]).tolist() == words.encode(["BISON unheard"]).tolist()
    assert words.encode(["bison"]).tolist() != words.encode(["american bison"]).tolist()
    assert words.encode(["", "a bison, detail 3"]).shape == (2, 4)
    assert words.encode([]).shape == (0, 1)


@pytest.mark.parametrize("widths", [Training().widths, (32, 32, 32)])
def test_a_saved_model_is_the_same_model(
    tmp_path: Path, pictures: Pictures, widths: tuple[int, int, int]
) -> None:
    small = np.stack([cv2.resize(p.rgb, (32, 32)) for p in pictures.audited[:8]])
    captions = [p.caption for p in pictures.audited[:8]]
    model = train(small, captions, np.ones(8), Training(steps=3, batch=4, widths=widths))
    model.save(tmp_path / "model.pt")
    loaded = CaptionModel.load(tmp_path / "model.pt")
    assert (model(captions[:2], [1, 2]) == loaded(captions[:2], [1, 2])).all()
    assert (loaded(captions[:1], [1]) != loaded(captions[1:2], [1])).any()
    assert model.loss(small, captions) == loaded.loss(small, captions)


def test_held_out_pictures_are_written_once(pictures: Pictures, tmp_path: Path) -> None:
    """Else a second `--audit` would find another set of shards, and refuse its own directory."""
    write_pictures(pictures.held_out[:3], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_pictures(pictures.held_out[:4], tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 3
    assert len(after) == 4
    assert before.items() <= after.items()
