"""Prompts from files, and the seeds of their generations."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onceseen.generate import generation_seed, prompt_id, read_prompts
from onceseen.stats.text import hash64, normalise_caption


def _file(tmp_path: Path, name: str, content: bytes | str) -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def _table(tmp_path: Path, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")


def test_a_text_file_has_one_a_line(tmp_path: Path) -> None:
    found = read_prompts(_file(tmp_path, "p.txt", "\ufeffa cat\r\n  un café au soleil \na dog"))
    assert found.prompts == ("a cat", "un café au soleil", "a dog")
    assert found.merged == 0


def test_a_csv_has_a_column_prompt_or_caption(tmp_path: Path) -> None:
    text = 'copies,prompt,caption\n3,"a cat, asleep",x\n1,"two\nlines",y\n\n'
    assert read_prompts(_file(tmp_path, "p.csv", text)).prompts == ("a cat, asleep", "two\nlines")
    assert read_prompts(_file(tmp_path, "q.CSV", "caption\na dog\n")).prompts == ("a dog",)


def test_a_parquet_file_as_well(tmp_path: Path) -> None:
    assert read_prompts(_table(tmp_path, caption=["a", "b"], max_copies=[1, 2])).prompts == ("a", "b")
    assert read_prompts(_table(tmp_path, caption=["a"], prompt=["b"])).prompts == ("b",)


def test_prompts_that_differ_in_case_and_white_space_are_one(tmp_path: Path) -> None:
    found = read_prompts(_file(tmp_path, "p.txt", "A  Cat\na dog\na cat\nA CAT\n"))
    assert found.prompts == ("A  Cat", "a dog")
    assert found.merged == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "[]", r"p\.json: expected a file that ends in \.csv, \.parquet or \.txt"),
        ("p.txt", "a cat\n \na dog", r"p\.txt, line 2: the prompt is empty"),
        ("p.txt", "", r"p\.txt has no prompt; expected at least one"),
        ("p.txt", b"a caf\xe9\n", r"p\.txt is not UTF-8 text"),
        ("p.csv", "prompt,copies\na cat,1\n,2\n", r"p\.csv, line 3: the prompt is empty"),
        ("p.csv", "copies,prompt\n1,a cat\n2\n", r"p\.csv, line 3: the prompt is empty"),
        ("p.csv", "text,copies\na,1\n", r"p\.csv has the columns text, copies; expected one named prompt or"),
        ("p.csv", "", r"p\.csv has the columns \(none\)"),
        ("p.csv", "prompt\n", r"p\.csv has no prompt"),
        ("p.csv", 'prompt\n"a" cat\n', r"p\.csv cannot be read as csv"),
        ("p.parquet", "not parquet", r"p\.parquet cannot be read as parquet"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompts(_file(tmp_path, name, content))


def test_what_is_refused_of_a_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 2: the prompt is empty"):
        read_prompts(_table(tmp_path, prompt=["a", None]))
    with pytest.raises(ValueError, match="column prompt holds int64; expected strings"):
        read_prompts(_table(tmp_path, prompt=[1, 2]))


def test_a_seed_is_a_function_of_normal_form_and_number() -> None:
    assert generation_seed("a red fox", 0) == 6_236_317_897_274_250_569
    assert generation_seed("A  Red Fox ", 0) == generation_seed("a red fox", 0)
    seeds = {
        generation_seed(prompt, index) for prompt in ("a red fox", "a red fox1", "a") for index in range(500)
    }
    assert len(seeds) == 1_500
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert max(seeds) > 1 << 62


def test_an_id_is_the_hash_of_the_normal_form() -> None:
    assert prompt_id("A  Cat") == prompt_id("a cat") == f"{hash64(normalise_caption('a cat')):016x}"
    assert len(prompt_id("a cat")) == 16
