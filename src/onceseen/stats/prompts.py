"""The audit's prompt list: captions of a run by how often their picture occurs, so many of each number of copies.

Bins are 1, 2, 3 to 4, 5 to 8, ... copies (`audit.rates.bin_of`), of the most copied picture of a caption. Captions of
two copies and more are in stats/captions.parquet. Those whose picture occurs once, without which a rate would have
nothing to be compared with, mostly are not: they are drawn from features/ and verdicts/, from captions that occur once
and are near-identical (`stats.captions.SIMILARITY`) to none of that table.

Inside a bin captions are drawn by a fixed hash of their normal form, smallest first, not by most copies: a rate of the
bin's top would overstate the bin, and a bin of powers of two is wide. The draw does not depend on how the run is cut
into shards, and a larger `per_bin` only adds to a smaller one.

Memory: that of `write_captions_table` (24 bytes a captioned sample, about 1 KB a caption of the table). Time: two
passes over the run's captions; a third where most of those drawn are near-identical to a caption of the table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onceseen.audit.rates import bin_of
from onceseen.core.files import atomic_write, read_table_if_there
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.stats.captions import LEFT_OUT, SIMILARITY, caption_hashes, caption_texts
from onceseen.stats.lookup import read_run, require_verdicts
from onceseen.stats.tables import csv_line
from onceseen.stats.text import hash64, normalise_caption

PROMPTS_HEADER = ("prompt", "copies", "occurrences", "pictures", "sample_id", "bin")
_SPARE = 64
"""Captions read beyond `per_bin`, in case some are near-identical to others."""
_log = logging.getLogger(__name__)
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class PromptBin:
    """One bin of the list.

    Attributes:
        low: Fewest copies.
        high: Most copies.
        captions: Captions of the run in it; in the bin of one copy those near-identical to another are counted too.
        drawn: Prompts of the list in it.
    """

    low: int
    high: int
    captions: int
    drawn: int

    @property
    def label(self) -> str:
        """As in the column `bin`: `1`, `2`, `3-4`.

        >>> PromptBin(3, 4, 10, 5).label
        '3-4'
        """
        return _label(self.low, self.high)


@dataclass(frozen=True, slots=True)
class PromptSummary:
    """What `write_prompts` wrote.

    Attributes:
        path: The file.
        bins: By ascending copies; bins of which the run has no caption are left out.
    """

    path: str
    bins: tuple[PromptBin, ...]

    @property
    def prompts(self) -> int:
        """Prompts in the list."""
        return sum(b.drawn for b in self.bins)


@dataclass(frozen=True, slots=True)
class _Prompt:
    """One row of the list, with the hash that it is drawn by."""

    draw: int
    caption: str
    copies: int
    occurrences: int
    pictures: int
    sample_id: str


def write_prompts(layout: RunLayout, per_bin: int, path: str = "") -> PromptSummary:
    """Writes the prompt list of a finished run, csv, UTF-8, as `onceseen generate --prompts` reads it.

    Columns: prompt, copies (of its most copied picture), occurrences (near-identical captions, this one included),
    pictures (distinct ones among them), sample_id (the most copied one), bin. Most copies first by bin; in a bin in the
    order of the draw, so that its beginning is a sample of it too.

    Args:
        layout: The run.
        per_bin: Prompts of each bin at most.
        path: The file; empty: stats/prompts.csv of the run.

    Raises:
        ValueError: If `per_bin` is under 1, there is no finished run, or no sample of it has a caption.
    """
    if per_bin < 1:
        raise ValueError(f"--per-bin is {per_bin}; expected 1 or more prompts of each bin")
    run = read_run(layout)
    require_verdicts(layout, run)
    repeated = _repeated(layout)
    drawn: dict[tuple[int, int], list[_Prompt]] = {}
    for prompt in repeated:
        drawn.setdefault(bin_of(prompt.copies), []).append(prompt)
    counts = {ends: len(prompts) for ends, prompts in drawn.items()}
    single = bin_of(1)
    controls, others = _controls(layout, run.shards, repeated, per_bin)
    counts[single] = counts.get(single, 0) + others
    drawn.setdefault(single, []).extend(controls)
    if not sum(counts.values()):
        raise ValueError(
            f"no picture of {layout.root} has a caption, and captions are what prompts are made of; expected a run "
            "over shards with txt or json members, or a caption column (read.caption_column)"
        )
    chosen = {
        ends: sorted(prompts, key=lambda p: (p.draw, p.caption))[:per_bin] for ends, prompts in drawn.items()
    }
    path = path or layout.stats("prompts.csv")
    with atomic_write(path) as stream:
        stream.write(csv_line(PROMPTS_HEADER))
        for ends in sorted(chosen, reverse=True):
            stream.writelines(_line(prompt, ends) for prompt in chosen[ends])
    bins = (PromptBin(*ends, counts[ends], len(chosen[ends])) for ends in sorted(counts) if counts[ends])
    return PromptSummary(path, tuple(bins))


def _repeated(layout: RunLayout) -> list[_Prompt]:
    """The captions that repeat, or whose picture does.

    Raises:
        ValueError: If the table is not there.
    """
    path = layout.stats("captions.parquet")
    table = read_table_if_there(path)
    if table is None:
        raise ValueError(f"{path} is missing: finish `onceseen dedup` on {layout.root} first")
    left_out = int((table.schema.metadata or {}).get(LEFT_OUT, b"0"))
    if left_out:
        _log.warning(
            "%s leaves out %d of the rarest captions; those of two copies and more are not in the list",
            path,
            left_out,
        )
    return [
        _Prompt(
            _key(row["caption"]),
            row["caption"],
            row["max_copies"],
            row["occurrences"],
            row["pictures"],
            row["sample_id"],
        )
        for row in table.to_pylist()
    ]


def _controls(
    layout: RunLayout, shards: Sequence[Shard], repeated: Sequence[_Prompt], per_bin: int
) -> tuple[list[_Prompt], int]:
    """The first `per_bin` captions, in the order of the draw, that occur once, of pictures that occur once.

    Returns:
        The captions, and of how many.
    """
    samples = caption_hashes(layout, shards)
    keys, first, counts = np.unique(samples[:, 0], return_index=True, return_counts=True)
    tabled = np.fromiter((_key(prompt.caption) for prompt in repeated), np.uint64, len(repeated))
    single = (counts == 1) & (samples[first, 2] == 1) & ~np.isin(keys, tabled)
    candidates = keys[single]  # ascending, which is the order of the draw
    known: _Hashes | None = None
    found: list[_Prompt] = []
    size, start = 2 * per_bin + _SPARE, 0
    while start < len(candidates) and len(found) < per_bin:
        block = [int(key) for key in candidates[start : start + size]]
        wanted = set(block) | ({int(key) for key in tabled} if known is None else set())
        texts = caption_texts(layout, shards, wanted)
        if known is None:
            known = _signatures(texts[int(key)].minhash for key in tabled if int(key) in texts)
        for key in block:
            text = texts[key]
            if not _near(text.minhash, known):
                found.append(_Prompt(key, text.caption, 1, 1, 1, text.representative_id))
        start, size = start + size, 4 * size
    return found[:per_bin], len(candidates)


def _signatures(minhashes: Iterable[bytes]) -> _Hashes:
    """Signatures as one array, captions without one left out: (n, permutations) uint32, (0, 0) without any."""
    signed = [minhash for minhash in minhashes if minhash]
    if not signed:
        return np.empty((0, 0), np.uint64)
    return np.frombuffer(b"".join(signed), "<u4").reshape(len(signed), -1)


def _near(minhash: bytes, known: _Hashes) -> bool:
    """Whether a caption is near-identical to one of some others."""
    if not minhash or not len(known):
        return False
    return bool(((known == np.frombuffer(minhash, "<u4")).mean(axis=1) >= SIMILARITY).any())


def _key(caption: str) -> int:
    return hash64(normalise_caption(caption))


def _label(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _line(prompt: _Prompt, ends: tuple[int, int]) -> bytes:
    numbers = (str(prompt.copies), str(prompt.occurrences), str(prompt.pictures))
    return csv_line((prompt.caption, *numbers, prompt.sample_id, _label(*ends)))


def describe_bins(summary: PromptSummary) -> Iterator[str]:
    """One line a bin for a person: copies, captions the run has of them, prompts drawn."""
    yield f"{'copies':>12} {'captions':>12} {'drawn':>12}"
    for each in summary.bins:
        yield f"{each.label:>12} {each.captions:>12,} {each.drawn:>12,}"
