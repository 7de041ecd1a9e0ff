"""`--decisions FILE`: a person's word, above every score.

CSV with a header. Rows `sample_id_a,sample_id_b,same|different` speak of pairs, rows `sample_id,keep|drop` of single
samples; one file may hold either form, or both when the columns `sample_id_a, sample_id_b, decision` are used with an
empty `sample_id_b` for single samples.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from onceseen.core.features import read_features
from onceseen.core.files import exists, read_bytes, remove_files, write_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict, node_id
from onceseen.neighbors.packing import Records
from onceseen.stats.lookup import shards_of

_PAIR_WORDS = ("same", "different")
_SAMPLE_WORDS = ("keep", "drop")
_Subject = TypeVar("_Subject")


@dataclass(frozen=True, slots=True)
class DecisionRows:
    """Decisions as the file has them, by sample id.

    Attributes:
        pairs: (a, b, same | different).
        samples: (sample_id, keep | drop).
        digest: Hash of the decisions, part of the match job's fingerprint; empty without decisions.
        takedowns: Samples that RUN/takedowns.csv names, ascending: dropped like those that are said to be, but one that
            is not in the input any more is no mistake.
    """

    pairs: tuple[tuple[str, str, str], ...] = ()
    samples: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    takedowns: tuple[str, ...] = ()

    def pair(self, a: str, b: str) -> str:
        """What is said of a pair, in either order; empty if nothing."""
        return next((word for *ids, word in self.pairs if {a, b} == set(ids)), "")


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions by node id, pairs between heads of exact classes.

    Attributes:
        same: Pairs (a < b) that a person calls the same picture.
        different: Pairs (a < b) that a person tells apart.
        apart: Samples told apart from a member of their own exact class: each a class of its own.
        samples: Samples to keep or to drop.
    """

    same: frozenset[tuple[int, int]] = frozenset()
    different: frozenset[tuple[int, int]] = frozenset()
    apart: frozenset[int] = frozenset()
    samples: Mapping[int, Verdict] = field(default_factory=dict)


def read_decisions(path: str) -> DecisionRows:
    """Reads and checks a decisions file.

    Raises:
        ValueError: If it cannot be read, a row is malformed, or two rows contradict each other.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"decisions file {path} cannot be read as UTF-8 text: {error}") from error
    pairs: dict[tuple[str, str], str] = {}
    samples: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1] not in (*_PAIR_WORDS, *_SAMPLE_WORDS)):
            continue
        cells = [cells[0], *cells[2:]] if len(cells) == 3 and not cells[1] else cells
        where = f"decisions file {path}, line {number}"
        if len(cells) == 3 and cells[2] in _PAIR_WORDS and cells[0] != cells[1]:
            first, second = sorted(cells[:2])
            _say(pairs, (first, second), cells[2], where)
        elif len(cells) == 2 and cells[1] in _SAMPLE_WORDS:
            _say(samples, cells[0], cells[1], where)
        else:
            raise ValueError(
                f"{where}: {','.join(row)!r} is neither sample_id_a,sample_id_b,same|different "
                "nor sample_id,keep|drop"
            )
    return _rows(pairs, samples)


def merge_decisions(first: DecisionRows, second: DecisionRows) -> DecisionRows:
    """The decisions of both.

    Raises:
        ValueError: If they contradict each other.
    """
    pairs: dict[tuple[str, str], str] = {}
    samples: dict[str, str] = {}
    for rows in (first, second):
        for a, b, word in rows.pairs:
            _say(pairs, (a, b), word, "the decisions of both runs")
        for sample, word in rows.samples:
            _say(samples, sample, word, "the decisions of both runs")
    return with_takedowns(_rows(pairs, samples), (*first.takedowns, *second.takedowns))


def _rows(pairs: Mapping[tuple[str, str], str], samples: Mapping[str, str]) -> DecisionRows:
    ordered = tuple((a, b, word) for (a, b), word in sorted(pairs.items())), tuple(sorted(samples.items()))
    if not any(ordered):
        return DecisionRows()
    return DecisionRows(*ordered, hashlib.sha256(repr(ordered).encode()).hexdigest())


def with_takedowns(rows: DecisionRows, sample_ids: Iterable[str]) -> DecisionRows:
    """Decisions with samples taken down, which stand above a person's `keep`; the same without any."""
    taken = tuple(sorted({*rows.takedowns, *sample_ids}))
    if not taken:
        return rows
    samples = tuple((i, word) for i, word in rows.samples if i not in set(taken))
    digest = hashlib.sha256(repr((rows.pairs, samples, taken)).encode()).hexdigest()
    return DecisionRows(rows.pairs, samples, digest, taken)


