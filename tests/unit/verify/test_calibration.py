from __future__ import annotations

import json
from pathlib import Path

import pytest

from onceseen.verify import load_calibration
from onceseen.verify.calibration import SHIPPED, Logistic, Model


def test_the_shipped_file_says_where_it_comes_from() -> None:
    found = load_calibration("")
    assert found.provenance["pairs"] > 1000
    assert "stored features, then pixels" in found.provenance
    for model in (found.thumbs, found.pixels):
        assert all(w >= 0 for w in (*model.same.weights, *model.drawn.weights))


def test_a_copy_of_the_shipped_file_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(SHIPPED.read_bytes())
    assert load_calibration(str(path)) == load_calibration("")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=1),
        lambda d: d.pop("thumbs"),
        lambda d: d["pixels"]["same"].update(weights=[1.0]),
        lambda d: d["pixels"]["same"]["weights"].__setitem__(0, -1.0),
        lambda d: d["thumbs"]["drawn"].update(bias=float("nan")),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, change: object) -> None:
    data = json.loads(SHIPPED.read_text())
    change(data)  # type: ignore[operator]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"verify\.calibration is .*bad\.json.*calibrate\.py"):
        load_calibration(str(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"verify\.calibration"):
        load_calibration(str(tmp_path / "none.json"))


def test_scores_are_products_rounded_and_need_every_feature() -> None:
    model = Model(Logistic(("x",), (2.0,), -1.0), Logistic(("y",), (1.0,), 0.0))
    assert model.score({"x": 0.5, "y": 0.0}) == 0.25
    assert model.score({"x": 1e9, "y": 1e9}) == 1.0
    with pytest.raises(ValueError, match="'y'"):
        model.score({"x": 0.5})
