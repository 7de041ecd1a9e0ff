"""Tables that an audit is given: what they may hold, and what a mistake in them says."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onceseen.jobs.audit.given import check_truth, read_prompt_table, read_truth
from onceseen.jobs.audit.prompts import prompt_of
from onceseen.stats.text import hash64, normalise_caption


def test_a_table_of_prompts_is_read_as_csv_and_parquet(tmp_path: Path) -> None:
    text, binary = tmp_path / "t.csv", tmp_path / "t.parquet"
    text.write_text('seed,File,prompt\n7,a/1.png," a cat, sitting"\n,b.png,a dog\n', encoding="utf-8-sig")
    columns = {
        "file": ["a/1.png", "b.png"],
        "prompt": ["a cat, sitting", "a dog"],
        "seed": pa.array([7, None], pa.int64()),
    }
    pq.write_table(pa.table(columns), binary)
    expected = {"a/1.png": ("a cat, sitting", "7"), "b.png": ("a dog", "")}
    for path in (text, binary):
        table = read_prompt_table(str(path))
        assert table.by_file() == expected
        assert len(table.digest) == 64
    assert read_prompt_table("").by_file() == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected a header and rows"),
        (
            "name,prompt\na,b\n",
            r"has the columns name, prompt; expected file,prompt,seed .*: file is missing",
        ),
        ("file,prompt\na,b\na,c\n", "has 'a' in two rows"),
        ("file,prompt\na\n", "row 2: 1 cells; expected 2: file,prompt"),
    ],
)
def test_a_malformed_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_prompt_table(str(path))


def test_tables_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="is no parquet file"):
        read_prompt_table(str(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_bytes(b"file,prompt\n\xff\xfe,x\n")
    with pytest.raises(ValueError, match="is no csv file in UTF-8"):
        read_prompt_table(str(tmp_path / "t.csv"))
    for reader, flag in ((read_prompt_table, "--table"), (read_truth, "--truth")):
        with pytest.raises(ValueError, match=f"^{flag} .*none.csv cannot be read"):
            reader(str(tmp_path / "none.csv"))


def test_truth_is_by_normal_form(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("prompt,memorised\nA  Cat,YES\na cat,yes\na dog,no\n")
    truth = read_truth(str(path))
    cat, dog = (hash64(normalise_caption(text)) for text in ("a cat", "a dog"))
    assert truth.memorised == {cat: True, dog: False}
    check_truth(truth, [dog, cat, 5], "generated/")
    with pytest.raises(
        ValueError, match=r"names 1 prompt\(s\) that none of generated/ answers, for example 'A  Cat'"
    ):
        check_truth(truth, [dog], "generated/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "prompt,answer\na,yes\n",
            "has the columns prompt, answer; expected prompt,memorised with yes or no",
        ),
        ("prompt,memorised\na,perhaps\n", "row 2: 'a','perhaps'; expected a prompt and yes or no"),
        ("prompt,memorised\n ,yes\n", "row 2: '','yes'; expected a prompt"),
        ("prompt,memorised\na,yes\nA,no\n", "row 3: 'A' is said to be both"),
    ],
)
def test_malformed_truth_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_truth(str(path))


@pytest.mark.parametrize(
    ("meta", "caption", "given", "expected"),
    [
        ('{"prompt": "of json", "seed": 5}', "of txt", {}, ("of json", "5")),
        ('{"seed": 0}', "of txt", {}, ("of txt", "0")),
        ('{"prompt": 7}', "of txt", {}, ("of txt", "")),
        ("", "", {}, ("", "")),
        (None, None, {}, ("", "")),
        ('{"prompt": "of json", "seed": 5}', "", {"a": ("of table", "9")}, ("of table", "9")),
        ('{"prompt": "of json", "seed": 5}', "", {"a": ("of table", "")}, ("of table", "5")),
        ('{"prompt": "of json"}', "", {"b": ("of table", "9")}, ("of json", "")),
    ],
)
def test_a_prompt_is_of_the_table_else_the_json_else_the_caption(
    meta: str | None, caption: str | None, given: dict[str, tuple[str, str]], expected: tuple[str, str]
) -> None:
    assert prompt_of("a", meta, caption, given) == expected
