"""Rewritten tars: kept members untouched and in order, what was dropped gone, nothing lost."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import webdataset
from tests.unit.shards.shard_tools import (
    READ,
    WRITE,
    one_shard,
    picture,
    read_all,
    rewrite,
    tar_members,
    triples,
    verdict,
    write_tar,
)

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.records import Shard, ShardKind
from onceseen.shards import rewrite_shard
from onceseen.shards.window import CAPACITY

KEYS = [f"{i:09d}" for i in range(6)]


def _own(name: str) -> bool:
    return name.endswith(".onceseen.json")


def test_kept_members_are_the_same_bytes_in_the_same_order(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "00000.tar", triples(6)))
    summary = rewrite(shard, tmp_path / "out", [KEYS[0], KEYS[3], KEYS[4]])
    output = tar_members(tmp_path / "out" / "00000.tar")
    expected = [m for m in triples(6) if m[0][:9] in (KEYS[1], KEYS[2], KEYS[5])]
    digests = [hashlib.sha256(data).hexdigest() for name, data in output if not _own(name)]
    assert [name for name, _ in output if not _own(name)] == [name for name, _ in expected]
    assert digests == [hashlib.sha256(data).hexdigest() for _, data in expected]
    assert (summary.kept, summary.dropped, summary.failed, summary.written) == (3, 3, 0, 3)
    assert (summary.members_copied, summary.members_added, summary.damaged) == (9, 3, "")
    assert summary.bytes_written == (tmp_path / "out" / "00000.tar").stat().st_size
    assert summary.bytes_written % 10240 == 0


def test_headers_are_the_same_bytes_too(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(3), tarfile.PAX_FORMAT))
    rewrite(shard, tmp_path / "out", [], write=WriteConfig(member=False))
    assert (tmp_path / "out" / "s.tar").read_bytes() == Path(shard.path).read_bytes()


def test_json_member_follows_its_sample(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(2)))
    rewrite(shard, tmp_path / "out", [])
    with tarfile.open(tmp_path / "out" / "s.tar") as tar:
        infos = tar.getmembers()
        assert [i.name for i in infos[:4]] == [
            f"{KEYS[0]}.{e}" for e in ("jpg", "json", "txt", "onceseen.json")
        ]
        own = infos[3]
        assert (own.mtime, own.mode, own.uid, own.gid, own.uname, own.gname) == (0, 0o644, 0, 0, "", "")
        stream = tar.extractfile(own)
        assert stream is not None
        text = stream.read().decode()
    assert json.loads(text) == {
        "sample_id": f"s/{KEYS[0]}",
        "verdict": "keep",
        "representative_id": f"s/{KEYS[0]}",
        "copies": 3,
        "component_id": "comp",
        "component_size": 4,
        "weight": 0.33333334,
    }
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_json_member_quotes_odd_ids(tmp_path: Path) -> None:
    name = 'a"\\\n\tключ'
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", [(f"{name}.jpg", b"1")]))
    rewrite(shard, tmp_path / "out")
    fields = json.loads(dict(tar_members(tmp_path / "out" / "s.tar"))[f"{name}.onceseen.json"])
    assert fields["sample_id"] == f"s/{name}"


def test_webdataset_reads_the_output(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(4)))
    rewrite(shard, tmp_path / "out", [KEYS[1]])
    stream = webdataset.WebDataset(str(tmp_path / "out" / "s.tar"), shardshuffle=False)
    samples = {s["__key__"]: s for s in stream}
    assert list(samples) == [KEYS[0], KEYS[2], KEYS[3]]
    assert samples[KEYS[2]]["jpg"] == dict(triples(4))[f"{KEYS[2]}.jpg"]
    assert json.loads(samples[KEYS[2]]["onceseen.json"])["copies"] == 3


def test_the_same_bytes_again_and_in_place(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(6)))
    first = rewrite(shard, tmp_path / "a", [KEYS[2]])
    second = rewrite(shard, tmp_path / "b", [KEYS[2]], write=WriteConfig(fsync=True))
    rewrite(shard, tmp_path / "a", [KEYS[2]])
    assert first == second
    assert (tmp_path / "a" / "s.tar").read_bytes() == (tmp_path / "b" / "s.tar").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["s.tar"]


def test_all_dropped_gives_an_empty_tar(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "d" / "s.tar", triples(6)))
    summary = rewrite(shard, tmp_path / "out", KEYS)
    assert tar_members(tmp_path / "out" / "s.tar") == []
    assert (tmp_path / "out" / "s.tar").read_bytes() == bytes(10240)
    assert summary.written == 0
    again, failures = read_all(one_shard(tmp_path / "out" / "s.tar"))
    assert (again, failures) == ([], [])


def test_repeated_keys_are_dropped_one_by_one(tmp_path: Path) -> None:
    members = [("a.jpg", b"1"), ("a.txt", b"x"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("a.jpg", b"4")]
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", members))
    rewrite(shard, tmp_path / "out", ["a", "a#3"])
    output = tar_members(tmp_path / "out" / "s.tar")
    assert [name for name, _ in output] == ["b.jpg", "b.onceseen.json", "a.jpg", "a.onceseen.json"]
    assert output[2][1] == b"3"
    assert json.loads(output[3][1])["sample_id"] == "s/a#2"


def test_members_of_no_sample_pass(tmp_path: Path) -> None:
    path = tmp_path / "in" / "s.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name, kind, data in (
            ("d", tarfile.DIRTYPE, b""),
            ("d/a.jpg", tarfile.REGTYPE, b"1"),
            ("d/a.png", tarfile.SYMTYPE, b""),
            ("README", tarfile.REGTYPE, b"read me"),
            ("d/b.jpg", tarfile.REGTYPE, b"2"),
            ("other", tarfile.LNKTYPE, b""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "d/b.jpg", len(data)
            tar.addfile(info, io.BytesIO(data))
    summary = rewrite(one_shard(path), tmp_path / "out", ["d/a"])
    with tarfile.open(tmp_path / "out" / "s.tar") as tar:
        assert [(m.name, m.type) for m in tar.getmembers()] == [
            ("d", tarfile.DIRTYPE),
            ("README", tarfile.REGTYPE),
            ("d/b.jpg", tarfile.REGTYPE),
            ("other", tarfile.LNKTYPE),
            ("d/b.onceseen.json", tarfile.REGTYPE),
        ]
    assert summary.members_passed == 3


@pytest.mark.parametrize(("on_failure", "names"), [("keep", ["none.txt", "empty.jpg"]), ("drop", [])])
def test_failed_samples(tmp_path: Path, on_failure: str, names: list[str]) -> None:
    members = [("none.txt", b"c"), ("empty.jpg", b""), ("a.jpg", b"1")]
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", members))
    summary = rewrite(shard, tmp_path / "out", read=ReadConfig(on_failure=on_failure))
    output = tar_members(tmp_path / "out" / "s.tar")
    assert [name for name, _ in output if not _own(name)] == [*names, "a.jpg"]
    assert (summary.kept, summary.failed, summary.written) == (1, 2, 1 + len(names))
    own = {name: json.loads(data)["verdict"] for name, data in output if _own(name)}
    assert own.pop("a.onceseen.json") == "keep"
    assert set(own.values()) <= {"failed"}
    assert len(own) == len(names)


def test_an_earlier_runs_members_are_replaced(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(3)))
    rewrite(shard, tmp_path / "once")
    rewrite(one_shard(tmp_path / "once" / "s.tar"), tmp_path / "twice", [KEYS[1]])
    rewrite(shard, tmp_path / "at_once", [KEYS[1]])
    assert (tmp_path / "twice" / "s.tar").read_bytes() == (tmp_path / "at_once" / "s.tar").read_bytes()


def test_long_and_foreign_names_come_out_as_stored(tmp_path: Path) -> None:
    members = [
        ("n" * 300 + ".jpg", b"1"),
        ("ключ/猫.jpg", b"2"),
        ("caf\udce9.jpg", b"3"),
        ("k" * 86 + ".jpg", b"4"),
    ]
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        shard = one_shard(write_tar(tmp_path / str(tar_format) / "s.tar", members, tar_format))
        output = tmp_path / f"out{tar_format}"
        rewrite(shard, output, ["ключ/猫"])
        names = [name for name, _ in tar_members(output / "s.tar")]
        kept = [members[0][0], members[2][0], members[3][0]]
        assert names == [n for k in kept for n in (k, k.removesuffix("jpg") + "onceseen.json")]
        again, failures = read_all(one_shard(output / "s.tar"))
        assert not failures
        assert [s.image for s in again] == [b"1", b"3", b"4"]


def test_cut_tars_keep_what_came_before_and_say_so(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", triples(3)).read_bytes()
    members = triples(3)
    path = tmp_path / "cut" / "s.tar"
    path.parent.mkdir()
    for cut in range(600, len(whole.rstrip(b"\0")) + 1, 131):
        path.write_bytes(whole[:cut])
        summary = rewrite(one_shard(path), tmp_path / "out")
        output = [m for m in tar_members(tmp_path / "out" / "s.tar") if not _own(m[0])]
        assert output == members[: len(output)]
        assert summary.damaged.startswith("truncated_tar: ")
        assert summary.members_copied == len(output)
    assert len(output) in (8, 9)  # the last cut ends within, or just after, the last member's data
    again, failures = read_all(one_shard(tmp_path / "out" / "s.tar"))
    assert len(again) == 3
    assert not failures


def test_a_file_cut_in_its_last_padding_is_padded(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "in" / "s.tar", [("a.jpg", b"abc")])
    path.write_bytes(path.read_bytes()[: 512 + 3])
    summary = rewrite(one_shard(path), tmp_path / "out")
    output = tar_members(tmp_path / "out" / "s.tar")
    assert output[0] == ("a.jpg", b"abc")
    assert [name for name, _ in output] == ["a.jpg", "a.onceseen.json"]
    assert summary.damaged


@pytest.mark.parametrize("before", [0, 512, 1024, 1536, 2048])
def test_headers_across_the_end_of_a_window(tmp_path: Path, before: int) -> None:
    long_name = "n" * 200 + ".jpg"
    members = [("a.jpg", picture(1, CAPACITY - 512 - before)), (long_name, picture(2)), ("b.jpg", picture(3))]
    for tar_format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        shard = one_shard(write_tar(tmp_path / f"in{tar_format}" / "s.tar", members, tar_format))
        for dropped in ([], ["a"]):
            rewrite(shard, tmp_path / "out", dropped, write=WriteConfig(member=False))
            assert tar_members(tmp_path / "out" / "s.tar") == members[len(dropped) :]


@pytest.mark.parametrize("content", [b"", b"not a tar at all", b"x" * 2000])
def test_what_is_no_tar_gives_an_empty_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "in" / "s.tar"
    path.parent.mkdir()
    path.write_bytes(content)
    summary = rewrite(one_shard(path), tmp_path / "out")
    assert tar_members(tmp_path / "out" / "s.tar") == []
    assert summary.damaged
    assert summary.read == 0


def test_a_tar_that_was_never_readable(tmp_path: Path) -> None:
    shard = Shard(0, "gone", ShardKind.TAR, str(tmp_path / "gone.tar"), 1, "")
    assert rewrite(shard, tmp_path / "out").damaged.startswith("unreadable_shard: ")
    samples, _ = read_all(one_shard(write_tar(tmp_path / "in" / "s.tar", triples(1))))
    with pytest.raises(FileNotFoundError):
        rewrite_shard(shard, {s.key: verdict(s) for s in samples}, str(tmp_path / "out2"), READ, WRITE)


def test_a_shard_that_changed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", triples(4)))
    samples, _ = read_all(shard)
    verdicts = {s.key: verdict(s) for s in samples}
    missing = {k: v for k, v in verdicts.items() if k != KEYS[1]}
    with pytest.raises(ValueError, match=f"'{KEYS[1]}' has no verdict.*--overwrite"):
        rewrite_shard(shard, missing, str(tmp_path / "out"), READ, WRITE)
    extra = {**verdicts, "other": verdicts[KEYS[0]]}
    with pytest.raises(ValueError, match="5 samples have verdicts, 4 were met"):
        rewrite_shard(shard, extra, str(tmp_path / "out"), READ, WRITE)
    assert list((tmp_path / "out").iterdir()) == []


def test_large_members_and_gaps(tmp_path: Path) -> None:
    sizes = [5 << 20, 1, 9 << 20, 4 << 20, 0, 3, 6 << 20]
    members = [(f"{i}.jpg", picture(i, size)) for i, size in enumerate(sizes)]
    shard = one_shard(write_tar(tmp_path / "in" / "s.tar", members))
    for dropped in ([], ["0"], ["2"], ["1", "3"], ["0", "2", "6"]):
        rewrite(shard, tmp_path / "out", dropped)
        output = [m for m in tar_members(tmp_path / "out" / "s.tar") if not _own(m[0])]
        assert output == [m for m in members if m[0].partition(".")[0] not in dropped]
