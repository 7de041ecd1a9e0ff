"""`Reference`: planted copies are found, other pictures are clear, and nothing that does not fit is opened."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import shutil
import tarfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from detector.conftest import Planted
from onceseen import Check, Reference
from onceseen.cli import main
from onceseen.core.files import read_json, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_shards
from onceseen.core.records import node_row, node_shard
from onceseen.detect import Finding
from onceseen.fingerprint import decode_image
from onceseen.planted.transforms import apply_transform
from onceseen.reference import SourceUnreachableError
from onceseen.verify.dossiers import Dossier, rows_of
from planted_demo import PHOTOS

TRANSFORMS = (
    *("jpeg30", "jpeg50", "jpeg70", "jpeg90", "png", "webp", "resize_down", "resize_up", "crop10", "crop20"),
    *("crop30", "mirrored", "text", "watermark", "logo", "letterbox", "pillarbox", "frame", "grey"),
    *("brightness", "contrast"),
)


def copy_of(photo: Path, transform: str) -> bytes:
    rng = np.random.default_rng(zlib.crc32(f"{photo.stem}/{transform}".encode()))
    return apply_transform(transform, decode_image(photo.read_bytes(), 10**9).rgb, rng).data


def run_copy(planted: Planted, place: Path) -> Path:
    """The run, moved, without its index."""
    shutil.copytree(planted.run, place, ignore=shutil.ignore_patterns("index"))
    return place


def edited(run: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = read_json(str(run / "run.json"))
    change(content)
    write_json(str(run / "run.json"), content)
    return run


def plain(checks: list[Check]) -> list[dict[str, Any]]:
    return [check.to_json() for check in checks]


def test_copies_by_every_transform_are_found_with_their_source(
    planted: Planted, reference: Reference
) -> None:
    photos = planted.known()[2::9]
    queries = [(photo, name) for photo in photos for name in TRANSFORMS]
    found = reference.check([copy_of(*query) for query in queries])
    missed = []
    for (photo, name), check in zip(queries, found, strict=True):
        if check.match is not None:
            assert planted.sources[check.match.reference_id] == {photo.stem}, (photo.stem, name)
        if check.finding != Finding.DUPLICATE:
            missed.append((photo.stem, name, str(check.finding)))
    assert len(photos) >= 3
    assert len(missed) <= 0.05 * len(queries), missed


def test_other_photographs_are_clear(planted: Planted, reference: Reference) -> None:
    photos = planted.unknown()[::4]
    assert len(photos) >= 20
    found = reference.check(photos)
    assert [
        (p.stem, str(c.finding)) for p, c in zip(photos, found, strict=True) if c.finding != "clear"
    ] == []


def test_every_sample_of_the_run_is_found_dropped_ones_too(planted: Planted, reference: Reference) -> None:
    seen = set()
    for shard in sorted((planted.demo / "shards").glob("*.tar")):
        rows = pq.read_table(planted.run / "verdicts" / f"{shard.stem}.parquet").to_pylist()
        features = pq.read_table(planted.run / "features" / f"{shard.stem}.parquet").to_pylist()
        with tarfile.open(shard) as tar:
            for row, feature in zip(rows, features, strict=True):
                data = tar.extractfile(feature["member"]).read()  # type: ignore[union-attr]
                (check,) = reference.check(data)
                seen.add(row["verdict"])
                if row["verdict"] == "failed":
                    assert (check.finding, check.reason) == (Finding.FAILED, feature["status"])
                    continue
                assert check.match is not None
                assert check.reference is not None
                assert (check.finding, check.match.kind) == (Finding.DUPLICATE, "bytes")
                known = check.reference
                assert known.copies == row["copies"]
                assert known.representative_id == row["representative_id"]
                assert (known.component_id, known.component_size) == (
                    row["component_id"],
                    row["component_size"],
                )
                assert known.verdict in ("keep", "drop")
                assert known.sample_id.startswith(f"{known.shard}/")
    assert seen == {"keep", "drop", "failed"}


def test_a_stored_picture_has_the_side_that_match_judged(planted: Planted, reference: Reference) -> None:
    layout = RunLayout.at(str(planted.run))
    shards = {shard.number: shard for shard in read_shards(layout)}
    index = reference._searcher._index
    compared = np.flatnonzero(index.samples.records["region"] >= 0)
    assert index.samples.records["regions"][compared].max() == 2
    for sample in compared.tolist():
        node, wanted = index.wanted(sample)
        dossier = Dossier.load(layout, shards[node_shard(node)], rows_of([node]))
        side, stored = index.side(sample), dossier.side(node)
        assert side.order() == stored.order()
        assert wanted == dossier.wanted(node)
        assert node_row(node) == wanted.row
        for mine, theirs in zip(side.regions(), stored.regions(), strict=True):
            assert (mine.box, mine.pdq_quality) == (theirs.box, theirs.pdq_quality)
            for name in ("pdq", "pdq_mirrored", "thumb", "embedding"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_an_answer_does_not_depend_on_the_batch(planted: Planted, reference: Reference) -> None:
    photos = planted.known()[1::6]
    queries = [copy_of(p, name) for p in photos for name in ("crop20", "letterbox", "jpeg30")]
    queries += [p.read_bytes() for p in planted.unknown()[:3]]
    together = plain(reference.check(queries))
    assert together == [plain(reference.check(query))[0] for query in queries]
    assert together == plain(reference.check(queries[::-1]))[::-1]
    with ThreadPoolExecutor(4) as pool:
        assert together == [plain(c)[0] for c in pool.map(reference.check, queries)]


def test_pictures_come_in_many_forms(planted: Planted, reference: Reference, tmp_path: Path) -> None:
    import torch

    photo = planted.known()[3]
    rgb = decode_image(copy_of(photo, "png"), 10**9).rgb
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG")
    (tmp_path / "query.png").write_bytes(buffer.getvalue())
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    forms = [
        buffer.getvalue(),
        tmp_path / "query.png",
        str(tmp_path / "query.png"),
        Image.fromarray(rgb),
        rgb,
        tensor,
        tensor.float() / 255,
    ]
    found = reference.check(forms)
    assert plain(found) == plain(found[:1]) * len(forms)
    assert found[0].finding == Finding.DUPLICATE
    assert len(reference.check(np.stack([rgb, rgb]))) == len(reference.check(torch.stack([tensor] * 2))) == 2
    assert reference.check([]) == []
    for wrong in (rgb.astype(np.float32), rgb[:, :, :2], rgb[0], tensor.permute(1, 2, 0), tensor.float()):
        with pytest.raises(ValueError, match="expected a"):
            reference.check([wrong])
    with pytest.raises(TypeError, match="expected bytes"):
        reference.check([42])
    with pytest.raises(FileNotFoundError):
        reference.check(tmp_path / "nothing.png")


def test_what_cannot_be_decoded_fails_with_its_reason_beside_good_ones(
    planted: Planted, reference: Reference
) -> None:
    good = planted.known()[0].read_bytes()
    found = reference.check([b"", good, good[: len(good) // 2], b"no picture", good])
    assert [(str(c.finding), c.reason) for c in found] == [
        ("failed", "empty_image"),
        ("duplicate", ""),
        ("failed", "truncated_image"),
        ("failed", "unknown_format"),
        ("duplicate", ""),
    ]


def test_a_moved_run_answers_the_same_and_pictures_that_are_gone_are_named(
    planted: Planted, reference: Reference, tmp_path: Path
) -> None:
    moved = run_copy(planted, tmp_path / "moved")
    query = copy_of(planted.known()[4], "crop20")
    assert plain(Reference.open(moved, progress=False).check(query)) == plain(reference.check(query))

    def elsewhere(content: dict[str, Any]) -> None:
        for shard in content["shards"]:
            shard["path"] = f"/nowhere/{shard['name']}.tar"

    edited(moved, elsewhere)
    with pytest.raises(SourceUnreachableError, match=r"/nowhere/.*verify\.local_features=false"):
        Reference.open(moved, progress=False).check(query)
    blind = Reference.open(moved, overrides=["verify.local_features=false"], progress=False)
    assert blind.check(copy_of(planted.known()[4], "jpeg70"))[0].finding == Finding.DUPLICATE


def test_what_does_not_fit_is_refused(planted: Planted, tmp_path: Path) -> None:
    def refused(name: str, change: Callable[[dict[str, Any]], None], match: str, **options: Any) -> None:
        run = edited(run_copy(planted, tmp_path / name), change)
        with pytest.raises(ValueError, match=match):
            Reference.open(run, progress=False, **options)
        assert not (run / "index").exists()

    with pytest.raises(ValueError, match=r"no run\.json"):
        Reference.open(tmp_path / "nowhere", progress=False)
    refused("schema", lambda c: c.update(schema_version=99), "schema version 99")
    refused("unfinished", lambda c: c["jobs"]["match"].update(state="running"), "not finished")
    refused("weights", lambda c: c["model"].update(weights_hash="0" * 64), "other weights")
    other = ["bands.bits=8"]
    refused("bands", lambda _: None, r"bands\.bits is 8", overrides=other)
    refused("none", lambda _: None, "embedded by", overrides=["embed.model=none"])
    refused("unknown", lambda _: None, "unknown config key", overrides=["scan.look=1"])
    with pytest.raises(ValueError, match="remote"):
        Reference.open(planted.run, index="s3://bucket/index", progress=False)


def test_an_index_is_built_once_and_again_when_the_run_was_matched_again(
    planted: Planted, tmp_path: Path
) -> None:
    run = run_copy(planted, tmp_path / "run")
    with ThreadPoolExecutor(3) as pool:  # two of them wait for the third
        opened = list(pool.map(lambda _: Reference.open(run, progress=False), range(3)))
    query = planted.known()[0]
    assert len({json.dumps(plain(r.check(query))) for r in opened}) == 1
    (directory,) = [d for d in (run / "index").iterdir() if d.is_dir()]
    before = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in directory.iterdir()}
    (run / "index" / ".building-1").mkdir()  # of a builder that was killed
    Reference.open(run, progress=False)
    assert {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in directory.iterdir()} == before
    edited(run, lambda c: c["jobs"]["match"].update(fingerprint="0" * 64))
    again = Reference.open(run, progress=False)
    (other,) = [d for d in (run / "index").iterdir() if d.is_dir()]
    assert other != directory
    assert {f.name: f.read_bytes() for f in other.iterdir()} == {k: data for k, (_, data) in before.items()}
    assert plain(again.check(query)) == plain(opened[0].check(query)), "the old files are still mapped"


def test_an_index_may_lie_elsewhere(planted: Planted, reference: Reference, tmp_path: Path) -> None:
    run = run_copy(planted, tmp_path / "run")
    elsewhere = Reference.open(run, index=tmp_path / "cache", progress=False)
    assert not (run / "index").exists()
    query = copy_of(planted.known()[0], "crop10")
    assert plain(elsewhere.check(query)) == plain(reference.check(query))


def test_a_run_by_hashes_alone_is_searched_by_bands(planted: Planted, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ("--set", "embed.model=none", "--set", "cells.enabled=false")
    assert (
        main(["dedup", str(planted.demo / "shards"), "--output", str(run), "--quiet", "--dry-run", *flags])
        == 0
    )
    hashes = Reference.open(run, progress=False)
    for photo in planted.known()[::7]:
        for name in ("jpeg50", "resize_down", "mirrored"):
            (check,) = hashes.check(copy_of(photo, name))
            assert check.finding == Finding.DUPLICATE, (photo.stem, name)
            assert check.match is not None
            assert check.match.cosine is None
            assert planted.sources[check.match.reference_id] == {photo.stem}
    assert {str(c.finding) for c in hashes.check(planted.unknown()[:8])} == {"clear"}


def _in_child(reference: Reference, query: bytes, answers: Any) -> None:
    answers.put(plain(reference.check(query)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_answer_the_same(planted: Planted, reference: Reference, method: str) -> None:
    query = copy_of(planted.known()[5], "crop10")
    expected = plain(reference.check(query))  # the model is loaded here before the fork
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(reference, query, answers))
    child.start()
    child.join(50)
    assert child.exitcode == 0
    assert answers.get() == expected


def test_a_pickled_reference_opens_the_same_run(planted: Planted, reference: Reference) -> None:
    again = pickle.loads(pickle.dumps(reference))
    assert len(again) == len(reference) == len(planted.sources)
    assert again.config == reference.config


def test_the_bundled_photographs_are_where_the_tests_look() -> None:
    assert len(list(PHOTOS.glob("*.jpg"))) > 100
