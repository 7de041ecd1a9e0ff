"""The detector's demo: no scene on both sides, queries named by what they are, and a check that counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from onceseen.core.files import write_table
from onceseen.planted.plan import DemoConfig, read_photos
from onceseen.planted.queries import check, deal, main, plant
from planted_demo import PHOTOS

FEW = DemoConfig(
    num_shards=1,
    counts=((2, 1),),
    halves=(),
    blanks=1,
    blank_copies=0,
    pages=0,
    composites=(),
    broken=False,
    failed_downloads=0,
)


def test_no_scene_is_on_both_sides() -> None:
    photos = read_photos(PHOTOS)
    known, unknown = deal(photos)
    assert sorted([*known, *unknown], key=lambda p: p.file) == photos
    assert not {p.scene or p.source_id for p in known} & {p.scene or p.source_id for p in unknown}
    assert min(len(known), len(unknown)) > 60
    scene = replace(known[0], scene="one")
    assert sorted(map(len, deal([scene, replace(known[1], scene="one")]))) == [0, 2]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("detector")
    copies, others = plant(PHOTOS, output, FEW, copies=4)
    assert copies == 4
    assert others == len(deal(read_photos(PHOTOS))[1])
    return output


def test_queries_are_named_by_what_they_are(planted: Path) -> None:
    names = {path.name for path in (planted / "queries").iterdir()}
    known, unknown = deal(read_photos(PHOTOS))
    assert {n for n in names if n.startswith("other-")} == {f"other-{p.file}" for p in unknown}
    copies = {n for n in names if n.startswith("copy-")}
    assert len(copies) == 4
    assert all(any(n.startswith(f"copy-{p.source_id}-") for p in known) for n in copies)
    assert [path.name for path in (planted / "training" / "shards").glob("*.tar")] == ["00000.tar"]


def test_a_check_counts_both_kinds(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = sorted(path.name for path in (planted / "queries").iterdir())
    said = ["duplicate" if n.startswith("copy") else "clear" for n in names]
    said[names.index(next(n for n in names if n.startswith("other")))] = "near"
    write_table(str(tmp_path / "flagged.parquet"), pa.table({"query_id": names, "verdict": said}))
    others = len(names) - 4
    assert check(planted, tmp_path).splitlines() == [
        "4 copies of training pictures: 4 duplicate, 0 near, 0 clear, 0 failed",
        f"{others} other pictures: 0 duplicate, 1 near, {others - 1} clear, 0 failed",
    ]
    write_table(str(tmp_path / "flagged.parquet"), pa.table({"query_id": ["a"], "verdict": ["clear"]}))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(planted), str(tmp_path)])
    assert ended.value.code == 2
    assert "is no scan of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["plant", "--photos", str(PHOTOS), "--output", str(planted)])
    assert "expected a new directory" in capsys.readouterr().err
