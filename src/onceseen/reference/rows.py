"""Rows of an index out of rows of the features and verdicts tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.core.features import fixed_bytes, status_ok, vectors
from onceseen.core.schemas import THUMB_SIDE
from onceseen.reference.store import (
    EXACT,
    LOW_QUALITY,
    NAMES,
    NONE,
    SAME,
    SAMPLE,
    TRIMMED_FLAG,
    VERDICTS,
    region_dtype,
)

SCALAR_COLUMNS = (
    *("sample_id", "key", "member", "member_offset", "member_size", "width", "height", "sharpness"),
    *("status", "sha256", "pixel_hash"),
)
PICTURE_COLUMNS = ("row", "pdq", "pdq_mirrored", "pdq_quality", "views")
VECTOR_COLUMNS = ("embedding", "view_embeddings")
VERDICT_COLUMNS = ("sample_id", "verdict", "representative_id", "copies", "component_id", "component_size")


def exact_rows(table: pa.Table, first: int) -> NDArray[np.void]:
    """Array of `EXACT` for the judged rows of a shard whose first sample is `first`."""
    ok = status_ok(table)
    out = np.empty(int(ok.sum()), dtype=EXACT)
    out["hash"] = fixed_bytes(table, "pixel_hash", 16)[ok]
    out["sha"] = fixed_bytes(table, "sha256", 32)[ok][:, :16]
    out["sample"] = first + np.flatnonzero(ok)
    return out


def sample_rows(table: pa.Table, verdicts: pa.Table, position: int) -> tuple[NDArray[np.void], bytes]:
    """Records of one shard and their names, which begin at `position` of names.bin."""
    out = np.zeros(len(table), dtype=SAMPLE)
    for name in ("member_offset", "member_size", "width", "height", "sharpness"):
        column = table.column(name).fill_null(0)
        out[name] = column.to_numpy(zero_copy_only=False)
    out["region"] = -1
    for name in ("copies", "component_size"):
        out[name] = verdicts.column(name).to_numpy(zero_copy_only=False)
    out["verdict"] = [VERDICTS.index(v) for v in verdicts.column("verdict").to_pylist()]
    sources = (verdicts if name in VERDICT_COLUMNS else table for name in NAMES)
    columns = [source.column(name).to_pylist() for source, name in zip(sources, NAMES, strict=True)]
    pieces: list[bytes] = []
    for place, (sample_id, *others) in enumerate(zip(*columns, strict=True)):
        out["names"][place] = position
        own = sample_id.encode("utf-8", "surrogateescape")
        raw, lengths = [own], [len(own)]
        for text in others:
            if text is None or text == sample_id:
                lengths.append(NONE if text is None else SAME)
            else:
                raw.append(text.encode("utf-8", "surrogateescape"))
                lengths.append(len(raw[-1]))
        out["lengths"][place] = lengths
        pieces += raw
        position += sum(map(len, raw))
    return out, b"".join(pieces)


def region_rows(
    block: pa.Table, samples: NDArray[np.int64], dimensions: int, min_quality: int
) -> NDArray[np.void]:
    """Regions of a block: each whole picture, and after it its trimmed view where it has one.

    Args:
        block: Features and thumbs of compared rows.
        samples: (n,) their samples.
        dimensions: d of the embeddings, 0 without.
        min_quality: Under this PDQ quality a region is marked.

    Returns:
        Array of `region_dtype(d)`.
    """
    trimmed = block.column("trimmed").to_pylist()
    views = [
        v[0] if v and thumb else None
        for v, thumb in zip(block.column("views").to_pylist(), trimmed, strict=True)
    ]
    has = np.array([v is not None for v in views], dtype=bool)
    starts = np.concatenate([[0], np.cumsum(1 + has)[:-1]]).astype(np.int64)
    out = np.zeros(len(block) + int(has.sum()), dtype=region_dtype(dimensions))
    inner, kept = starts[has] + 1, [v for v in views if v is not None]
    out["sample"][starts], out["sample"][inner] = samples, samples[has]
    out["flags"][inner] = TRIMMED_FLAG
    out["box"][starts] = (0.0, 0.0, 1.0, 1.0)
    out["quality"][starts] = block.column("pdq_quality").to_numpy(zero_copy_only=False)
    out["pdq"][starts] = fixed_bytes(block, "pdq", 32)
    out["mirrored"][starts] = fixed_bytes(block, "pdq_mirrored", 32)
    out["thumb"][starts] = _thumbs(block.column("thumb").to_pylist())
    if kept:
        out["box"][inner] = [v["box"] for v in kept]
        out["quality"][inner] = [v["pdq_quality"] for v in kept]
        out["pdq"][inner] = [np.frombuffer(v["pdq"], np.uint8) for v in kept]
        out["mirrored"][inner] = [np.frombuffer(v["pdq_mirrored"], np.uint8) for v in kept]
        out["thumb"][inner] = _thumbs([t for t, h in zip(trimmed, has, strict=True) if h])
    if dimensions:
        out["embedding"][starts] = vectors(block)
        if kept:
            inside = block.filter(pa.array(has)).column("view_embeddings").to_pylist()
            out["embedding"][inner] = [values[:dimensions] for values in inside]
    out["flags"][out["quality"] < min_quality] |= LOW_QUALITY
    return out


def _thumbs(values: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(values), np.uint8).reshape(-1, THUMB_SIDE, THUMB_SIDE)
