"""stats/captions.parquet: the captions that repeat most, and how often their pictures do.

It is the audit's prompt list.

A caption is near-identical to another when their MinHash signatures (`features.caption_minhash`) estimate a
Jaccard similarity of `SIMILARITY` or more. Captions are first made equal by normalisation, so that the search
runs over *distinct* captions alone. Bands of the signature propose pairs, the whole signature decides. Groups
are stars: the most frequent caption leads and takes what is near *it*, so nothing chains.

Memory: 24 bytes a captioned sample, and about 1 KB for each of at most `max_distinct` distinct captions.
Where there are more, those that occur most often (and then those of the most copied pictures) take part; how
many were left out is logged and kept in the table's metadata. Time: one pass over features and verdicts to
count, one for the texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onceseen.core.files import read_table, write_table
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict
from onceseen.core.schemas import CAPTIONS
from onceseen.stats.caption_groups import star_groups
from onceseen.stats.lookup import read_verdicts
from onceseen.stats.text import hash64, normalise_caption

SIMILARITY = 0.8
MAX_DISTINCT = 1_000_000
LEFT_OUT = b"onceseen.distinct_captions_left_out"

_logger = logging.getLogger(__name__)
_Hashes = npt.NDArray[np.uint64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Captioned:
    """One judged sample with a caption."""

    sample_id: str
    caption: str
    key: int
    minhash: bytes
    representative_id: str
    copies: int


@dataclass(slots=True)
class CaptionText:
    """A distinct caption as it is shown, its signature (`caption_minhash`), and its most copied picture."""

    caption: str
    minhash: bytes
    copies: int
    representative_id: str

    def offer(self, sample: _Captioned) -> None:
        """Takes over the sample's picture where that has more copies (ties: the smaller id)."""
        rival = (-sample.copies, name_order(sample.representative_id))
        if rival < (-self.copies, name_order(self.representative_id)):
            self.copies, self.representative_id = sample.copies, sample.representative_id


def write_captions_table(layout: RunLayout, shards: Sequence[Shard], max_distinct: int = MAX_DISTINCT) -> str:
    """Writes captions that occur more than once, or whose picture does.

    Most occurrences first, then most copies. Columns: see `core.schemas.CAPTIONS`. `pictures` counts groups
    (kept pictures), not samples.

    Args:
        layout: The run.
        shards: All its shards.
        max_distinct: Distinct captions that take part at most.

    Returns:
        The path of stats/captions.parquet.
    """
    samples = caption_hashes(layout, shards)
    keys, inverse, counts = np.unique(samples[:, 0], return_inverse=True, return_counts=True)
    most = np.zeros(len(keys), np.uint64)
    np.maximum.at(most, inverse, samples[:, 2])
    chosen = _choose(keys, counts, most.astype(np.int64), max_distinct)
    texts = caption_texts(layout, shards, {int(key) for key in keys[chosen]})
    order = _best_first(chosen, keys, counts, texts)
    ordered = [texts[int(keys[i])] for i in order]
    leaders = star_groups([text.minhash for text in ordered], SIMILARITY)
    group_of_key = np.full(len(keys), -1, np.int64)
    group_of_key[order] = leaders
    rows = _rows(ordered, leaders, counts[order], _pictures(group_of_key[inverse], samples[:, 1], len(order)))
    left_out = len(keys) - len(chosen)
    if left_out:
        _logger.warning(
            "captions: %d distinct captions, the rarest %d left out of the table", len(keys), left_out
        )
    table = pa.Table.from_pylist(rows, schema=CAPTIONS.with_metadata({LEFT_OUT: str(left_out).encode()}))
    path = layout.stats("captions.parquet")
    write_table(path, table)
    return path