def _say(known: dict[_Subject, str], subject: _Subject, word: str, where: str) -> None:
    if known.setdefault(subject, word) != word:
        raise ValueError(f"{where}: {subject} is said to be both {known[subject]} and {word}")


def stored_decisions(layout: RunLayout) -> DecisionRows:
    """The decisions that a run's verdicts follow, as `write_decisions` left them.

    Raises:
        ValueError: As `read_decisions` does.
    """
    return read_decisions(layout.decisions()) if exists(layout.decisions()) else DecisionRows()


def check_decisions(rows: DecisionRows, layout: RunLayout, shards: Sequence[Shard]) -> None:
    """Looks the samples up that decisions name, before anything is done or removed for them.

    Raises:
        ValueError: If an id is not in the input, naming it.
    """
    _nodes(_ids(rows), layout, shards)


def write_decisions(rows: DecisionRows, layout: RunLayout) -> None:
    """Leaves RUN/decisions.csv, so that a run says itself whose word its verdicts follow; none without decisions.

    What was taken down is in RUN/takedowns.csv alone.
    """
    path = layout.decisions()
    if not (rows.pairs or rows.samples):
        remove_files([path])
        return
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(("sample_id_a", "sample_id_b", "decision"))
    out.writerows([*rows.pairs, *((i, "", word) for i, word in rows.samples)])
    write_bytes(path, text.getvalue().encode())


def _ids(rows: DecisionRows) -> set[str]:
    return {i for a, b, _ in rows.pairs for i in (a, b)} | {i for i, _ in rows.samples}


def resolve_decisions(
    rows: DecisionRows, layout: RunLayout, shards: Sequence[Shard], heads: Mapping[int, int]
) -> Decisions:
    """Sample ids to nodes, and pairs to the heads of their exact classes.

    Args:
        rows: From `read_decisions`.
        layout: A run whose features are extracted.
        shards: All shards.
        heads: Head of every member of an exact class that is not the head itself.

    Raises:
        ValueError: If an id is not in the input, naming it.
    """
    nodes = _nodes(_ids(rows), layout, shards, rows.takedowns)
    same: set[tuple[int, int]] = set()
    different: set[tuple[int, int]] = set()
    apart: set[int] = set()
    for a, b, word in rows.pairs:
        first, second = sorted((heads.get(nodes[a], nodes[a]), heads.get(nodes[b], nodes[b])))
        if first != second:
            (same if word == "same" else different).add((first, second))
        elif word == "different":
            apart.add(next(n for n in (nodes[b], nodes[a]) if n in heads))
    return Decisions(
        frozenset(same),
        frozenset(different),
        frozenset(apart),
        {nodes[i]: Verdict(word) for i, word in rows.samples}
        | {nodes[i]: Verdict.DROP for i in rows.takedowns if i in nodes},
    )


def _nodes(
    ids: Iterable[str], layout: RunLayout, shards: Sequence[Shard], perhaps: Iterable[str] = ()
) -> dict[str, int]:
    """Node ids of sample ids, and of those that may be there; only shards that an id can belong to are read."""
    missing_allowed = set(perhaps)
    wanted = set(ids) | missing_allowed
    found: dict[str, int] = {}
    possible = shards_of(wanted, shards)
    for shard in (s for s in shards if s.name in possible):
        for row, sample in enumerate(read_features(layout, shard, ["sample_id"])["sample_id"].to_pylist()):
            if sample in wanted:
                found[sample] = node_id(shard.number, row)
                wanted.discard(sample)
    wanted -= missing_allowed
    if wanted:
        raise ValueError(
            f"the decisions name {len(wanted)} sample(s) that are not in the input, for example {min(wanted)!r}; "
            "ids are as in verdicts/*.parquet"
        )
    return found


def heads_of_classes(stars: Iterable[Records]) -> dict[int, int]:
    """Head by member, from star rows."""
    return {int(s["node"]): int(s["head"]) for block in stars for s in block}
