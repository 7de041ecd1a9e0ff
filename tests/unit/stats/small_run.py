"""A finished run, made by hand: a real tar a shard, and tables with the schemas of `onceseen.core.schemas`."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from onceseen.core.config import PipelineConfig, ReadConfig
from onceseen.core.config_io import config_to_mapping
from onceseen.core.failures import Failure
from onceseen.core.features import Embeddings, feature_writer
from onceseen.core.files import write_json, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import ImageSample, Shard, ShardKind, Verdict, node_id
from onceseen.core.schemas import FAILURES, OK, PAIRS, THUMB_SIDE, VERDICTS
from onceseen.fingerprint import caption_minhash, decode_image
from onceseen.shards import read_shard

DIMENSIONS = 16


@dataclass(frozen=True)
class Planted:
    """One sample and what the run is to have decided of it; `under` is its representative's id, itself if empty."""

    sample_id: str
    image: bytes
    caption: str = ""
    url: str = ""
    verdict: Verdict = Verdict.KEEP
    under: str = ""
    kind: str = ""
    score: float | None = None
    evidence: tuple[str, str] | None = None
    component: str = ""
    reason: str = ""

    @property
    def shard(self) -> str:
        return self.sample_id.rpartition("/")[0]

    @property
    def head(self) -> str:
        return self.under or self.sample_id


def named(*names: str) -> list[Shard]:
    """Shards of a run by their names."""
    return [Shard(number, name, ShardKind.TAR, f"{name}.tar", 1, "m") for number, name in enumerate(names)]


def dropped(sample_id: str, image: bytes, under: str, kind: str = "perceptual", **values: Any) -> Planted:
    """A sample dropped for `under`, compared with it directly."""
    values.setdefault("score", 1.0 if kind in ("bytes", "pixels") else 0.9)
    values.setdefault("evidence", tuple(sorted((sample_id, under))))
    return Planted(sample_id, image, verdict=Verdict.DROP, under=under, kind=kind, **values)


def failed(sample_id: str, reason: str, image: bytes = b"not a picture") -> Planted:
    """A sample that could not be judged."""
    return Planted(sample_id, image, verdict=Verdict.FAILED, reason=reason)


def picture(seed: int, width: int = 96, height: int = 72) -> npt.NDArray[np.uint8]:
    """A smooth random picture, (height, width, 3) uint8 BGR."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(pixels: npt.NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encodes a picture."""
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


@dataclass
class SmallRun:
    """Writes shards and the tables of a run over them."""

    root: Path
    samples: Sequence[Planted]
    pairs: Sequence[Mapping[str, Any]] = ()
    config: PipelineConfig = field(default_factory=PipelineConfig)
    shard_failures: Sequence[tuple[str, Failure]] = ()

    def write(self) -> RunLayout:
        """Writes everything; gives the run."""
        layout = RunLayout(str(self.root / "run"))
        by_shard: dict[str, list[Planted]] = defaultdict(list)
        for sample in self.samples:
            by_shard[sample.shard].append(sample)
        nodes: dict[str, int] = {}
        shards = []
        for number, name in enumerate(sorted(by_shard)):
            shard = self._write_tar(number, name, by_shard[name])
            shards.append(shard)
            read = [s for s in read_shard(shard, self.config.read) if isinstance(s, ImageSample)]
            order = {s.sample_id: s for s in by_shard[name]}
            assert [s.sample_id for s in read] == list(order)
            nodes.update({s.sample_id: node_id(number, s.row) for s in read})
            write_features(layout, shard, read, order)
            self._write_verdicts(layout, shard, list(order.values()))
            self._write_failures(layout, shard, list(order.values()))
        self._write_pairs(layout, nodes)
        write_json(layout.run_json(), self._record(shards))
        return layout

    def _record(self, shards: Sequence[Shard]) -> dict[str, Any]:
        listed = [
            {key: str(value) if key == "kind" else value for key, value in dataclasses.asdict(shard).items()}
            for shard in shards
        ]
        return {
            "config": config_to_mapping(self.config),
            "shards": listed,
            "model": {"name": "test", "weights_sha256": "0" * 64, "dimensions": DIMENSIONS},
            "versions": {"onceseen": "0.1.0"},
            "jobs": {name: {"state": "done", "fingerprint": "f"} for name in ("extract", "match", "rewrite")},
        }

    def _write_tar(self, number: int, name: str, samples: Sequence[Planted]) -> Shard:
        path = self.root / "src" / f"{name}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for sample in samples:
                key = sample.sample_id.rpartition("/")[2]
                _add(tar, f"{key}.jpg", sample.image)
                _add(tar, f"{key}.txt", sample.caption.encode())
                if sample.url:
                    _add(tar, f"{key}.json", ('{"url": "' + sample.url + '"}').encode())
        return Shard(number, name, ShardKind.TAR, str(path), path.stat().st_size, "mark")

    def _write_verdicts(self, layout: RunLayout, shard: Shard, samples: Sequence[Planted]) -> None:
        judged = [s for s in self.samples if s.verdict != Verdict.FAILED]
        copies = Counter(s.head for s in judged)
        sizes = Counter(s.component or s.head for s in judged)
        rows = []
        for row, sample in enumerate(samples):
            values: dict[str, Any] = dict.fromkeys(VERDICTS.names)
            values.update(
                sample_id=sample.sample_id, shard=shard.name, key=sample.sample_id.rpartition("/")[2]
            )
            values.update(verdict=str(sample.verdict), row=row)
            if sample.verdict != Verdict.FAILED:
                evidence = sample.evidence or ("", "")
                values.update(representative_id=sample.head, evidence_a=evidence[0], evidence_b=evidence[1])
                values.update(kind=sample.kind, score=sample.score, copies=copies[sample.head], weight=1.0)
                component = sample.component or sample.head
                values.update(component_id=component, component_size=sizes[component])
            rows.append(values)
        write_table(layout.verdicts(shard.name), pa.Table.from_pylist(rows, schema=VERDICTS))

    def _write_failures(self, layout: RunLayout, shard: Shard, samples: Sequence[Planted]) -> None:
        rows = [
            {
                "subject": s.sample_id,
                "shard": shard.name,
                "stage": "decode",
                "reason": s.reason,
                "detail": "a <b> detail",
            }
            for s in samples
            if s.verdict == Verdict.FAILED
        ]
        for name, failure in self.shard_failures:
            if name == shard.name:
                rows.append({**dataclasses.asdict(failure), "reason": str(failure.reason), "shard": name})
        write_table(layout.shard_failures(shard.name), pa.Table.from_pylist(rows, schema=FAILURES))

    def _write_pairs(self, layout: RunLayout, nodes: Mapping[str, int]) -> None:
        rows = []
        for pair in self.pairs:
            row: dict[str, Any] = dict.fromkeys(PAIRS.names)
            row.update(pair)
            row["node_a"], row["node_b"] = nodes[pair["sample_id_a"]], nodes[pair["sample_id_b"]]
            rows.append(row)
        table = pa.Table.from_pylist(rows, schema=PAIRS)
        middle = len(rows) // 2
        write_table(f"{layout.pairs_dir()}/part-00000.parquet", table.slice(0, middle))
        write_table(f"{layout.pairs_dir()}/part-00001.parquet", table.slice(middle))


