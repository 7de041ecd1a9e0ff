from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from onceseen.core.files import (
    atomic_write,
    beside,
    exists,
    list_files,
    read_table,
    remove,
    remove_temporaries,
    write_bytes,
    write_table,
)
from onceseen.core.ids import decode_name, name_order, split_key
from onceseen.core.remote import TEMP_MARK


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.bin"
    write_bytes(str(path), b"old")

    def write_half() -> None:
        with atomic_write(str(path)) as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["x.bin"]


def test_tables_are_written_to_the_same_bytes(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    for name in ("1", "2"):
        write_table(str(tmp_path / name), table)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert read_table(str(tmp_path / "1"), ["b"]).column("b").to_pylist() == ["x", None, "z"]


def test_listing_is_sorted_and_skips_temporaries(tmp_path: Path) -> None:
    for name in ("b/2.npy", "a.npy", "b/1.npy", f"b/{TEMP_MARK}.9.1.npy", "c.txt"):
        write_bytes(str(tmp_path / name), b"")
    found = [str(Path(p).relative_to(tmp_path)) for p in list_files(str(tmp_path), ".npy")]
    assert found == ["a.npy", "b/1.npy", "b/2.npy"]
    remove(str(tmp_path / "b"))
    remove(str(tmp_path / "b"))
    assert not exists(str(tmp_path / "b"))


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in ("b/2.npy", f"b/{TEMP_MARK}.9.1.npy", f"{TEMP_MARK}.7.2.tar"):
        write_bytes(str(tmp_path / name), b"")
    assert remove_temporaries(str(tmp_path)) == 2
    assert remove_temporaries(str(tmp_path / "nowhere")) == 0
    assert list_files(str(tmp_path)) == [str(tmp_path / "b" / "2.npy")]


def test_names_that_are_not_utf8_are_percent_encoded() -> None:
    assert decode_name(b"100%.jpg") == "100%.jpg"
    assert decode_name(b"\xff%\x01a") == "%FF%25%01a"
    assert sorted(["é", "z", "Z"], key=name_order) == ["Z", "z", "é"]
    assert split_key("dir.d/0001.seg.PNG") == ("dir.d/0001", "seg.png")


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("/runs/audit", "scan", "/runs/audit/scan"),
        ("/runs/two", "../one", "/runs/one"),
        ("/runs/two", "/other/one", "/other/one"),
        ("/runs/two", "s3://bucket/one", "s3://bucket/one"),
        ("s3://bucket/audit", "scan", "s3://bucket/audit/scan"),
        ("s3://bucket/audit", "s3://other/run", "s3://other/run"),
        ("s3://bucket/audit", "/local/run", "/local/run"),
    ],
)
def test_a_run_beside_another_is_found(base: str, path: str, expected: str) -> None:
    assert beside(base, path) == expected
