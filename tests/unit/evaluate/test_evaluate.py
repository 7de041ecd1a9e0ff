"""A run against its truth, with every number worked out by hand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, pair, picture

from onceseen.core.config import KeepConfig, PipelineConfig
from onceseen.core.files import read_bytes, read_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, ShardKind, Verdict
from onceseen.evaluate import Evaluation, evaluate_run, read_truth
from onceseen.evaluate.cli import add_arguments, run

A, B, C, D = (jpeg(picture(seed)) for seed in (1, 2, 3, 4))


def _small(data: bytes, seed: int) -> bytes:
    return jpeg(picture(seed), 40)


# Source a: original a0, identical a1, jpeg a2 (dropped), crop a3 (kept, scored but not verified).
# Source b: original b0 dropped for its letterboxed copy b1; b2 dropped wrongly for a0; b3 never compared.
# Collage x of a and b (kept). Source c alone. d0 fails, its copy d1 is kept.
SAMPLES = [
    Planted("s/a0", A),
    dropped("s/a1", A, "s/a0", "bytes"),
    dropped("s/a2", _small(A, 1), "s/a0", score=0.95, evidence=("s/a0", "s/a2")),
    Planted("s/a3", jpeg(picture(1)[:50, :60])),
    dropped("s/b0", B, "s/b1", score=0.8),
    Planted("s/b1", jpeg(picture(2), 30)),
    dropped("s/b2", jpeg(picture(2), 35), "s/a0", "embedding", score=0.6),
    Planted("s/b3", jpeg(picture(2), 45)),
    Planted("s/c0", C),
    failed("s/d0", "decode_error"),
    Planted("s/d1", D),
    Planted("s/x", jpeg(picture(7))),
]
PAIRS = [
    pair("s/a0", "s/a1", "bytes"),
    pair("s/a1", "s/a2", score=0.95),  # through the class of a0 and a1
    pair("s/a0", "s/a3", verified=False, score=0.4),
    pair("s/b0", "s/b1", score=0.8),
    pair("s/a0", "s/b2", "embedding", score=0.6),
    pair("s/a0", "s/x", verified=True, score=0.99, coverage_a=1.0, coverage_b=0.5),
    pair("s/a0", "s/c0", verified=False, score=0.1),
]
MANIFEST = """file,source_id,transform
s/a0,a,original
s/a1,a,exact
s/a2,a,jpeg
./s/a3,a,crop
s/b0,b,original
s/b1,b,letterbox
s/b2,b,jpeg
s/b3,b,resize
s/c0,c,original
s/d0,d,original
s/d1,d,jpeg
s/x,a,collage
s/x,b,collage
"""


def _manifest(tmp_path: Path, text: str = MANIFEST) -> str:
    path = tmp_path / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return SmallRun(tmp_path, SAMPLES, PAIRS).write()


@pytest.fixture
def evaluation(layout: RunLayout, tmp_path: Path) -> Evaluation:
    return evaluate_run(layout, _manifest(tmp_path))


def test_wrong_drops(evaluation: Evaluation) -> None:
    assert [row.sample_id for row in evaluation.removal.wrong] == ["s/b2"]
    wrong = evaluation.removal.to_json()["wrong_drops"]
    assert isinstance(wrong, dict)
    assert (wrong["hits"], wrong["total"]) == (1, 4)


def test_redundant_copies_removed(evaluation: Evaluation) -> None:
    removal = evaluation.removal
    assert removal.redundant == 3 + 3  # a: 4 samples; b: 4 samples; c: 1; d: 1 judged; the collage none
    assert removal.removed == 2 + 1  # a1, a2; b0, since b2 was dropped for another source
    assert removal.macro_share == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert removal.sources == 2
    assert removal.lost_sources == []


def test_kept_in_place_of_the_original(evaluation: Evaluation) -> None:
    assert evaluation.removal.in_place_by == {"letterbox": 1}
    assert evaluation.removal.in_place[0].original.sample_id == "s/b0"
    assert evaluation.removal.identical_in_place == 0


def test_copies_found_from_their_originals(evaluation: Evaluation) -> None:
    copies = evaluation.copies
    rows = {row.transform: (row.verified.hits, row.verified.total, row.scored) for row in copies.by_transform}
    assert rows == {
        "crop": (0, 1, 1),
        "exact": (1, 1, 1),
        "jpeg": (1, 2, 1),  # a2 through a1's class; b2 was never compared with b0; d0 failed, so d1 is out
        "letterbox": (1, 1, 1),
        "resize": (0, 1, 0),
        "collage": (1, 2, 1),
    }
    assert [row.transform for row in copies.by_transform if not row.whole] == ["collage"]
    assert (copies.overall.verified.hits, copies.overall.verified.total) == (3, 6)


def test_micro_ap(evaluation: Evaluation) -> None:
    # True: exact 1.0, jpeg .95, letterbox .8, crop .4, two missed. False, of class {a0, a1} and a sample: only pairs
    # with the original a0 count: b2 .6, c0 .1. The collage is neither.
    assert evaluation.copies.false_pairs == 3  # b2 and c0 with a0; c0, itself an original, with a1
    expected = (1 / 1 + 2 / 2 + 3 / 3 + 4 / 5) / 6
    assert evaluation.copies.overall.micro_ap == pytest.approx(expected)


def test_all_pairs(evaluation: Evaluation) -> None:
    pairs = evaluation.pairs
    assert pairs.total == 6 + 6
    assert pairs.verified == 3 + 1  # a0-a1, a0-a2, a1-a2; b0-b1
    assert pairs.scored == 5 + 1  # and a0-a3, a1-a3
    assert pairs.same_group == 3 + 1
    assert pairs.false_verified == 2  # b2 with a0 and a1


def test_what_is_written(layout: RunLayout, evaluation: Evaluation, tmp_path: Path) -> None:
    data = read_json(layout.stats("evaluation.json"))
    assert data == evaluation.to_json()
    assert data["failed"] == 1
    first = read_bytes(layout.stats("evaluation.json")), read_bytes(layout.stats("evaluate.html"))
    evaluate_run(layout, _manifest(tmp_path))
    assert (read_bytes(layout.stats("evaluation.json")), read_bytes(layout.stats("evaluate.html"))) == first
    html = first[1].decode("utf-8")
    assert 'alt="Picture of s/b2"' in html
    assert "dropped: jpeg" in html
    assert "kept: letterbox" in html


def test_the_text_names_what_went_wrong(evaluation: Evaluation) -> None:
    text = evaluation.to_text()
    assert "wrong: s/b2 for s/a0 (embedding, score 0.600)" in text
    assert "letterbox s/b1 kept, its original s/b0 dropped" in text
    assert "0.500 (3 of 6" in text


def test_an_original_dropped_for_equal_pixels_is_no_fault(tmp_path: Path) -> None:
    samples = [Planted("s/a", A), dropped("s/b", A, "s/a", "pixels")]
    layout = SmallRun(tmp_path, samples, [pair("s/a", "s/b", "pixels")]).write()
    manifest = _manifest(tmp_path, "file,source_id,transform\ns/a,1,png\ns/b,1,original\n")
    removal = evaluate_run(layout, manifest).removal
    assert removal.identical_in_place == 1
    assert removal.in_place == []
    assert removal.macro_share == 1


def test_a_source_left_inside_a_collage_alone_is_lost(tmp_path: Path) -> None:
    samples = [Planted("s/x", B), dropped("s/a", A, "s/x"), dropped("s/b", jpeg(picture(1), 50), "s/x")]
    layout = SmallRun(tmp_path, samples, [pair("s/a", "s/x"), pair("s/b", "s/x")]).write()
    text = "file,source_id,transform\ns/x,1,collage\ns/x,2,collage\ns/a,1,original\ns/b,1,jpeg\n"
    removal = evaluate_run(layout, _manifest(tmp_path, text)).removal
    assert removal.lost_sources == ["1"]
    assert removal.wrong == []
    assert (removal.removed, removal.redundant) == (1, 1)
    assert removal.in_place_by == {"collage": 1}


def test_copies_that_the_run_was_told_to_keep_are_not_missed(tmp_path: Path) -> None:
    samples = [Planted("s/a", A), Planted("s/b", A, under="s/a"), dropped("s/c", A, "s/a", "bytes")]
    config = PipelineConfig(keep=KeepConfig(max_copies=2))
    pairs = [pair("s/a", "s/b", "bytes"), pair("s/a", "s/c", "bytes")]
    layout = SmallRun(tmp_path, samples, pairs, config).write()
    text = "file,source_id,transform\ns/a,1,original\ns/b,1,exact\ns/c,1,exact\n"
    removal = evaluate_run(layout, _manifest(tmp_path, text)).removal
    assert (removal.removed, removal.redundant, removal.macro_share) == (1, 1, 1.0)


def test_gaps_between_manifest_and_run_are_reported(layout: RunLayout, tmp_path: Path) -> None:
    text = MANIFEST.replace("s/b2,b,jpeg\n", "s/gone,b,jpeg\n")
    evaluation = evaluate_run(layout, _manifest(tmp_path, text))
    assert evaluation.truth.unknown_files == ("s/gone",)
    assert evaluation.truth.unlabelled == ("s/b2",)
    assert evaluation.removal.unlabelled == 1
    assert evaluation.removal.wrong == []
    assert "1 file of the manifest not in the run: s/gone" in evaluation.to_text()


def test_a_persons_drop_is_not_judged(tmp_path: Path) -> None:
    samples = [Planted("s/a", A), Planted("s/b", B, verdict=Verdict.DROP, kind="decision")]
    layout = SmallRun(tmp_path, samples).write()
    text = "file,source_id,transform\ns/a,1,original\ns/b,2,original\n"
    removal = evaluate_run(layout, _manifest(tmp_path, text)).removal
    assert (removal.decided, removal.wrong, removal.lost_sources) == (1, [], ["2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,source,transform\n", "the header is"),
        ("file,source_id,transform\ns/a0,a\n", "line 2: got"),
        ("file,source_id,transform\ns/a0,,original\n", "line 2: got"),
        ("file,source_id,transform\ns/a0,a,original\ns/a0,a,jpeg\n", "line 3: s/a0 is 'jpeg' of source 'a'"),
        ("file,source_id,transform\nother,a,original\n", r"names none of the run's 12 samples.*\['other'\]"),
    ],
)
def test_a_bad_manifest_is_refused(layout: RunLayout, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_run(layout, _manifest(tmp_path, text))


def _folder(prefix: str) -> Shard:
    return Shard(0, "_root", ShardKind.FOLDER, "pictures", 1, "m", (), prefix)


def test_in_folders_a_file_is_a_path_in_src(tmp_path: Path) -> None:
    text = "file,source_id,transform\nsub/é.jpg,1,original\n"
    truth = read_truth(_manifest(tmp_path, text), ["one/sub/é.jpg"], [_folder("one/")])
    assert truth.sources("one/sub/é.jpg") == {"1"}


def test_a_path_that_is_in_two_sources_is_ambiguous(tmp_path: Path) -> None:
    text = "file,source_id,transform\nx.jpg,1,original\n"
    with pytest.raises(ValueError, match="give the sample_id"):
        read_truth(_manifest(tmp_path, text), ["one/x.jpg", "two/x.jpg"], [_folder("one/"), _folder("two/")])


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_command(layout: RunLayout, tmp_path: Path, capsys: Any) -> None:
    assert run(_parse(layout.root, "--truth", _manifest(tmp_path))) == 0
    assert "wrong drops" in capsys.readouterr().out
    assert run(_parse(layout.root, "--truth", str(tmp_path / "none.csv"))) == 2
    assert "none.csv is not there" in capsys.readouterr().err
    assert run(_parse(str(tmp_path), "--truth", _manifest(tmp_path))) == 2
    assert "not a run directory" in capsys.readouterr().err
