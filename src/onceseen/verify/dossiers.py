"""What travels to the verify step: the stored features of pictures that stand in candidate pairs.

A `Dossier` is a few rows of a shard's features and thumbs as Arrow IPC bytes: about 6 KB a picture, sent once for each
shard that it has candidates in, never its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from onceseen.core.features import read_feature_rows, read_thumb_rows, thumb_array
from onceseen.core.ipc import bytes_table, table_bytes
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard, node_id, node_row
from onceseen.shards import WantedImage
from onceseen.verify.sides import Region, Side

_COLUMNS = [
    "sample_id",
    "key",
    "row",
    "member",
    "member_offset",
    "member_size",
    "width",
    "height",
    "pdq",
    "pdq_mirrored",
    "pdq_quality",
    "sharpness",
    "blank",
    "views",
    "embedding",
    "view_embeddings",
]
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(slots=True)
class Dossier:
    """Features of some pictures of one shard, by node id; sides are built when first asked for."""

    shard_number: int
    table: pa.Table
    _places: dict[int, int] = field(default_factory=dict)
    _sides: dict[int, Side] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = self.table.column("row").to_pylist()
        self._places = {node_id(self.shard_number, row): i for i, row in enumerate(rows)}

    @classmethod
    def load(cls, layout: RunLayout, shard: Shard, rows: NDArray[np.int64]) -> Dossier:
        """Reads the features and thumbs of some rows of a shard, ascending and each once."""
        taken = read_feature_rows(layout, shard, rows, _COLUMNS)
        thumbs = read_thumb_rows(layout, shard, rows)
        for name in ("thumb", "trimmed"):
            taken = taken.append_column(name, thumbs.column(name))
        return cls(shard.number, taken)

    def part(self, rows: NDArray[np.int64]) -> Dossier:
        """A dossier of fewer rows."""
        return Dossier(
            self.shard_number, self.table.filter(pc.is_in(self.table["row"], pa.array(rows, pa.int32())))
        )

    def to_bytes(self) -> bytes:
        """As Arrow IPC bytes."""
        return table_bytes(self.table)

    @classmethod
    def from_bytes(cls, shard_number: int, data: bytes) -> Dossier:
        """From `to_bytes`."""
        return cls(shard_number, bytes_table(data))

    def sample_id(self, node: int) -> str:
        """Sample id of a node."""
        return str(self.table.column("sample_id")[self._places[node]].as_py())

    def wanted(self, node: int) -> WantedImage:
        """What to ask of the shard to read the picture again."""
        place = self._places[node]
        names = ("row", "key", "member", "member_offset", "member_size")
        return WantedImage(*(self.table.column(name)[place].as_py() for name in names))

    def side(self, node: int) -> Side:
        """The picture as the verify room sees it."""
        if node not in self._sides:
            self._sides[node] = _side(
                {n: self.table.column(n)[self._places[node]] for n in self.table.column_names}
            )
        return self._sides[node]


def _side(row: dict[str, pa.Scalar]) -> Side:
    plain = {
        name: value.as_py() for name, value in row.items() if name not in ("embedding", "view_embeddings")
    }
    embedding, views = _float32(row["embedding"]), _float32(row["view_embeddings"])
    whole = _region(plain, _WHOLE, plain["thumb"], embedding)
    trimmed = None
    if plain["views"] and plain["trimmed"]:
        vector = None if embedding is None or views is None else views[: len(embedding)]
        view = plain["views"][0]
        trimmed = _region(view, tuple(float(x) for x in view["box"]), plain["trimmed"], vector)
    return Side(
        int(plain["width"]),
        int(plain["height"]),
        bool(plain["blank"]),
        float(plain["sharpness"]),
        whole,
        trimmed,
    )


def _region(
    values: dict[str, Any],
    box: tuple[float, ...],
    thumb: bytes,
    embedding: NDArray[np.float32] | None,
) -> Region:
    bits = [np.frombuffer(values[n], dtype=np.uint8) for n in ("pdq", "pdq_mirrored")]
    pixels = thumb_array(thumb)
    if pixels is None:
        raise ValueError("a judged picture has no stored thumb: the thumbs file is of another run")
    x0, y0, x1, y1 = box
    return Region((x0, y0, x1, y1), bits[0], bits[1], int(values["pdq_quality"]), pixels, embedding)


def _float32(scalar: pa.Scalar) -> NDArray[np.float32] | None:
    """A stored float16 vector, or None where there is none."""
    if not scalar.is_valid:
        return None
    flat = scalar.values.to_numpy(zero_copy_only=False).astype(np.float32)
    return flat if len(flat) else None


def rows_of(nodes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows, ascending and each once, of node ids of one shard."""
    return np.unique(node_row(np.asarray(nodes, dtype=np.int64)))