def _captioned(layout: RunLayout, shard: Shard) -> Iterator[_Captioned]:
    features = read_table(
        layout.of(shard).features(shard.name), columns=["sample_id", "caption", "caption_minhash"]
    )
    verdicts = {row.sample_id: row for row in read_verdicts(layout, shard.name)}
    for row in features.to_pylist():
        verdict = verdicts[row["sample_id"]]
        normal = normalise_caption(row["caption"] or "")
        if normal and verdict.verdict != Verdict.FAILED:
            minhash = row["caption_minhash"] or b""
            yield _Captioned(
                row["sample_id"],
                row["caption"],
                hash64(normal),
                minhash,
                verdict.group_id,
                max(1, verdict.copies),
            )


def caption_hashes(layout: RunLayout, shards: Sequence[Shard]) -> _Hashes:
    """Hash of the normalised caption, hash of the group, and copies of each judged sample with a caption.

    Returns:
        (n, 3) uint64. Cost: one pass over features (two columns) and verdicts.
    """
    pieces = [np.empty((0, 3), np.uint64)]
    for shard in shards:
        rows = [(s.key, hash64(s.representative_id), s.copies) for s in _captioned(layout, shard)]
        pieces.append(np.array(rows, np.uint64).reshape(-1, 3))
    return np.concatenate(pieces)


def _choose(keys: _Hashes, counts: _Ints, copies: _Ints, max_distinct: int) -> _Ints:
    """Indices of the captions that take part: the most frequent, then the most copied, ties by hash."""
    order = np.lexsort((keys, -copies, -counts))
    return np.asarray(order[:max_distinct], np.int64)


def caption_texts(layout: RunLayout, shards: Sequence[Shard], wanted: set[int]) -> dict[int, CaptionText]:
    """Captions by the hash of their normal form, as first written, by another pass."""
    texts: dict[int, CaptionText] = {}
    for shard in sorted(shards, key=lambda s: name_order(s.name)):
        for sample in _captioned(layout, shard):
            if sample.key in texts:
                texts[sample.key].offer(sample)
            elif sample.key in wanted:
                texts[sample.key] = CaptionText(
                    sample.caption.strip(), sample.minhash, sample.copies, sample.representative_id
                )
    return texts


def _best_first(chosen: _Ints, keys: _Hashes, counts: _Ints, texts: dict[int, CaptionText]) -> _Ints:
    """The chosen captions, most frequent first, then most copied, then by text."""

    def key(i: int) -> tuple[int, int, bytes]:
        text = texts[int(keys[i])]
        return (-int(counts[i]), -text.copies, name_order(text.caption))

    return np.array(sorted(chosen.tolist(), key=key), np.int64)


def _pictures(groups: _Ints, pictures: _Hashes, size: int) -> _Ints:
    """Distinct pictures of each caption group, by leader's index: int64 (size,)."""
    inside = groups >= 0
    pairs = np.unique(np.stack([groups[inside].astype(np.uint64), pictures[inside]], axis=1), axis=0)
    return np.bincount(pairs[:, 0].astype(np.int64), minlength=size)


def _rows(
    texts: Sequence[CaptionText], leaders: _Ints, counts: _Ints, pictures: _Ints
) -> list[dict[str, Any]]:
    occurrences = np.zeros(len(texts), np.int64)
    np.add.at(occurrences, leaders, counts)
    best: dict[int, tuple[int, bytes, str]] = {}
    for text, leader in zip(texts, leaders.tolist(), strict=True):
        rank = (-text.copies, name_order(text.representative_id), text.representative_id)
        best[leader] = min(best.get(leader, rank), rank)
    rows = [
        {
            "caption": texts[leader].caption,
            "occurrences": int(occurrences[leader]),
            "pictures": int(pictures[leader]),
            "max_copies": -rank[0],
            "sample_id": rank[2],
        }
        for leader, rank in best.items()
        if occurrences[leader] >= 2 or -rank[0] >= 2
    ]
    return sorted(rows, key=lambda r: (-r["occurrences"], -r["max_copies"], name_order(r["caption"])))
