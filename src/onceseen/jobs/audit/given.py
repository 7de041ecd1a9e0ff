"""Tables that an audit is given: prompts of generations (`--table`) and known truth (`--truth`)."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from onceseen.core.config import ReadConfig
from onceseen.core.failures import Failure
from onceseen.core.files import read_bytes
from onceseen.core.records import ImageSample, Shard
from onceseen.jobs.audit.plan import digest
from onceseen.jobs.audit.prompts import PROMPT, SEED, Given, prompt_of
from onceseen.shards import read_shard
from onceseen.stats.text import hash64, normalise_caption

FILE, MEMORISED = "file", "memorised"
_WORDS = {"yes": True, "no": False}
_LOOKED_AT = 10_000
REMEDY = (
    "the json of a sample holds it as `prompt` (as `onceseen generate` writes it), a .txt beside a picture as its "
    "caption, or --table FILE names it: csv or parquet with the columns file,prompt,seed"
)


@dataclass(frozen=True, slots=True)
class PromptTable:
    """The table of prompts.

    Attributes:
        path: Where it was read from; empty: there is none.
        rows: Columns file, prompt and seed, as text.
        digest: What tells its content from another's.
    """

    path: str = ""
    rows: pa.Table | None = None
    digest: str = ""

    def by_file(self) -> Given:
        """(prompt, seed) by file. Memory: some 300 bytes a row."""
        if self.rows is None:
            return {}
        columns = (self.rows[name].to_pylist() for name in (FILE, PROMPT, SEED))
        return {file: (prompt, seed) for file, prompt, seed in zip(*columns, strict=True)}


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of prompts.

    Attributes:
        path: Where it was read from; empty: there is none.
        memorised: By hash of the normalised prompt.
        prompts: As the file has them, by the same.
        digest: What tells its content from another's.
    """

    path: str = ""
    memorised: Mapping[int, bool] = field(default_factory=dict)
    prompts: Mapping[int, str] = field(default_factory=dict)
    digest: str = ""


def read_prompt_table(path: str) -> PromptTable:
    """Reads `--table`.

    Raises:
        ValueError: If it cannot be read, a column is missing, or a file has two rows.
    """
    if not path:
        return PromptTable()
    data = _read(path, "--table")
    rows = (
        _parquet_rows(path, data) if path.lower().endswith(".parquet") else _csv_rows(path, data, "--table")
    )
    missing = [name for name in (FILE, PROMPT) if name not in rows]
    if missing:
        raise ValueError(
            f"--table {path} has the columns {', '.join(rows)}; expected file,prompt,seed (seed may be left out): "
            f"{missing[0]} is missing"
        )
    files = rows[FILE]
    columns = {FILE: files, PROMPT: rows[PROMPT], SEED: rows.get(SEED, [""] * len(files))}
    twice = [file for file, count in Counter(files).items() if count > 1]
    if twice:
        raise ValueError(f"--table {path} has {twice[0]!r} in two rows; expected a row for each file")
    table = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
    return PromptTable(path, table, digest(data))


def read_truth(path: str) -> Truth:
    """Reads `--truth`.

    Raises:
        ValueError: If it cannot be read, a row is malformed, or two rows of a prompt contradict each other.
    """
    if not path:
        return Truth()
    data = _read(path, "--truth")
    rows = _csv_rows(path, data, "--truth")
    if PROMPT not in rows or MEMORISED not in rows:
        raise ValueError(
            f"--truth {path} has the columns {', '.join(rows)}; expected prompt,memorised with yes or no"
        )
    memorised: dict[int, bool] = {}
    prompts: dict[int, str] = {}
    for number, (prompt, word) in enumerate(zip(rows[PROMPT], rows[MEMORISED], strict=True), start=2):
        key, said = hash64(normalise_caption(prompt)), _WORDS.get(word.strip().lower())
        if said is None or not prompt.strip():
            raise ValueError(
                f"--truth {path}, row {number}: {prompt!r},{word!r}; expected a prompt and yes or no"
            )
        if memorised.setdefault(key, said) != said:
            raise ValueError(
                f"--truth {path}, row {number}: {prompt!r} is said to be both; expected one answer"
            )
        prompts.setdefault(key, prompt)
    return Truth(path, memorised, prompts, digest(data))


def check_prompts(shards: Sequence[Shard], read: ReadConfig, table: PromptTable) -> None:
    """Looks for one generation with a prompt, before hours are spent on pictures that have none.

    Args:
        shards: The generations'.
        read: With the json fields that a prompt is read from.
        table: The table of prompts.

    Raises:
        ValueError: If none of all generations has one, or none of the first 10,000. Cost: that of reading so many.
    """
    given = table.by_file()
    first = ""
    looked = 0
    for shard in shards:
        for sample in read_shard(shard, read):
            if isinstance(sample, Failure):
                continue
            if _has_prompt(sample, shard, given):
                return
            first = first or f"{sample.sample_id} in {shard.path}"
            looked += 1
            if looked == _LOOKED_AT:
                raise ValueError(no_prompt(first, looked, table))
    if first:
        raise ValueError(no_prompt(first, looked, table))


def _has_prompt(sample: ImageSample, shard: Shard, given: Given) -> bool:
    row = given.get(sample.sample_id) or given.get(sample.sample_id.removeprefix(shard.id_prefix))
    mine = {} if row is None else {sample.sample_id: row}
    prompt, _ = prompt_of(sample.sample_id, sample.meta, sample.caption, mine)
    return bool(prompt.strip())


def no_prompt(example: str, looked: int, table: PromptTable) -> str:
    """Why there is nothing to audit."""
    named = ""
    if table.rows is not None and len(table.rows):
        named = (
            f"; --table {table.path} names other files, such as {table.rows[FILE][0].as_py()!r} (expected sample "
            "ids, or paths in the folder that is given)"
        )
    return f"none of {looked:,} generations has a prompt, for example {example}{named}; expected one for each: {REMEDY}"


def check_truth(truth: Truth, prompts: Iterable[int], reading: str) -> None:
    """Makes sure that what is known is of these prompts.

    Raises:
        ValueError: Naming a prompt that no generation answers.
    """
    unknown = sorted(truth.memorised.keys() - set(prompts))
    if unknown:
        raise ValueError(
            f"--truth {truth.path} names {len(unknown)} prompt(s) that none of {reading} answers, for example "
            f"{truth.prompts[unknown[0]]!r}; expected prompts of the generations (case and blanks do not matter)"
        )


def _read(path: str, flag: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise ValueError(f"{flag} {path} cannot be read: {error}") from error


def _csv_rows(path: str, data: bytes, flag: str) -> dict[str, list[str]]:
    """Columns by name, values without white space around them."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{flag} {path} is no csv file in UTF-8: {error}") from error
    rows = [row for row in rows if any(row)]
    if not rows:
        raise ValueError(f"{flag} {path} is empty; expected a header and rows")
    header = [name.strip().lower() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise ValueError(
                f"{flag} {path}, row {number}: {len(row)} cells; expected {len(header)}: {','.join(header)}"
            )
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(header)}


def _parquet_rows(path: str, data: bytes) -> dict[str, list[str]]:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"--table {path} is no parquet file: {error}") from error
    names = [name for name in (FILE, PROMPT, SEED) if name in table.column_names]
    found = {name: ["" if v is None else str(v) for v in table[name].to_pylist()] for name in names}
    return found or {name: [] for name in table.column_names}
