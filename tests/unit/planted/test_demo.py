"""The demo: counts as planned, truth that fits the shards, the same bytes each time."""

from __future__ import annotations

import collections
import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from onceseen.planted.composites import COMPOSITES
from onceseen.planted.demo import build_demo, main
from onceseen.planted.imaging import decode_rgb
from onceseen.planted.pages import blank_picture, template_page
from onceseen.planted.plan import UNTOUCHED, DemoConfig, plan_images, read_photos
from onceseen.planted.transforms import TRANSFORMS

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
DRAWN = {"blank", "page"}
BROKEN = {"truncated", "empty", "text_as_jpg", "header_only"}
SMALL = DemoConfig(num_shards=3, counts=((6, 4), (5, 4), (2, 3)), failed_downloads=5)


def read_manifest(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fifth of the bundled photographs, and those that the demo halves."""
    directory = tmp_path_factory.mktemp("photos")
    with (PHOTOS / "LICENSES.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    taken = [row for i, row in enumerate(rows) if i % 5 == 0 or Path(row["file"]).stem in SMALL.halves]
    with (directory / "LICENSES.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(taken)
    for row in taken:
        shutil.copy(PHOTOS / row["file"], directory)
    return directory


@pytest.fixture(scope="module")
def demo(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo")
    build_demo(photos, output, SMALL)
    return output


@pytest.fixture(scope="module")
def images(demo: Path) -> dict[str, bytes]:
    read = {}
    for shard in sorted((demo / "shards").glob("*.tar")):
        for item in wds.WebDataset(str(shard), shardshuffle=False, empty_check=False):
            data = next(item[name] for name in ("jpg", "png", "webp") if name in item)
            read[f"{shard.stem}/{item['__key__']}"] = data
    return read


def digest(directory: Path) -> dict[str, str]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_two_builds_are_the_same_and_another_seed_is_not(photos: Path, demo: Path, tmp_path: Path) -> None:
    build_demo(photos, tmp_path / "again", SMALL)
    assert digest(demo) == digest(tmp_path / "again")
    build_demo(photos, tmp_path / "other", DemoConfig(1, 3, SMALL.counts, failed_downloads=5))
    assert digest(demo)["manifest.csv"] != digest(tmp_path / "other")["manifest.csv"]


def test_manifest_names_every_sample_once_for_each_source(demo: Path, images: dict[str, bytes]) -> None:
    rows = read_manifest(demo / "manifest.csv")
    assert {row["file"] for row in rows} == set(images)
    repeats = collections.Counter(row["file"] for row in rows)
    for row in rows:
        composite = COMPOSITES.get(row["transform"])
        assert repeats[row["file"]] == (composite.sources if composite else 1)
    known = UNTOUCHED | set(TRANSFORMS) | set(COMPOSITES) | DRAWN | BROKEN
    assert {row["transform"] for row in rows} <= known


def test_copies_are_as_many_as_planned(photos: Path, demo: Path) -> None:
    rows = [
        row for row in read_manifest(demo / "manifest.csv") if row["transform"] not in {*COMPOSITES, "blank"}
    ]
    copies = collections.Counter(row["source_id"] for row in rows)
    histogram = collections.Counter(count for count in copies.values() if count > 1)
    assert histogram == {6: 4, 5: 4, 2: 3}
    originals = [row["source_id"] for row in rows if row["transform"] == "original"]
    assert len(originals) == len(set(originals)) == len(read_photos(photos)) - len(SMALL.halves)


def test_untouched_copies_have_the_bytes_of_the_photograph(
    photos: Path, demo: Path, images: dict[str, bytes]
) -> None:
    rows = read_manifest(demo / "manifest.csv")
    untouched = [row for row in rows if row["transform"] in UNTOUCHED]
    assert {row["transform"] for row in untouched} == UNTOUCHED
    for row in untouched:
        assert images[row["file"]] == (photos / f"{row['source_id']}.jpg").read_bytes()


def test_halves_never_appear_with_their_whole(demo: Path) -> None:
    sources = {row["source_id"] for row in read_manifest(demo / "manifest.csv")}
    for name in SMALL.halves:
        assert {f"{name}#left_half", f"{name}#right_half"} <= sources
        assert name not in sources


def test_blanks_are_distinct_in_pixels_but_for_the_placeholder(demo: Path, images: dict[str, bytes]) -> None:
    blanks = [row for row in read_manifest(demo / "manifest.csv") if row["transform"] == "blank"]
    pixels = collections.defaultdict(set)
    for row in blanks:
        pixels[row["source_id"]].add(decode_rgb(images[row["file"]]).tobytes())
    assert len(blanks) == SMALL.blanks + SMALL.blank_copies
    assert len(pixels) == SMALL.blanks
    assert all(len(values) == 1 for values in pixels.values())
    assert len({next(iter(values)) for values in pixels.values()}) == SMALL.blanks


def test_every_sample_but_the_broken_ones_decodes(demo: Path, images: dict[str, bytes]) -> None:
    for row in read_manifest(demo / "manifest.csv"):
        if row["transform"] not in BROKEN:
            assert min(decode_rgb(images[row["file"]]).shape[:2]) >= 64
        elif row["transform"] != "truncated":
            with pytest.raises(ValueError, match="cannot decode"):
                decode_rgb(images[row["file"]])


def test_copies_cross_shards_and_failed_downloads_are_rows_without_samples(demo: Path) -> None:
    shards = collections.defaultdict(set)
    for row in read_manifest(demo / "manifest.csv"):
        shards[row["source_id"]].add(row["file"].partition("/")[0])
    assert max(len(names) for names in shards.values()) == SMALL.num_shards
    statuses: collections.Counter[str] = collections.Counter()
    for sidecar in (demo / "shards").glob("*.parquet"):
        statuses.update(pq.read_table(sidecar).column("status").to_pylist())
    assert statuses["failed_to_download"] == SMALL.failed_downloads


def test_recaptioned_copies_have_another_caption(demo: Path) -> None:
    titles = {photo.source_id: photo.title for photo in read_photos(PHOTOS)}
    captions = {}
    for sidecar in sorted((demo / "shards").glob("*.parquet")):
        for row in pq.read_table(sidecar).to_pylist():
            captions[f"{sidecar.stem}/{row['key']}"] = row["caption"]
    rows = [row for row in read_manifest(demo / "manifest.csv") if row["transform"] in UNTOUCHED]
    for row in rows:
        if row["transform"] == "recaptioned":
            assert captions[row["file"]] != titles[row["source_id"]]
        if row["transform"] == "original":
            assert captions[row["file"]] == titles[row["source_id"]]


@pytest.mark.parametrize(("layout", "suffix"), [("parquet", ""), ("folder", ".jpg")])
def test_other_layouts_have_the_same_truth(
    photos: Path, demo: Path, tmp_path: Path, layout: str, suffix: str
) -> None:
    build_demo(photos, tmp_path, SMALL, layout)
    tar_rows, rows = read_manifest(demo / "manifest.csv"), read_manifest(tmp_path / "manifest.csv")
    assert [(row["source_id"], row["transform"]) for row in rows] == [
        (row["source_id"], row["transform"]) for row in tar_rows
    ]
    original = next(row for row in rows if row["transform"] == "original")
    assert original["file"].endswith(suffix)
    if layout == "folder":
        assert all((tmp_path / "shards" / row["file"]).is_file() for row in rows)


def test_the_default_plan_spreads_counts_from_1_to_40() -> None:
    planned = plan_images(read_photos(PHOTOS), DemoConfig())
    copies = collections.Counter(i.source_ids[0] for i in planned if len(i.sources) == 1)
    histogram = collections.Counter(copies.values())
    assert 700 <= len(planned) <= 1000
    assert (min(histogram), max(histogram)) == (1, 40)
    assert all(histogram[count] == sources for count, sources in DemoConfig().counts)
    scenes = collections.Counter(photo.scene for photo in read_photos(PHOTOS) if photo.scene)
    assert min(scenes.values()) >= 2


def test_pages_share_the_template_and_differ_in_text() -> None:
    one, two = (template_page(np.random.default_rng(seed)) for seed in (1, 2))
    assert np.array_equal(one[:60], two[:60])
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.7
    assert not np.array_equal(one, two)
    assert np.ptp(blank_picture(5).reshape(-1, 3), axis=0).max() == 0


def test_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--photos", str(tmp_path), "--output", str(tmp_path / "out")])
    assert error.value.code == 2
    assert "LICENSES.csv" in capsys.readouterr().err
    (tmp_path / "out" / "shards").mkdir(parents=True)
    with pytest.raises(ValueError, match="--overwrite"):
        build_demo(photos, tmp_path / "out", SMALL)


def test_configs_that_cannot_be_are_refused() -> None:
    photos = read_photos(PHOTOS)
    with pytest.raises(ValueError, match="at least 2 copies"):
        DemoConfig(counts=((1, 4),))
    with pytest.raises(ValueError, match="number of photographs"):
        plan_images(photos, DemoConfig(counts=((2, 500),)))
    with pytest.raises(ValueError, match="halves"):
        plan_images(photos, DemoConfig(halves=("no-such-photo",)))
    with pytest.raises(ValueError, match="num_shards"):
        DemoConfig(num_shards=0)
