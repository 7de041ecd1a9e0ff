"""Prompts: read from a file, told apart by their normal form, each with a seed for every generation."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.files import open_read
from onceseen.stats.text import hash64, normalise_caption

_COLUMNS = ("prompt", "caption")
_KINDS = ("csv", "parquet", "txt")


@dataclass(frozen=True, slots=True)
class PromptList:
    """Prompts in the order of their file.

    Attributes:
        prompts: At least one, no two with the same normal form (`stats.text.normalise_caption`), without white
            space around them.
        merged: How many more the file has whose normal form had come before.
    """

    prompts: tuple[str, ...]
    merged: int


def prompt_id(prompt: str) -> str:
    """16 hex digits of the normal form's fixed hash: what tells prompts apart in the audit's tables."""
    return f"{hash64(normalise_caption(prompt)):016x}"


def generation_seed(prompt: str, index: int) -> int:
    """The seed of one generation: the first 63 bits of SHA-256 over the normal form, a zero byte and the index.

    So it depends neither on the other prompts nor on how many generations there are: more of them begin with the
    same ones. torch's generator on the CPU uses the lower 32 bits of a seed; two of the 500 generations of one prompt
    then share them, and are the same picture, for one prompt in 34,000.

    Args:
        prompt: The prompt, in any spelling of the same normal form.
        index: The generation, from 0.

    Returns:
        A number in [0, 2^63).
    """
    text = f"{normalise_caption(prompt)}\0{index}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def read_prompts(path: str) -> PromptList:
    """Reads prompts: .csv or .parquet (column `prompt`, else `caption`), or .txt, one a line; UTF-8.

    `stats/captions.parquet` and `stats/prompts.csv` of a run are such files. Other columns are left alone. Memory: all
    prompts.

    Raises:
        ValueError: If the file is of another kind, has no such column or no prompt, is no UTF-8, or a prompt is
            empty (naming its line or row).
        FileNotFoundError: If it is not there.
    """
    kind = path.rpartition(".")[2].lower()
    if kind not in _KINDS:
        raise ValueError(
            f"--prompts {path}: expected a file that ends in .csv, .parquet or .txt (one prompt a line)"
        )
    try:
        found = _distinct(path, {"csv": _from_csv, "parquet": _from_parquet, "txt": _from_text}[kind](path))
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts {path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except (csv.Error, pa.ArrowInvalid) as error:
        raise ValueError(f"--prompts {path} cannot be read as {kind}: {error}") from error
    if not found.prompts:
        raise ValueError(f"--prompts {path} has no prompt; expected at least one")
    return found


def _distinct(path: str, named: Iterable[tuple[str, str]]) -> PromptList:
    """The first of each normal form, of prompts with the names of their places."""
    first: dict[str, str] = {}
    count = 0
    for place, text in named:
        normal = normalise_caption(text)
        if not normal:
            raise ValueError(
                f"--prompts {path}, {place}: the prompt is empty; give it a text, or take it out"
            )
        first.setdefault(normal, text.strip())
        count += 1
    return PromptList(tuple(first.values()), count - len(first))


def _from_text(path: str) -> Iterator[tuple[str, str]]:
    with open_read(path) as stream, io.TextIOWrapper(stream, "utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            yield f"line {number}", line


def _from_csv(path: str) -> Iterator[tuple[str, str]]:
    with open_read(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        header = next(reader, [])
        column = header.index(_prompt_column(path, header))
        for row in reader:
            if row:  # a line without anything is none of csv's rows
                yield f"line {reader.line_num}", row[column] if column < len(row) else ""


def _from_parquet(path: str) -> Iterator[tuple[str, str]]:
    with open_read(path) as stream:
        file = pq.ParquetFile(stream)
        column = _prompt_column(path, file.schema_arrow.names)
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ValueError(f"--prompts {path}: column {column} holds {kind}; expected strings")
        number = 0
        for batch in file.iter_batches(columns=[column]):
            for text in batch.column(0).to_pylist():
                number += 1
                yield f"row {number}", text or ""


def _prompt_column(path: str, names: list[str]) -> str:
    found = [name for name in _COLUMNS if name in names]
    if not found:
        raise ValueError(
            f"--prompts {path} has the columns {', '.join(names) or '(none)'}; expected one named prompt or caption"
        )
    return found[0]
