"""What counts as a copy of a picture, what comes back when it goes, and the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, pair, picture

from onceseen.cli.takedown import describe
from onceseen.core.layout import RunLayout
from onceseen.core.records import Verdict
from onceseen.explain import explain_sample
from onceseen.jobs.decisions import (
    DecisionRows,
    merge_decisions,
    read_decisions,
    stored_decisions,
    with_takedowns,
    write_decisions,
)
from onceseen.jobs.takedowns import Takedown, add_takedowns, read_takedowns
from onceseen.stats.lookup import read_run
from onceseen.takedown import Copies, Copy, Relation, find_copies
from onceseen.takedown.deciding import decide_again

A = jpeg(picture(1))
SAMPLES = [
    Planted("t/a", A),
    dropped("t/b", A, "t/a", "bytes"),
    dropped("t/c", jpeg(picture(1), 40), "t/a", score=0.93),
    Planted("t/collage", jpeg(picture(5)), component="t/a"),
    Planted("t/tile", jpeg(picture(6)), component="t/a"),
    dropped("t/tile2", jpeg(picture(6), 50), "t/tile", component="t/a"),
    Planted("u/crop", jpeg(picture(7)), component="t/a"),
    Planted("u/alone", jpeg(picture(3))),
    failed("u/broken", "truncated_image"),
    dropped("u/h", jpeg(picture(1), 35), "t/a", score=0.7, evidence=("t/c", "u/h")),
    Planted("u/near", jpeg(picture(8)), component="t/a"),
]
PAIRS = [
    pair("t/a", "t/b", "bytes", cosine=None),
    pair("t/a", "t/c", score=0.93),
    pair("t/c", "u/h", score=0.7),
    pair("t/a", "t/collage", coverage_a=0.95, coverage_b=0.2, foreign_b=0.8, score=0.8),
    pair("t/collage", "t/tile", coverage_a=0.2, coverage_b=0.97, foreign_a=0.8, score=0.85),
    pair("t/tile", "t/tile2", score=0.9),
    pair("t/a", "u/crop", coverage_a=0.5, coverage_b=1.0, score=0.75),
    pair("t/collage", "u/near", coverage_a=0.3, coverage_b=0.6, score=0.6),
]


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return SmallRun(tmp_path, SAMPLES, PAIRS).write()


def _found(layout: RunLayout, *sample_ids: str, component: bool = False) -> Copies:
    return find_copies(layout, read_run(layout), sample_ids, component=component)


def _relations(found: Copies) -> dict[str, Relation]:
    return {row.sample_id: row.relation for row in found.rows}


def test_relations_to_a_kept_picture(layout: RunLayout) -> None:
    found = _found(layout, "t/a")
    assert _relations(found) == {
        "t/a": Relation.ASKED,
        "t/b": Relation.EXACT,
        "t/c": Relation.VERIFIED,
        "t/collage": Relation.VERIFIED,  # it shows the picture whole
        "u/crop": Relation.VERIFIED,  # cut out of it, and half of it
        "u/h": Relation.GROUP,
        "t/tile": Relation.COMPONENT,
        "t/tile2": Relation.COMPONENT,
        "u/near": Relation.COMPONENT,
    }
    assert [row.sample_id for row in found.apart] == ["t/tile", "t/tile2", "u/near"]
    by_id = {row.sample_id: row for row in found.rows}
    assert by_id["t/b"].kind == "bytes"
    assert (by_id["t/c"].evidence_a, by_id["t/c"].evidence_b) == ("t/a", "t/c")
    assert by_id["t/c"].score == pytest.approx(0.93)
    assert by_id["t/a"].source.endswith("src/t.tar")
    assert by_id["t/a"].member == "a.jpg"


def test_relations_to_a_dropped_copy_reach_its_whole_group(layout: RunLayout) -> None:
    found = _found(layout, "u/h")
    relations = _relations(found)
    assert relations["t/c"] is Relation.VERIFIED
    assert {relations["t/a"], relations["t/b"]} == {Relation.GROUP}
    assert relations["t/collage"] is Relation.COMPONENT


def test_a_tile_does_not_take_the_other_tiles_with_it(layout: RunLayout) -> None:
    taken = {row.sample_id for row in _found(layout, "t/tile").taken}
    assert taken == {
        "t/tile",
        "t/tile2",
        "t/collage",
    }  # the collage shows it whole; what else that shows stays
    taken = {row.sample_id for row in _found(layout, "t/collage").taken}
    assert taken == {"t/collage", "t/a", "t/tile"} - {"t/a", "t/tile"}, "a part of it is another picture"


def test_the_whole_component_where_it_is_asked_for(layout: RunLayout) -> None:
    found = _found(layout, "t/a", component=True)
    assert not found.apart
    assert len(found.taken) == 9


def test_what_a_person_told_apart_is_no_copy(layout: RunLayout) -> None:
    Path(layout.decisions()).write_text("t/a,t/collage,different\n")
    assert _relations(_found(layout, "t/a"))["t/collage"] is Relation.COMPONENT


def test_alone_and_unknown(layout: RunLayout) -> None:
    found = _found(layout, "u/alone")
    assert [row.sample_id for row in found.rows] == ["u/alone"]
    with pytest.raises(ValueError, match="no sample 't/nobody'"):
        _found(layout, "t/nobody")


def test_the_table_says_what_goes_and_what_stays(layout: RunLayout) -> None:
    text = describe(layout, _found(layout, "t/a"))
    assert "6 samples of the picture" in text
    assert "3 other pictures in its component, left alone" in text
    assert text.index("t/collage") < text.index("3 other pictures") < text.index("t/tile2")
    assert "no copy of it was found" in describe(layout, Copies(()))


def test_when_only_the_kept_one_goes_the_best_of_the_rest_comes_back(layout: RunLayout) -> None:
    rows = with_takedowns(DecisionRows(), ["t/a"])
    changed = decide_again(layout, read_run(layout), ["t/a"], rows)
    after = {row["sample_id"]: row for table in changed.values() for row in table.to_pylist()}
    assert (after["t/a"]["verdict"], after["t/a"]["kind"]) == ("drop", "decision")
    assert (after["t/b"]["verdict"], after["t/b"]["representative_id"]) == ("keep", "t/b")
    assert after["t/c"]["representative_id"] == "t/b"
    assert after["t/tile2"]["representative_id"] == "t/tile"
    assert after["u/alone"]["verdict"] == "keep"
    assert after["u/broken"]["verdict"] == "failed"


def test_takedowns_stand_above_decisions_and_tolerate_what_is_gone(layout: RunLayout) -> None:
    path = Path(layout.root) / "said.csv"
    path.write_text("t/a,keep\nt/c,drop\nt/a,t/tile,different\n")
    said = read_decisions(str(path))
    rows = with_takedowns(said, ["t/a", "gone/x"])
    assert rows.samples == (("t/c", "drop"),)
    assert rows.takedowns == ("gone/x", "t/a")
    assert with_takedowns(said, []) is said
    write_decisions(rows, layout)
    stored = stored_decisions(layout)
    assert (stored.samples, stored.pairs) == (rows.samples, rows.pairs)
    again = with_takedowns(stored, ["gone/x", "t/a"])
    assert again.digest == rows.digest, "the run's own decisions file is as good as the one that was given"
    assert with_takedowns(again, ["t/b"]).takedowns == ("gone/x", "t/a", "t/b")
    assert merge_decisions(DecisionRows(), again) == again
    write_decisions(with_takedowns(DecisionRows(), ["t/a"]), layout)
    assert not Path(layout.decisions()).exists(), "the ledger alone says it"
    decide_again(layout, read_run(layout), ["t/a", "gone/x"], rows)


def test_explain_says_when_and_why(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("t/gone", A, verdict=Verdict.DROP, kind="decision")]).write()
    add_takedowns(layout, [_row("t/gone")])
    assert 'taken down on 2026-01-31: asked, by "A" and B' in explain_sample(layout, "t/gone")


def _row(sample_id: str, date: str = "2026-01-31") -> Takedown:
    return Takedown(sample_id, "ab" * 32, date, 'asked, by "A"\nand B', "/src/ü,1.tar", "a.jpg")


def test_the_ledger_only_grows(layout: RunLayout) -> None:
    assert read_takedowns(layout) == []
    assert add_takedowns(layout, [_row("t/a"), _row("t/ü")]) == [_row("t/a"), _row("t/ü")]
    first = Path(layout.takedowns()).read_bytes()
    assert add_takedowns(layout, [_row("t/a", "2027-01-01"), _row("t/b")])[0].date == "2026-01-31"
    assert Path(layout.takedowns()).read_bytes().startswith(first)
    assert [row.sample_id for row in read_takedowns(layout)] == ["t/a", "t/ü", "t/b"]
    assert layout.takedowns() not in layout.everything(), "--overwrite keeps it"


@pytest.mark.parametrize("text", ["", "sample_id\n", "a,b\nc,d\n", b"\xff\xfe".decode("latin1")])
def test_a_damaged_ledger_is_no_empty_one(layout: RunLayout, text: str) -> None:
    Path(layout.takedowns()).write_text(text)
    with pytest.raises(ValueError, match=r"takedowns\.csv is damaged"):
        read_takedowns(layout)


def test_copies_are_plain_rows(layout: RunLayout) -> None:
    (row,) = _found(layout, "u/alone").rows
    assert isinstance(row, Copy)
    assert json.dumps([row.sample_id, row.relation]) == '["u/alone", "asked"]'