def pair(a: str, b: str, kind: str = "perceptual", *, verified: bool = True, **values: Any) -> dict[str, Any]:
    """A row of the pairs table, smaller id first."""
    first, second = sorted((a, b))
    row: dict[str, Any] = {
        "sample_id_a": first,
        "sample_id_b": second,
        "kind": kind,
        "verified": verified,
        "score": 1.0 if kind in ("bytes", "pixels") else 0.9,
        "cosine": 0.91,
        "pdq_distance": 12,
        "coverage_a": 1.0,
        "coverage_b": 1.0,
        "foreign_a": 0.0,
        "foreign_b": 0.0,
        "transform": "identity",
    }
    return {**row, **values}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_features(
    layout: RunLayout, shard: Shard, read: Sequence[ImageSample], order: Mapping[str, Planted]
) -> None:
    rows = [_features_row(shard, sample, order[sample.sample_id]) for sample in read]
    thumbs = [{"thumb": row.pop("thumb"), "trimmed": b""} for row in rows]
    vectors = np.stack([_vector(order[s.sample_id].image) for s in read])
    none = [np.empty((0, DIMENSIONS), np.float16)] * len(rows)
    with feature_writer(layout, shard, DIMENSIONS, {"name": "test"}) as writer:
        writer.write(rows, Embeddings(vectors, none), thumbs)


def _features_row(shard: Shard, sample: ImageSample, planted: Planted) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sample_id": sample.sample_id,
        "shard": shard.name,
        "key": sample.key,
        "row": sample.row,
        "status": planted.reason or OK,
        "member": sample.member,
        "member_offset": sample.member_offset,
        "member_size": sample.member_size,
        "caption": sample.caption,
        "meta": sample.meta,
        "thumb": None,
    }
    if planted.reason:
        return row
    assert sample.image is not None
    rgb = decode_image(sample.image, ReadConfig().max_pixels).rgb
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    bits = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA)
    row.update(format="jpeg", width=rgb.shape[1], height=rgb.shape[0], num_bytes=len(sample.image))
    row.update(sha256=hashlib.sha256(sample.image).digest(), pixel_hash=hashlib.md5(rgb.tobytes()).digest())  # noqa: S324
    row.update(
        pdq=_bits(bits), pdq_mirrored=_bits(bits[:, ::-1]), pdq_quality=100, sharpness=80.0, blank=False
    )
    row.update(caption_minhash=caption_minhash(sample.caption, 32), views=[])
    row["thumb"] = cv2.resize(grey, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA).tobytes()
    return row


def _bits(values: npt.NDArray[np.uint8]) -> bytes:
    """256 bits that stand for a perceptual hash: brighter than the median or not."""
    return np.packbits(values > np.median(values)).tobytes()


def _vector(image: bytes) -> npt.NDArray[np.float16]:
    digest = np.frombuffer(hashlib.sha256(image).digest()[:DIMENSIONS], np.uint8).astype(np.float64) - 127.5
    return (digest / np.linalg.norm(digest)).astype(np.float16)
