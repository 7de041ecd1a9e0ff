"""Samples of tars: grouping, captions, and every way in which a tar or a member can be wrong."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from tests.unit.shards.shard_tools import READ, Member, one_shard, picture, read_all, triples, write_tar

from onceseen.core.config import ReadConfig
from onceseen.core.failures import FailureReason
from onceseen.core.records import Shard, ShardKind
from onceseen.shards import WantedImage, read_images


def _read(
    path: Path, members: list[Member], config: ReadConfig = READ
) -> dict[str, tuple[bytes | None, str]]:
    samples, failures = read_all(one_shard(write_tar(path / "s.tar", members)), config)
    assert not failures
    return {s.key: (s.image, str(s.error or "")) for s in samples}


def test_img2dataset_shard(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "00000.tar", triples(5)))
    samples, failures = read_all(shard)
    assert not failures
    assert [s.sample_id for s in samples] == [f"00000/{i:09d}" for i in range(5)]
    assert [s.image for s in samples] == [data for name, data in triples(5) if name.endswith(".jpg")]
    assert [s.caption for s in samples] == [f"caption {i}" for i in range(5)]
    assert [json.loads(s.meta) for s in samples] == [
        {"url": f"https://example.org/{i}.jpg"} for i in range(5)
    ]
    raw = Path(shard.path).read_bytes()
    for sample in samples:
        assert raw[sample.member_offset : sample.member_offset + sample.member_size] == sample.image
        assert sample.member == f"{sample.key}.jpg"
        assert sample.extension == "jpg"


@pytest.mark.parametrize(
    "extension",
    ["jpg", "JPEG", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "image.jpg", "a.b.PNG"],
)
def test_any_image_extension(tmp_path: Path, extension: str) -> None:
    assert _read(tmp_path, [(f"x.{extension}", b"data"), ("x.txt", b"c")]) == {"x": (b"data", "")}


def test_a_plain_image_stands_for_its_sample_before_masks(tmp_path: Path) -> None:
    members = [("x.seg.png", b"mask"), ("x.jpg", b"picture"), ("x.png", b"other"), ("x.depth.png", b"far")]
    members += [("y.jpg", b"third"), ("y.seg.png", b"fourth"), ("z.a.png", b"a"), ("z.b.png", b"b")]
    read = _read(tmp_path, members)
    assert read == {"x": (b"picture", ""), "y": (b"third", ""), "z": (b"a", "")}
    shard = one_shard(tmp_path / "s.tar")
    picture = next(s for s in read_all(shard)[0] if s.key == "x")
    raw = Path(shard.path).read_bytes()
    assert raw[picture.member_offset : picture.member_offset + picture.member_size] == b"picture"
    assert (picture.member, picture.extension) == ("x.jpg", "jpg")


@pytest.mark.parametrize(
    ("members", "caption"),
    [
        ([("x.txt", b" a dog \n")], "a dog"),
        ([("x.caption", b"a dog")], "a dog"),
        ([("x.text", b"a dog"), ("x.json", b'{"caption": "cat"}')], "a dog"),
        ([("x.json", b'{"caption": "cat"}')], "cat"),
        ([("x.long.txt", b"long"), ("x.txt", b"short")], "short"),
        ([("x.meta.json", b'{"caption": "meta"}'), ("x.json", b'{"caption": "own"}')], "own"),
        ([("x.onceseen.json", b'{"caption": "not this"}')], ""),
        ([("x.json", b'{"caption": null}')], ""),
        ([("x.json", b'{"caption": 7, ')], ""),
        ([("x.json", b"[" * 100_000)], ""),
        ([("x.json", b'["caption"]')], ""),
        ([("x.json", b'{"caption": "\\ud800 lone"}')], "? lone"),
        ([("x.txt", b"caf\xe9")], "caf�"),
        ([], ""),
    ],
)
def test_captions(tmp_path: Path, members: list[Member], caption: str) -> None:
    samples, _ = read_all(one_shard(write_tar(tmp_path / "s.tar", [*members, ("x.jpg", b"data")])))
    assert [s.caption for s in samples] == [caption]
    samples[0].caption.encode("utf-8")


def test_meta_columns_are_sorted_json(tmp_path: Path) -> None:
    member = ("x.json", '{"width": 3, "url": "http://ü", "other": 1, "missing_not": null}'.encode())
    config = ReadConfig(meta_columns=("width", "url", "absent"))
    samples, _ = read_all(one_shard(write_tar(tmp_path / "s.tar", [member, ("x.jpg", b"d")])), config)
    assert samples[0].meta == '{"url": "http://\\u00fc", "width": 3}'
    assert json.loads(samples[0].meta) == {"url": "http://ü", "width": 3}


def test_samples_that_cannot_be_judged(tmp_path: Path) -> None:
    members = [
        ("none.txt", b"caption only"),
        ("none.json", b"{}"),
        ("empty.jpg", b""),
        ("empty.txt", b"c"),
        ("big.jpg", picture(1, 2000)),
        ("fine.jpg", picture(2, 1000)),
    ]
    config = ReadConfig(max_bytes=1500)
    samples, failures = read_all(one_shard(write_tar(tmp_path / "s.tar", members)), config)
    assert not failures
    assert [(s.key, s.error) for s in samples] == [
        ("none", FailureReason.NO_IMAGE),
        ("empty", FailureReason.EMPTY_IMAGE),
        ("big", FailureReason.TOO_MANY_BYTES),
        ("fine", None),
    ]
    assert all((s.image is None) == (s.error is not None) for s in samples)
    assert "txt, json" in samples[0].error_detail
    assert samples[2].member_size == 2000


def test_repeated_keys_and_members(tmp_path: Path) -> None:
    members = [
        ("a.jpg", b"1"),
        ("a.txt", b"one"),
        ("b.jpg", b"2"),
        ("a.jpg", b"3"),
        ("a.jpg", b"4"),
        ("a#2.jpg", b"5"),
        ("a.JPG", b"6"),
        ("a.jpg", b"7"),
    ]
    assert {k: v[0] for k, v in _read(tmp_path, members).items()} == {
        "a": b"1",
        "b": b"2",
        "a#2": b"3",
        "a#3": b"4",
        "a#2#2": b"5",
        "a#4": b"6",
        "a#5": b"7",
    }


def test_names_that_belong_to_no_sample(tmp_path: Path) -> None:
    members = [
        ("README", b"x"),
        (".hidden.jpg", b"x"),
        ("d/._apple.jpg", b"x"),
        ("__meta__", b"x"),
        ("__all__/a.jpg", b"x"),
        ("a.jpg", b"1"),
        ("README2", b"x"),
        ("a.txt", b"c"),
        ("end.", b"x"),
    ]
    samples, _ = read_all(one_shard(write_tar(tmp_path / "s.tar", members)))
    assert [(s.key, s.image, s.caption) for s in samples] == [("a", b"1", "c")]


def test_directories_and_links_do_not_part_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, data in (
            ("d", tarfile.DIRTYPE, b""),
            ("d/a.jpg", tarfile.REGTYPE, b"1"),
            ("d/sub/", tarfile.DIRTYPE, b""),
            ("d/a.png", tarfile.SYMTYPE, b""),
            ("d/a.txt", tarfile.AREGTYPE, b"c"),
            ("d/b.jpg", tarfile.LNKTYPE, b""),
            ("d/b.txt", tarfile.REGTYPE, b"only text"),
            ("pipe", tarfile.FIFOTYPE, b""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "d/a.jpg", len(data)
            tar.addfile(info, io.BytesIO(data))
    samples, failures = read_all(one_shard(path))
    assert not failures
    assert [(s.key, s.image, s.caption) for s in samples] == [("d/a", b"1", "c"), ("d/b", None, "only text")]
    assert samples[1].error is FailureReason.NO_IMAGE


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_long_and_not_ascii(tmp_path: Path, tar_format: int) -> None:
    stem = "d" * 120 + "/" + "k" * 90
    names = [f"{stem}.jpg", f"{stem}.txt", "ключ/猫.jpg", "caf\udce9.jpg"]
    if tar_format != tarfile.USTAR_FORMAT:
        names.append("n" * 300 + ".jpg")
    shard = one_shard(
        write_tar(tmp_path / "s.tar", [(n, n[:9].encode("utf-8", "replace")) for n in names], tar_format)
    )
    samples, failures = read_all(shard)
    assert not failures
    assert [s.key for s in samples][:3] == [stem, "ключ/猫", "caf%E9"]
    if tar_format != tarfile.USTAR_FORMAT:
        assert samples[3].key == "n" * 300
    assert samples[2].member == "caf%E9.jpg"


def test_pax_size_and_global_headers(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(
        path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "a global header"}
    ) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 5
        info.pax_headers = {"size": "5", "path": "renamed.jpg"}
        tar.addfile(info, io.BytesIO(b"bytes"))
    samples, failures = read_all(one_shard(path))
    assert not failures
    assert [(s.key, s.image) for s in samples] == [("renamed", b"bytes")]


def test_base_256_size_and_old_headers(tmp_path: Path) -> None:
    header = bytearray(512)
    header[:5] = b"a.jpg"
    header[100:108] = b"0000644\0"
    header[124:136] = b"\x80" + (700).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "s.tar"
    path.write_bytes(bytes(header) + picture(1, 700) + bytes(1024 - 700) + bytes(1024))
    with tarfile.open(path) as tar:
        assert tar.getmembers()[0].size == 700
    samples, failures = read_all(one_shard(path))
    assert not failures
    assert [(s.key, s.image) for s in samples] == [("a", picture(1, 700))]


def test_sparse_member_is_no_image(tmp_path: Path) -> None:
    header = bytearray(512)
    header[:5] = b"a.jpg"
    header[124:136] = b"00000001000\0"
    header[156:157] = b"S"
    header[257:265] = b"ustar  \0"
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "s.tar"
    rest = tmp_path / "rest.tar"
    write_tar(rest, [("b.jpg", b"1")])
    path.write_bytes(bytes(header) + bytes(512) + b"x" * 512 + rest.read_bytes())
    samples, failures = read_all(one_shard(path))
    assert not failures
    assert [(s.key, s.image, s.error) for s in samples] == [
        ("a", None, FailureReason.NO_IMAGE),
        ("b", b"1", None),
    ]


@pytest.mark.parametrize("size", [1024, 512, 10240])
def test_empty_tar(tmp_path: Path, size: int) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(bytes(size))
    assert read_all(one_shard(path)) == ([], [])


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (b"", FailureReason.TRUNCATED_TAR, "0"),
        (b"not a tar", FailureReason.BAD_TAR, "9 bytes"),
        (b"<html>404</html>" * 100, FailureReason.BAD_TAR, "no tar"),
        (gzip.compress(bytes(10240) + picture(1, 9000), mtime=0), FailureReason.BAD_TAR, "gzip"),
        (picture(3, 5000), FailureReason.BAD_TAR, "no tar"),
    ],
)
def test_what_is_no_tar(tmp_path: Path, content: bytes, reason: FailureReason, words: str) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    samples, failures = read_all(one_shard(path))
    assert not samples
    assert [(f.subject, f.reason, f.is_shard) for f in failures] == [("s", reason, True)]
    assert words in failures[0].detail


def test_every_cut_gives_the_members_before_it(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", triples(4)).read_bytes()
    expected, _ = read_all(one_shard(tmp_path / "whole.tar"))
    path = tmp_path / "cut" / "s.tar"
    path.parent.mkdir()
    ends = [s.member_offset + s.member_size for s in expected]
    end_of_members = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for cut in range(0, end_of_members + 1, 97):
        path.write_bytes(whole[:cut])
        samples, failures = read_all(one_shard(path))
        images = [s.image for s in samples if s.image is not None]
        assert images == [s.image for s, end in zip(expected, ends, strict=True) if end <= cut]
        assert all(s.error in (None, FailureReason.NO_IMAGE) for s in samples)
        assert len(failures) == 1
        assert failures[0].reason in (FailureReason.TRUNCATED_TAR, FailureReason.BAD_TAR)
        assert (failures[0].reason is FailureReason.BAD_TAR) == (0 < cut < 512)


def test_damaged_header_in_the_middle(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", triples(4))
    data = bytearray(path.read_bytes())
    samples, _ = read_all(one_shard(path))
    data[samples[2].member_offset - 512 + 3] ^= 0xFF
    path.write_bytes(data)
    before, failures = read_all(one_shard(path))
    assert [s.image for s in before] == [s.image for s in samples[:2]]
    assert [f.reason for f in failures] == [FailureReason.BAD_TAR]
    assert str(samples[2].member_offset - 512) in failures[0].detail


def test_tars_joined_by_cat_are_told(tmp_path: Path) -> None:
    first = write_tar(tmp_path / "a.tar", triples(2)).read_bytes()
    path = tmp_path / "joined" / "s.tar"
    path.parent.mkdir()
    path.write_bytes(first + first)
    samples, failures = read_all(one_shard(path))
    assert len(samples) == 2
    assert [f.reason for f in failures] == [FailureReason.BAD_TAR]
    assert "end-of-archive" in failures[0].detail


def test_members_larger_than_the_window(tmp_path: Path) -> None:
    sizes = [5 << 20, 1, 9 << 20, 4 << 20, 0, 3]
    members = [(f"{i}.jpg", picture(i, size)) for i, size in enumerate(sizes)]
    shard = one_shard(write_tar(tmp_path / "s.tar", members))
    samples, failures = read_all(shard)
    assert not failures
    assert [s.image for s in samples] == [data or None for _, data in members]


def test_a_shard_that_vanished_is_a_failure(tmp_path: Path) -> None:
    shard = Shard(0, "gone", ShardKind.TAR, str(tmp_path / "gone.tar"), 1, "")
    samples, failures = read_all(shard)
    assert not samples
    assert [f.reason for f in failures] == [FailureReason.UNREADABLE_SHARD]


def test_pictures_read_again_by_range(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "s.tar", triples(9)))
    samples, _ = read_all(shard)
    wanted = [WantedImage(s.row, s.key, s.member, s.member_offset, s.member_size) for s in samples[::-2]]
    found = list(read_images(shard, READ, wanted))
    assert found == [(s.row, s.image) for s in samples[::2]]
    late = WantedImage(0, "x", "x.jpg", Path(shard.path).stat().st_size - 10, 900)
    with pytest.raises(ValueError, match="has changed since"):
        list(read_images(shard, READ, [late]))
