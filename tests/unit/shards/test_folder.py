"""Folders of images: ids, captions, splitting, unreadable files, and the rewrite."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.unit.shards.shard_tools import READ, WRITE, picture, read_all, rewrite, verdict

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.failures import FailureReason
from onceseen.core.records import ShardKind
from onceseen.shards import WantedImage, list_shards, read_images, rewrite_shard


def _fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


FILES = {
    "b.JPG": b"1",
    "b.txt": b"caption of b",
    "a.png": b"2",
    "a.png.json": b'{"caption": "json of a", "url": "u"}',
    "sub/dir/c.webp": b"3",
    "sub/dir/c.caption": b"of c",
    "sub/orphan.txt": b"no picture here",
    "notes.md": b"no sample",
    ".hidden.jpg": b"x",
    "_SUCCESS": b"",
}


def test_a_shard_is_a_directory_and_an_id_a_path(tmp_path: Path) -> None:
    shards = list_shards([str(_fill(tmp_path / "photos", FILES))], READ)
    assert [(s.number, s.name, s.kind) for s in shards] == [
        (0, "_root", ShardKind.FOLDER),
        (1, "sub/dir", ShardKind.FOLDER),
    ]
    assert shards[0].files == ("a.png", "a.png.json", "b.JPG", "b.txt")
    assert shards[0].size == sum(len(FILES[name]) for name in shards[0].files)
    root, _ = read_all(shards[0])
    sub, _ = read_all(shards[1])
    assert [(s.key, s.sample_id, s.image, s.caption, s.extension) for s in (*root, *sub)] == [
        ("a.png", "a.png", b"2", "json of a", "png"),
        ("b.JPG", "b.JPG", b"1", "caption of b", "jpg"),
        ("c.webp", "sub/dir/c.webp", b"3", "of c", "webp"),
    ]
    assert root[0].meta == '{"url": "u"}'
    assert (sub[0].member, sub[0].member_offset, sub[0].member_size) == ("sub/dir/c.webp", -1, 1)


def test_several_folders_are_prefixed(tmp_path: Path) -> None:
    one, two = (_fill(tmp_path / name, {"a.jpg": b"1", "s/a.jpg": b"2"}) for name in ("one", "two"))
    shards = list_shards([str(two), str(one)], READ)
    assert [s.name for s in shards] == ["one/_root", "one/s", "two/_root", "two/s"]
    ids = [s.sample_id for shard in shards for s in read_all(shard)[0]]
    assert ids == ["one/a.jpg", "one/s/a.jpg", "two/a.jpg", "two/s/a.jpg"]
    for shard in shards:
        rewrite(shard, tmp_path / "out", write=WriteConfig(member=False))
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert written == ids


def test_large_folders_are_split_by_a_fixed_hash(tmp_path: Path) -> None:
    files = {f"d/{i:03d}.jpg": picture(i, 10) for i in range(100)} | {
        f"d/{i:03d}.txt": b"c" for i in range(100)
    }
    config = ReadConfig(folder_split=30)
    shards = list_shards([str(_fill(tmp_path / "in", files))], config)
    assert [s.name for s in shards] == [f"d.{i:05d}-of-00004" for i in range(4)]
    ids = [s.sample_id for shard in shards for s in read_all(shard)[0]]
    assert sorted(ids) == [f"d/{i:03d}.jpg" for i in range(100)]
    assert all(s.caption == "c" for shard in shards for s in read_all(shard)[0])
    assert all(10 < len(s.files) / 2 < 45 for s in shards)
    (tmp_path / "in" / "d" / "new.txt").write_bytes(b"")
    again = list_shards([str(tmp_path / "in")], config)
    assert sorted(len(set(a.files) ^ set(b.files)) for a, b in zip(shards, again, strict=True)) == [
        0,
        0,
        0,
        1,
    ]


def test_the_mark_tells_a_change(tmp_path: Path) -> None:
    root = _fill(tmp_path / "in", {"a.jpg": b"1", "b.jpg": b"2"})
    before = list_shards([str(root)], READ)
    assert list_shards([str(root)], READ) == before
    os.utime(root / "a.jpg", ns=(1, 1))
    assert list_shards([str(root)], READ)[0].mark != before[0].mark


def test_files_that_cannot_be_judged(tmp_path: Path) -> None:
    root = _fill(
        tmp_path / "in", {"empty.jpg": b"", "big.jpg": b"x" * 50, "fine.jpg": b"1", "fine.txt": b"c"}
    )
    (root / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    config = ReadConfig(max_bytes=40)
    shard = list_shards([str(root)], config)[0]
    samples, failures = read_all(shard, config)
    assert not failures
    assert [(s.key, s.error) for s in samples] == [
        ("big.jpg", FailureReason.TOO_MANY_BYTES),
        ("dangling.jpg", FailureReason.NO_IMAGE),
        ("empty.jpg", FailureReason.EMPTY_IMAGE),
        ("fine.jpg", None),
    ]
    summary = rewrite(shard, tmp_path / "out", read=config)
    assert (summary.kept, summary.failed) == (1, 3)
    assert len(summary.warnings) == 1
    assert "dangling.jpg" in summary.warnings[0]
    assert (tmp_path / "out" / "big.jpg").read_bytes() == b"x" * 50


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    raw = os.path.join(os.fsencode(root), b"caf\xe9.jpg")
    with open(raw, "wb") as stream:
        stream.write(b"1")
    (root / "caf%E9.jpg").write_bytes(b"2")
    shard = list_shards([str(root)], READ)[0]
    samples, _ = read_all(shard)
    assert [(s.key, s.image) for s in samples] == [("caf%E9.jpg", b"2"), ("caf%E9.jpg#2", b"1")]
    rewrite(shard, tmp_path / "out", ["caf%E9.jpg"], write=WriteConfig(member=False))
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"caf\xe9.jpg"]


def test_pictures_read_again(tmp_path: Path) -> None:
    shard = list_shards([str(_fill(tmp_path / "in", {f"{i}.jpg": picture(i) for i in range(9)}))], READ)[0]
    wanted = [WantedImage(i, f"{i}.jpg", f"{i}.jpg", -1, 900) for i in (7, 2, 4)]
    assert list(read_images(shard, READ, wanted)) == [(i, picture(i)) for i in (2, 4, 7)]
    with pytest.raises(ValueError, match="not in row 3"):
        list(read_images(shard, READ, [WantedImage(3, "4.jpg", "4.jpg", -1, 1)]))


def test_rewrite_copies_files_and_what_lies_beside(tmp_path: Path) -> None:
    root = _fill(tmp_path / "in", FILES)
    shards = list_shards([str(root)], READ)
    summary = rewrite(shards[0], tmp_path / "out", ["a.png"])
    rewrite(shards[1], tmp_path / "out")
    written = sorted(
        str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()
    )
    kept = ["b.JPG", "b.txt", "sub/dir/c.caption", "sub/dir/c.webp"]
    assert written == sorted([*kept, "b.JPG.onceseen.json", "sub/dir/c.webp.onceseen.json"])
    assert all((tmp_path / "out" / name).read_bytes() == FILES[name] for name in kept)
    assert json.loads((tmp_path / "out" / "b.JPG.onceseen.json").read_text())["sample_id"] == "b.JPG"
    assert (summary.kept, summary.dropped, summary.members_copied, summary.members_added) == (1, 1, 2, 1)
    assert summary.bytes_read == len(FILES["b.JPG"]) + len(FILES["b.txt"])


def test_a_second_rewrite_removes_what_is_now_dropped(tmp_path: Path) -> None:
    files = {"a.jpg": b"1", "a.png": b"2", "a.txt": b"shared", "b.jpg": b"3", "b.txt": b"own"}
    shard = list_shards([str(_fill(tmp_path / "in", files))], READ)[0]
    out = tmp_path / "out"
    rewrite(shard, out)
    rewrite(shard, out, ["a.jpg", "b.jpg"])
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "a.png.onceseen.json", "a.txt"]
    rewrite(shard, out, ["b.jpg"], write=WriteConfig(member=False))
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg", "a.png", "a.txt"]


def test_a_kept_file_that_vanished_stops_the_rewrite(tmp_path: Path) -> None:
    shard = list_shards([str(_fill(tmp_path / "in", {"a.jpg": b"1", "b.jpg": b"2"}))], READ)[0]
    samples, _ = read_all(shard)
    (tmp_path / "in" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        rewrite_shard(shard, {s.key: verdict(s) for s in samples}, str(tmp_path / "out"), READ, WRITE)
