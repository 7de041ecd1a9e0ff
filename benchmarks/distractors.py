"""For detector.py: a finished run with many more pictures in it, which are not pictures, to measure time and memory.

A distractor is a vector at a cosine of .3 to .7 to the embedding of a photograph, the rest of it a random mix of other
photographs' embeddings: perturbed real vectors, so that queries have many neighbours that are worth a comparison. Its
thumb is a photograph's in shuffled tiles, its PDQ has 30 % of its bits flipped. They say what a search costs and what
it finds; of false positives on real pictures they say nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.core.features import (
    Embeddings,
    feature_writer,
    fixed_bytes,
    read_features,
    read_thumbs,
    status_ok,
    vectors,
)
from onceseen.core.files import read_json, write_json, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_shards, shard_to_json
from onceseen.core.records import Shard, ShardKind
from onceseen.core.schemas import OK, VERDICTS
from onceseen.neighbors.cells import train_cells
from onceseen.neighbors.cells_file import write_cells

SHARD_ROWS = 10_000
BLOCK_ROWS = 2_000
_SEED = 20_260_101


class Distractors:
    """Makes distractors out of the features of a run."""

    def __init__(self, layout: RunLayout) -> None:
        """Reads the run's features."""
        tables = [(read_features(layout, s), read_thumbs(layout, s)) for s in read_shards(layout)]
        ok = [status_ok(features) for features, _ in tables]
        self.real = np.concatenate([vectors(f)[good] for (f, _), good in zip(tables, ok, strict=True)])
        self._pdq = np.concatenate(
            [fixed_bytes(f, "pdq", 32)[g] for (f, _), g in zip(tables, ok, strict=True)]
        )
        thumbs = [fixed_bytes(t, "thumb", 4096)[g] for (_, t), g in zip(tables, ok, strict=True)]
        self._tiles = (
            np.concatenate(thumbs).reshape(-1, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 64, 8, 8)
        )

    def vectors(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(count, d) float32, rows unit L2."""
        near = self.real[rng.integers(len(self.real), size=count)]
        mixed = rng.standard_normal((count, len(self.real))).astype(np.float32) @ self.real
        mixed -= (mixed * near).sum(axis=1, keepdims=True) * near
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        cosine = rng.uniform(0.3, 0.7, size=(count, 1)).astype(np.float32)
        return np.asarray(cosine * near + np.sqrt(1 - cosine**2) * mixed, dtype=np.float32)

    def rows(self, shard: Shard, start: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of features and thumbs."""
        rng = np.random.default_rng([_SEED, shard.number, start, 1])
        bits = np.unpackbits(self._pdq[rng.integers(len(self._pdq), size=count)], axis=1)
        pdq = np.packbits(bits ^ (rng.random(bits.shape) < 0.3), axis=1)
        tiles = self._tiles[rng.integers(len(self._tiles), size=count)][:, rng.permutation(64)]
        thumbs = tiles.reshape(-1, 8, 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(count, -1)
        rows, shown = [], []
        for k in range(count):
            key = f"{shard.number:05d}{start + k:05d}"
            digest = hashlib.sha256(key.encode()).digest()
            sample_id = f"{shard.name}/{key}"
            row = {"sample_id": sample_id, "shard": shard.name, "key": key, "row": start + k, "status": OK}
            row |= {"member": f"{key}.jpg", "member_offset": 0, "member_size": 1, "format": "jpeg"}
            row |= {"width": 400, "height": 300, "num_bytes": 1, "sha256": digest, "pixel_hash": digest[:16]}
            row |= {"pdq": pdq[k].tobytes(), "pdq_mirrored": pdq[k][::-1].tobytes(), "pdq_quality": 100}
            row |= {"sharpness": 300.0, "blank": False, "caption": "", "meta": "", "views": []}
            rows.append(row)
            shown.append({"sample_id": sample_id, "thumb": thumbs[k].tobytes(), "trimmed": b""})
        return rows, shown


def add_distractors(run: Path, count: int) -> Iterator[int]:
    """Adds shards of distractors to a finished run, and cells for so many; yields rows done."""
    layout = RunLayout.at(str(run))
    shards, made = read_shards(layout), Distractors(layout)
    model = read_json(layout.run_json())["model"]
    empty = np.empty((0, made.real.shape[1]), dtype=np.float16)
    for number in range(len(shards), len(shards) + -(-count // SHARD_ROWS)):
        shard = Shard(number, f"~{number:05d}", ShardKind.TAR, f"/distractors/{number:05d}.tar", 1, "")
        ids = []
        with feature_writer(layout, shard, made.real.shape[1], model) as writer:
            for start in range(0, SHARD_ROWS, BLOCK_ROWS):
                x = made.vectors(BLOCK_ROWS, np.random.default_rng([_SEED, number, start]))
                rows, thumbs = made.rows(shard, start, BLOCK_ROWS)
                writer.write(rows, Embeddings(x.astype(np.float16), [empty] * BLOCK_ROWS), thumbs)
                ids += rows
        write_table(layout.verdicts(shard.name), _verdicts(ids))
        shards.append(shard)
        yield SHARD_ROWS
    sample = made.vectors(CellsConfig().train_samples // 4, np.random.default_rng(_SEED))
    write_cells(layout.centroids(), train_cells(np.concatenate([made.real, sample]), count, CellsConfig()))
    content = read_json(layout.run_json())
    content["shards"] = [shard_to_json(shard) for shard in shards]
    content["jobs"]["match"]["fingerprint"] = hashlib.sha256(f"distractors {count}".encode()).hexdigest()
    write_json(layout.run_json(), content)


def _verdicts(rows: list[dict[str, Any]]) -> pa.Table:
    kept = {"verdict": "keep", "copies": 1, "component_size": 1, "weight": 1.0}
    return pa.Table.from_pylist(
        [
            {name: row[name] for name in ("sample_id", "shard", "key", "row")}
            | {"representative_id": row["sample_id"], "component_id": row["sample_id"], **kept}
            for row in rows
        ],
        schema=VERDICTS,
    )


def resident_mb() -> dict[str, float]:
    """Resident memory of this process.

    `RssAnon` is its own, `RssFile` are pages of mapped files, which the system may take back, `VmHWM` the most of both.
    """
    status = Path("/proc/self/status").read_text()
    return {
        name: round(int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024, 1)  # type: ignore[index]
        for name in ("RssAnon", "RssFile", "VmHWM")
    }


def forget_files(directory: Path) -> None:
    """Has the system drop a directory's files from memory, so that what is resident later was asked for."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def in_own_process(function: str, *args: str) -> Any:  # noqa: ANN401 - JSON
    """Runs a function of detector.py in a process of its own and returns the JSON that it prints."""
    code = f"import json, sys, detector; print(json.dumps(detector.{function}(*sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=Path(__file__).parent,
        env=os.environ,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
