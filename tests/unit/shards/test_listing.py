"""What SRC names, how shards are named and numbered, and what is refused before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.shards.shard_tools import READ, triples, write_tar

from onceseen.core.config import ReadConfig
from onceseen.core.records import ShardKind
from onceseen.shards import list_shards


def _tars(root: Path, *names: str) -> Path:
    for name in names:
        write_tar(root / f"{name}.tar", triples(1))
    return root


def _images(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": ["a"], "image": [b"1"]}), path)
    return path


def _sidecar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": ["a"], "url": ["u"]}), path)
    return path


def _names(*sources: Path | str, config: ReadConfig = READ) -> list[str]:
    shards = list_shards([str(s) for s in sources], config)
    assert [s.number for s in shards] == list(range(len(shards)))
    return [s.name for s in shards]


def test_a_directory_of_tars(tmp_path: Path) -> None:
    root = _tars(tmp_path / "set", "00001", "00000", "b/00000", "a b/ü")
    _sidecar(root / "00000.parquet")
    (root / "00000_stats.json").write_text("{}")
    (root / "_SUCCESS").write_text("")
    (root / "manifest.csv").write_text("file,source_id,transform\n")
    (root / ".onceseen-tmp.1.2.00007.tar").write_text("half")
    _tars(root / ".cache", "00009")
    shards = list_shards([str(root)], READ)
    assert [s.name for s in shards] == ["00000", "00001", "a b/ü", "b/00000"]
    assert {s.kind for s in shards} == {ShardKind.TAR}
    status = os.stat(root / "00000.tar")
    assert (shards[0].path, shards[0].size) == (str(root / "00000.tar"), status.st_size)
    assert shards[0].mark == str(status.st_mtime_ns)


def test_files_and_globs(tmp_path: Path) -> None:
    root = _tars(tmp_path / "set", "00000", "00001", "x/00002", "y/00003")
    _sidecar(root / "00000.parquet")
    assert _names(root / "00000.tar") == ["00000"]
    assert _names(root / "00000.tar", root / "00001.tar", root / "00000.parquet") == ["00000", "00001"]
    assert _names(root / "*.tar") == ["00000", "00001"]
    assert _names(root / "*" / "*.tar") == ["x/00002", "y/00003"]
    assert _names(root / "**" / "*.tar") == ["00000", "00001", "x/00002", "y/00003"]
    assert _names(root / "[xy]") == ["x/00002", "y/00003"]


def test_names_order_by_utf8_bytes(tmp_path: Path) -> None:
    names = ["￿", "𐀀", "a", "Z", "é"]
    assert _names(_tars(tmp_path / "set", *names)) == sorted(names, key=lambda n: n.encode())


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    write_tar(tmp_path / "set" / "plain.tar", triples(1))
    os.rename(tmp_path / "set" / "plain.tar", os.fsencode(tmp_path / "set") + b"/caf\xe9.tar")
    assert _names(tmp_path / "set") == ["caf%E9"]


def test_several_sources_are_prefixed(tmp_path: Path) -> None:
    one, two = _tars(tmp_path / "one", "0", "s/0"), _tars(tmp_path / "two", "0")
    extra = _tars(tmp_path / "three", "9")
    assert _names(two, one, extra / "9.tar") == ["9", "one/0", "one/s/0", "two/0"]
    assert _names(f"{one}/*.tar", two) == ["one/0", "two/0"]


def test_a_relative_source_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tars(tmp_path / "one", "0")
    _tars(tmp_path / "two", "0")
    monkeypatch.chdir(tmp_path / "one")
    assert _names(".", "../two") == ["one/0", "two/0"]
    assert _names("0.tar") == ["0"]


def test_parquet_and_single_images(tmp_path: Path) -> None:
    _images(tmp_path / "p" / "train-0.parquet")
    _sidecar(tmp_path / "p" / "metadata.parquet")
    shards = list_shards([str(tmp_path / "p")], READ)
    assert [(s.name, s.kind) for s in shards] == [("train-0", ShardKind.PARQUET)]
    (tmp_path / "x.jpg").write_bytes(b"1")
    (tmp_path / "y.jpg").write_bytes(b"2")
    shards = list_shards([str(tmp_path / "y.jpg"), str(tmp_path / "x.jpg")], READ)
    assert [(s.name, s.files) for s in shards] == [("_root", ("x.jpg", "y.jpg"))]


def test_a_damaged_parquet_file_is_a_shard(tmp_path: Path) -> None:
    _images(tmp_path / "p" / "0.parquet")
    (tmp_path / "p" / "1.parquet").write_bytes(b"cut")
    assert _names(tmp_path / "p") == ["0", "1"]


def test_a_damaged_sidecar_is_a_sidecar(tmp_path: Path) -> None:
    _tars(tmp_path / "set", "0")
    (tmp_path / "set" / "0.parquet").write_bytes(b"cut")
    assert _names(tmp_path / "set") == ["0"]


def test_img2dataset_files_format_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "set" / "00000").mkdir(parents=True)
    (tmp_path / "set" / "00000" / "000000001.jpg").write_bytes(b"1")
    _sidecar(tmp_path / "set" / "00000.parquet")
    assert _names(tmp_path / "set") == ["00000"]


def _nothing(root: Path) -> list[Path | str]:
    return [root / "absent"]


def _empty_glob(root: Path) -> list[Path | str]:
    return [root / "*.tar"]


def _braces(root: Path) -> list[Path | str]:
    return [root / "{00000..00009}.tar"]


def _empty_directory(root: Path) -> list[Path | str]:
    return [root]


def _same_names(root: Path) -> list[Path | str]:
    return [_tars(root / "a" / "set", "0"), _tars(root / "b" / "set", "1")]


def _same_stems(root: Path) -> list[Path | str]:
    return [_tars(root / "a", "0") / "0.tar", _tars(root / "b", "0") / "0.tar"]


def _twice(root: Path) -> list[Path | str]:
    return [_tars(root / "a", "0"), root / "a" / "0.tar"]


def _tar_and_parquet(root: Path) -> list[Path | str]:
    _images(root / "set" / "0.parquet")
    return [_tars(root / "set", "0")]


def _two_kinds(root: Path) -> list[Path | str]:
    _images(root / "set" / "p.parquet")
    return [_tars(root / "set", "0")]


def _tars_and_images(root: Path) -> list[Path | str]:
    (_tars(root / "set", "0") / "preview.png").write_bytes(b"1")
    return [root / "set"]


def _name_in_name(root: Path) -> list[Path | str]:
    return [_tars(root / "set", "a", "a/b")]


def _compressed(root: Path) -> list[Path | str]:
    (_tars(root / "set", "0") / "1.tar.gz").write_bytes(b"1")
    return [root / "set"]


def _only_sidecars(root: Path) -> list[Path | str]:
    return [_sidecar(root / "0.parquet")]


def _unknown_file(root: Path) -> list[Path | str]:
    (root / "0_stats.json").write_text("{}")
    return [_tars(root, "0") / "0.tar", root / "0_stats.json"]


def _run_directory(root: Path) -> list[Path | str]:
    _images(root / "run" / "features" / "0.parquet")
    (root / "run" / "run.json").write_text("{}")
    return [root / "run"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (_nothing, r"matches nothing"),
        (_empty_glob, r"matches nothing"),
        (_braces, r"braces are for the shell"),
        (_empty_directory, r"holds no \.tar"),
        (_same_names, r"same name 'set'.*rename one"),
        (_same_stems, r"both be shard '0'.*directory that holds both"),
        (_twice, r"leave one of the two out"),
        (_tar_and_parquet, r"tars \(0.tar\) and parquet files with images \(0.parquet\).*one kind"),
        (_two_kinds, r"tars \(0.tar\) and parquet files with images \(p.parquet\).*one kind"),
        (_tars_and_images, r"tars \(0.tar\) and image files \(preview.png\).*one kind"),
        (_name_in_name, r"could also be ids of shard 'a'"),
        (_compressed, r"1.tar.gz is a compressed tar.*unpack"),
        (_only_sidecars, r"read.image_column"),
        (_unknown_file, r"0_stats.json is no shard"),
        (_run_directory, r"run directory.*/shards"),
    ],
)
def test_refused_before_any_work(tmp_path: Path, build: object, words: str) -> None:
    assert callable(build)
    sources = build(tmp_path)
    with pytest.raises(ValueError, match=words):
        _names(*sources)


def test_no_source_and_named_columns_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no SRC"):
        list_shards([], READ)
    path = _images(tmp_path / "p" / "0.parquet")
    with pytest.raises(ValueError, match=r"no column 'jpg' .read.image_column"):
        _names(path, config=ReadConfig(image_column="jpg"))
    with pytest.raises(ValueError, match=r"no column 'uid' .read.key_column"):
        _names(path, config=ReadConfig(key_column="uid"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read(tmp_path: Path) -> None:
    root = _tars(tmp_path / "set", "0")
    os.chmod(root / "0.tar", 0)
    with pytest.raises(ValueError, match="cannot be read"):
        _names(root / "0.tar")
    os.chmod(root, 0)
    with pytest.raises(ValueError, match="cannot be listed"):
        _names(root)
    os.chmod(root, 0o700)
