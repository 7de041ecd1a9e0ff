"""stats/copies.parquet and stats/delete_list.csv.

Both read one shard at a time. The copies table keeps 24 bytes for each sample in a group of two or more and
its own rows (one a group of two or more); the delete list keeps one shard's rows.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onceseen.core.files import atomic_write, read_table, write_table
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, Verdict
from onceseen.core.schemas import COPIES
from onceseen.stats.lookup import VerdictRow, read_verdicts
from onceseen.stats.text import hash64, normalise_caption

DELETE_LIST_HEADER = ("sample_id", "representative_id", "kind", "score")


def write_copies_table(layout: RunLayout, shards: Sequence[Shard]) -> str:
    """Writes one row for each kept picture with two copies or more, most copies first, then by sample_id.

    `distinct_captions` counts the group's captions after normalisation (`normalise_caption`), empty ones left
    out; `url_domains` the hosts of the `url` field of `meta`, where features keep one.

    Returns:
        The path of stats/copies.parquet.
    """
    heads: list[VerdictRow] = []
    captions: dict[str, str] = {}
    triples: list[npt.NDArray[np.uint64]] = []
    for shard in shards:
        texts, piece = _group_texts(layout, shard)
        triples.append(piece)
        for row in read_verdicts(layout, shard.name):
            if row.is_representative and row.copies >= 2:
                heads.append(row)
                captions[row.sample_id] = texts.get(row.sample_id, "")
    table = np.concatenate(triples) if triples else np.empty((0, 3), np.uint64)
    by_caption, by_domain = _distinct(table[:, [0, 1]]), _distinct(table[:, [0, 2]])
    heads.sort(key=lambda row: (-row.copies, name_order(row.sample_id)))
    keys = [hash64(row.sample_id) for row in heads]
    columns: dict[str, list[Any]] = {
        "sample_id": [row.sample_id for row in heads],
        "copies": [row.copies for row in heads],
        "component_size": [row.component_size for row in heads],
        "distinct_captions": [by_caption[key] for key in keys],
        "url_domains": [by_domain[key] for key in keys],
        "caption": [captions[row.sample_id] for row in heads],
    }
    path = layout.stats("copies.parquet")
    write_table(path, pa.table(columns, schema=COPIES))
    return path


def write_delete_list(layout: RunLayout, shards: Sequence[str]) -> str:
    r"""Writes stats/delete_list.csv: every dropped sample with its representative, kind and score.

    Shards come in UTF-8 byte order of their names, samples in UTF-8 byte order within each. UTF-8, `\\n` ends
    a line, fields with commas, quotes or line ends are quoted; the score has six decimals, and is 1 where a
    person's decision dropped the sample; a sample dropped by itself has no representative.

    Returns:
        The path of stats/delete_list.csv.
    """
    path = layout.stats("delete_list.csv")
    with atomic_write(path) as stream:
        stream.write(csv_line(DELETE_LIST_HEADER))
        for shard in sorted(shards, key=name_order):
            for row in sorted(_dropped(layout, shard), key=lambda row: name_order(row.sample_id)):
                score = "" if row.score is None else f"{row.score:.6f}"
                stream.write(csv_line((row.sample_id, row.representative_id, row.kind, score)))
    return path


def _dropped(layout: RunLayout, shard: str) -> Iterator[VerdictRow]:
    return (row for row in read_verdicts(layout, shard) if row.verdict == Verdict.DROP)


def csv_line(values: Sequence[str]) -> bytes:
    """One line of a csv file, UTF-8."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode("utf-8")


def _group_texts(layout: RunLayout, shard: Shard) -> tuple[dict[str, str], npt.NDArray[np.uint64]]:
    """Captions of a shard's representatives, and hashes of samples in groups of two or more.

    Returns:
        Captions by sample_id, and (group, caption, domain) hashes, (n, 3) uint64; 0 stands for no caption or
        no domain.
    """
    features = read_table(layout.of(shard).features(shard.name), columns=["sample_id", "caption", "meta"])
    texts = {row["sample_id"]: row for row in features.to_pylist()}
    captions: dict[str, str] = {}
    rows: list[tuple[int, int, int]] = []
    for row in read_verdicts(layout, shard.name):
        alone = row.is_representative and row.copies < 2
        if row.verdict == Verdict.FAILED or alone:
            continue
        text = texts[row.sample_id]
        caption = text["caption"] or ""
        if row.is_representative:
            captions[row.sample_id] = caption
        normal, domain = normalise_caption(caption), url_domain(text["meta"] or "")
        rows.append((hash64(row.group_id), hash64(normal) if normal else 0, hash64(domain) if domain else 0))
    return captions, np.array(rows, np.uint64).reshape(-1, 3)


def url_domain(meta: str) -> str:
    """Host of the `url` field of a sample's meta, lower case; empty where there is none.

    >>> url_domain('{"url": "https://Example.org:8080/a.jpg"}')
    'example.org'
    """
    if not meta:
        return ""
    fields = json.loads(meta)
    url = fields.get("url") if isinstance(fields, dict) else None
    if not isinstance(url, str):
        return ""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # not an address: "http://[bad"
        return ""


def _distinct(pairs: npt.NDArray[np.uint64]) -> Counter[int]:
    """Distinct nonzero second values for each first value."""
    unique = np.unique(pairs[pairs[:, 1] != 0], axis=0)
    keys, counts = np.unique(unique[:, 0], return_counts=True)
    return Counter({int(key): int(count) for key, count in zip(keys, counts, strict=True)})
