"""The copies table and the delete list."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, named, picture

from onceseen.core.files import read_bytes, read_table
from onceseen.core.records import Verdict
from onceseen.core.schemas import COPIES
from onceseen.stats import write_copies_table, write_delete_list
from onceseen.stats.tables import url_domain

ONE, TWO, THREE = (jpeg(picture(seed)) for seed in (1, 2, 3))


def test_copies_table_counts_captions_and_domains(tmp_path: Path) -> None:
    samples = [
        Planted("b/k", TWO, "Dog", "https://x.org/k.jpg"),
        dropped("b/l", TWO, "b/k", "bytes", caption="dog ", url="https://x.org/l.jpg"),
        Planted("a/h", ONE, "A cat", "https://x.org/1.jpg"),
        dropped("a/i", ONE, "a/h", "bytes", caption="a  CAT", url="https://y.org/1.jpg"),
        dropped("b/m", ONE, "a/h", "bytes", caption="a tiger", url="http://Y.org:80/2.jpg"),
        dropped("b/n", ONE, "a/h", "bytes"),
        Planted("a/j", THREE, "alone", "https://z.org/1.jpg"),
        failed("a/z", "decode_error"),
    ]
    layout = SmallRun(tmp_path, sorted(samples, key=lambda s: s.sample_id)).write()
    table = read_table(write_copies_table(layout, named("a", "b")))
    assert table.schema.equals(COPIES)
    assert table.to_pylist() == [
        {
            "sample_id": "a/h",
            "copies": 4,
            "component_size": 4,
            "distinct_captions": 2,
            "url_domains": 2,
            "caption": "A cat",
        },
        {
            "sample_id": "b/k",
            "copies": 2,
            "component_size": 2,
            "distinct_captions": 1,
            "url_domains": 1,
            "caption": "Dog",
        },
    ]


def test_copies_table_does_not_depend_on_the_order_of_shards(tmp_path: Path) -> None:
    samples = [
        Planted("a/h", ONE, "x"),
        dropped("b/i", ONE, "a/h", "bytes", caption="y"),
        Planted("b/k", TWO, "x"),
        dropped("b/l", TWO, "b/k", "bytes", caption="x"),
    ]
    layout = SmallRun(tmp_path, samples).write()
    first = read_bytes(write_copies_table(layout, named("a", "b")))
    assert read_bytes(write_copies_table(layout, named("b", "a"))) == first


def test_copies_table_of_a_set_without_copies_is_empty(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("a/h", ONE), Planted("a/i", TWO)]).write()
    assert read_table(write_copies_table(layout, named("a"))).num_rows == 0


def test_delete_list_is_csv_whatever_the_names_hold(tmp_path: Path) -> None:
    wild = ['a,b"c', "é ü", "new\nline", "z'"]
    samples = [Planted("s/0", ONE), *(dropped(f"s/{name}", ONE, "s/0", "bytes") for name in wild)]
    samples.append(Planted("s/zz", TWO, verdict=Verdict.DROP, kind="decision"))
    layout = SmallRun(tmp_path, samples).write()
    data = read_bytes(write_delete_list(layout, ["s"])).decode("utf-8")
    rows = list(csv.reader(io.StringIO(data, newline="")))
    assert rows[0] == ["sample_id", "representative_id", "kind", "score"]
    expected = sorted((f"s/{name}" for name in wild), key=str.encode)
    assert [row[0] for row in rows[1:]] == sorted([*expected, "s/zz"], key=str.encode)
    by_id = {row[0]: row[1:] for row in rows[1:]}
    assert by_id['s/a,b"c'] == ["s/0", "bytes", "1.000000"]
    assert by_id["s/zz"] == ["s/zz", "decision", ""]
    assert "\r" not in data


def test_delete_list_takes_shards_in_byte_order(tmp_path: Path) -> None:
    samples = [Planted("a/0", ONE), *(dropped(f"{s}/1", ONE, "a/0", "bytes") for s in ("a", "a-b", "é", "z"))]
    layout = SmallRun(tmp_path, samples).write()
    lines = read_bytes(write_delete_list(layout, ["é", "z", "a-b", "a"])).decode().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["a/1", "a-b/1", "z/1", "é/1"]


@pytest.mark.parametrize(
    ("meta", "domain"),
    [
        ("", ""),
        ("{}", ""),
        ('{"url": null}', ""),
        ('{"url": "http://[bad"}', ""),
        ('{"url": "//Cdn.Example.org/x"}', "cdn.example.org"),
        ('["url"]', ""),
    ],
)
def test_url_domain(meta: str, domain: str) -> None:
    assert url_domain(meta) == domain
