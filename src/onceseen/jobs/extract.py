"""Extract, one shard: read ahead, decode and fingerprint in threads, embed in padded batches, write two tables.

    calling thread    reads, submits decoding, cuts batches, writes blocks
    decode threads    one picture each: decode, fingerprint, preprocess
    embed threads     one runs the model, the other meanwhile stacks the next batch and copies it to the device

Pure Python, callable without Beam. Memory is bounded by the reading window, two batches under way and a block of rows,
whatever the size of the shard. Rows are in the shard's order and batches are cut in that order, so the tables do not
depend on thread timing.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.core.config import PipelineConfig
from onceseen.core.cores import available_cores
from onceseen.core.failures import Failure, FailureReason, SampleError
from onceseen.core.features import Embeddings, FeatureWriter, feature_writer
from onceseen.core.files import write_json, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.records import ImageSample, Shard
from onceseen.core.schemas import FAILURES, OK
from onceseen.embed import Embedded, Embedder, embed_padded, prepare_picture
from onceseen.fingerprint import ENCODED_AHEAD, Fingerprint, caption_minhash, decoded_image
from onceseen.shards import read_shard

BLOCK_ROWS = 2_048
_MEMO_ROWS = 4 * BLOCK_ROWS
_KEPT_BYTES = 8 << 20
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_BATCHES_UNDER_WAY = 2


@dataclass(slots=True)
class _Judged:
    """What decoding gives for one distinct image: its fingerprint and model inputs, later its vectors."""

    fingerprint: Fingerprint | None = None
    failure: tuple[str, FailureReason, str] | None = None
    inputs: list[NDArray[Any]] = field(default_factory=list)
    vectors: NDArray[np.float16] | None = None


_Block = list[tuple[ImageSample, _Judged]]
_Input = tuple[_Judged, int]
"""Whose model input, and which of its regions."""


@dataclass(frozen=True, slots=True)
class ExtractSummary:
    """Counts of one extracted shard, and what the model ran on (empty: none); its done mark, under 1 KB."""

    shard: str
    fingerprint: str
    read: int
    failed: int
    failed_by: dict[str, int]
    damaged: str
    regions: int
    bytes_read: int
    runs_on: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain fields; the time is left out, since marks are compared between runs."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "seconds"}


def extract_shard(
    shard: Shard, config: PipelineConfig, layout: RunLayout, embedder: Embedder | None, fingerprint: str
) -> ExtractSummary:
    """Reads one shard and writes its features, thumbs, failures and done mark.

    Args:
        shard: The shard.
        config: Sections read, fingerprint and embed are used.
        layout: Where the tables go.
        embedder: The loaded model, or None for hashes only.
        fingerprint: The extract job's fingerprint, kept in the done mark.

    Returns:
        Counts. A sample that cannot be judged is a row with its reason, never an exception.

    Raises:
        DeviceError: If the GPU itself has failed; nothing of the shard is left behind.
    """
    started = time.monotonic()
    _keep_freed_memory()
    extraction = _Extraction(shard, config, embedder)
    dimensions = embedder.spec.dimensions if embedder else 0
    model = embedder.spec.to_json() if embedder else None
    with feature_writer(layout, shard, dimensions, model) as writer:
        extraction.run(writer)
    _write_failures(layout, shard, extraction.failures)
    summary = ExtractSummary(
        shard=shard.name,
        fingerprint=fingerprint,
        read=extraction.read,
        failed=sum(extraction.failed_by.values()),
        failed_by=dict(sorted(extraction.failed_by.items())),
        damaged=next((f"{f.reason}: {f.detail}" for f in extraction.failures if f.is_shard), ""),
        regions=extraction.regions,
        bytes_read=extraction.bytes_read,
        runs_on=embedder.runs_on if embedder else "",
        seconds=time.monotonic() - started,
    )
    write_json(layout.extract_summary(shard.name), summary.to_json())
    return summary


class _Extraction:
    """The state of one shard's extraction."""

    def __init__(self, shard: Shard, config: PipelineConfig, embedder: Embedder | None) -> None:
        self._shard = shard
        self._config = config
        self._embedder = embedder
        self._memo: OrderedDict[bytes, Future[_Judged]] = OrderedDict()
        self._waiting: list[_Input] = []  # not embedded yet
        self._under_way: deque[tuple[list[_Input], Future[list[Embedded]]]] = deque()
        self._queued = 0  # model inputs so far
        self._settled = 0  # those of them that have come back, in the same order
        self._blocks: deque[tuple[int, _Block]] = deque()  # to be written once so many inputs are settled
        self.failures: list[Failure] = []
        self.failed_by: Counter[str] = Counter()
        self.read = 0
        self.regions = 0
        self.bytes_read = 0

    def run(self, writer: FeatureWriter) -> None:
        """Streams the shard into the tables."""
        block: _Block = []
        threads = self._config.fingerprint.threads or available_cores()
        window = max(4 * threads, 2 * self._config.embed.batch_size)
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool,
            ThreadPoolExecutor(_BATCHES_UNDER_WAY, thread_name_prefix="embed") as model,
        ):
            for sample, future in self._read_ahead(pool, window):
                judged = future.result()
                block.append((sample, judged))
                self._queue_inputs(judged, model)
                if len(block) == BLOCK_ROWS:
                    self._blocks.append((self._queued, block))
                    block = []
                self._write_settled(writer)
            self._embed(self._waiting, model)
            self._settle(0)
        self._blocks.append((self._queued, block))
        self._write_settled(writer)

    def _read_ahead(
        self, pool: ThreadPoolExecutor, window: int
    ) -> Iterator[tuple[ImageSample, Future[_Judged]]]:
        """Samples in order, each with its decoding under way: at most `window` ahead, and so many bytes of images."""
        ahead: deque[tuple[int, ImageSample, Future[_Judged]]] = deque()
        held = 0
        for sample in read_shard(self._shard, self._config.read):
            if isinstance(sample, Failure):
                self.failures.append(sample)
                continue
            size = len(sample.image or b"")
            # the row in the making does not hold the bytes
            ahead.append((size, replace(sample, image=None), self._submit(pool, sample)))
            del sample
            held += size
            while len(ahead) >= window or held > ENCODED_AHEAD:
                size, row, judged = ahead.popleft()
                held -= size
                yield row, judged
        yield from ((row, judged) for _, row, judged in ahead)

    def _submit(self, pool: ThreadPoolExecutor, sample: ImageSample) -> Future[_Judged]:
        """Decodes a sample in the pool; identical bytes within reach are decoded and embedded once."""
        if sample.image is None:
            done: Future[_Judged] = Future()
            reason = sample.error or FailureReason.NO_IMAGE
            done.set_result(_Judged(failure=("read", reason, sample.error_detail)))
            return done
        self.bytes_read += len(sample.image)
        digest = hashlib.sha256(sample.image).digest()
        known = self._memo.get(digest)
        if known is None:
            known = pool.submit(_judge_image, sample.image, digest, self._config, self._embedder)
            self._memo[digest] = known
            if len(self._memo) > _MEMO_ROWS:
                self._memo.popitem(last=False)
        else:
            self._memo.move_to_end(digest)
        return known

    def _queue_inputs(self, judged: _Judged, model: ThreadPoolExecutor) -> None:
        if self._embedder is None or judged.vectors is not None or not judged.inputs:
            return
        count = len(judged.inputs)
        judged.vectors = np.zeros((count, self._embedder.spec.dimensions), dtype=np.float16)
        self._waiting += [(judged, i) for i in range(count)]
        self._queued += count
        size = self._config.embed.batch_size
        while len(self._waiting) >= size:
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            self._embed(batch, model)

    def _embed(self, batch: list[_Input], model: ThreadPoolExecutor) -> None:
        """Sends one batch off, once there is room; the last one of a shard is padded."""
        if self._embedder is None or not batch:
            return
        self._settle(_BATCHES_UNDER_WAY - 1)
        inputs = [judged.inputs[i] for judged, i in batch]
        future = model.submit(embed_padded, self._embedder, inputs, self._config.embed.batch_size)
        self._under_way.append((batch, future))

    def _settle(self, left: int) -> None:
        """Takes the oldest batches back until so many are under way."""
        while len(self._under_way) > left:
            batch, future = self._under_way.popleft()
            for (judged, i), vector in zip(batch, future.result(), strict=True):
                if isinstance(vector, SampleError):
                    judged.failure = ("embed", vector.reason, vector.detail)
                elif judged.vectors is not None:
                    judged.vectors[i] = vector
                judged.inputs[i] = np.empty(0, np.uint8)  # the pixels are not needed any more
            self._settled += len(batch)

    def _write_settled(self, writer: FeatureWriter) -> None:
        """Writes the blocks of rows whose vectors have all come back."""
        while self._blocks and self._blocks[0][0] <= self._settled:
            _, block = self._blocks.popleft()
            if not block:
                continue
            rows, thumbs = [], []
            for sample, judged in block:
                self._count(sample, judged)
                rows.append(self._row(sample, judged))
                thumbs.append(_thumbs(judged))
            writer.write(rows, self._embeddings([j for _, j in block]), thumbs)

    def _count(self, sample: ImageSample, judged: _Judged) -> None:
        self.read += 1
        if judged.failure is not None:
            stage, reason, detail = judged.failure
            self.failed_by[str(reason)] += 1
            self.failures.append(Failure(sample.sample_id, stage, reason, detail))
        elif judged.fingerprint is not None:
            self.regions += 1 + len(judged.fingerprint.views)

    def _row(self, sample: ImageSample, judged: _Judged) -> dict[str, Any]:
        row: dict[str, Any] = {
            "sample_id": sample.sample_id,
            "shard": self._shard.name,
            "key": sample.key,
            "row": sample.row,
            "status": OK if judged.failure is None else str(judged.failure[1]),
            "member": sample.member,
            "member_offset": sample.member_offset,
            "member_size": sample.member_size,
            "caption": sample.caption,
            "caption_minhash": caption_minhash(sample.caption, self._config.fingerprint.minhash_permutations),
            "meta": sample.meta,
        }
        found = judged.fingerprint
        if judged.failure is None and found is not None:
            for name in (
                "format",
                "width",
                "height",
                "num_bytes",
                "sha256",
                "pixel_hash",
                "pdq",
                "pdq_mirrored",
                "pdq_quality",
                "sharpness",
                "blank",
            ):
                row[name] = getattr(found, name)
            row["views"] = [
                {
                    "name": v.name,
                    "box": list(v.box),
                    "pdq": v.pdq,
                    "pdq_mirrored": v.pdq_mirrored,
                    "pdq_quality": v.pdq_quality,
                }
                for v in found.views
            ]
        return row

    def _embeddings(self, block: list[_Judged]) -> Embeddings | None:
        if self._embedder is None:
            return None
        dimensions = self._embedder.spec.dimensions
        whole = np.zeros((len(block), dimensions), dtype=np.float16)
        views = [np.empty((0, dimensions), dtype=np.float16)] * len(block)
        for i, judged in enumerate(block):
            if judged.failure is None and judged.vectors is not None:
                whole[i] = judged.vectors[0]
                views[i] = judged.vectors[1:]
        return Embeddings(whole, views)


def _keep_freed_memory() -> None:
    """Has the C library reuse arrays of up to 8 MB instead of handing them back after each picture, and no larger ones.

    By default it returns the memory of threads to the system after each picture and gets it anew as zeroed pages:
    measured, 870 page faults and a quarter of the processor time a picture, and threads wait for each other in it.
    Left to itself, the GNU C library raises its bounds with the largest block that it has seen freed, up to 64 MB kept
    a thread (`M_MMAP_THRESHOLD` in mallopt(3)); set, they stay: at most 16 MB a thread. Other C libraries have no such
    call.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _judge_image(data: bytes, sha256: bytes, config: PipelineConfig, embedder: Embedder | None) -> _Judged:
    """Decodes, hashes and preprocesses one image; runs in a thread, mostly outside the interpreter lock."""
    try:
        with decoded_image(data, config.read.max_pixels, config.read.window) as picture:
            prepared = prepare_picture(data, picture, config.fingerprint, embedder, sha256)
            return _Judged(prepared.fingerprint, inputs=prepared.inputs)
    except SampleError as error:
        return _Judged(failure=("decode", error.reason, error.detail))


def _thumbs(judged: _Judged) -> dict[str, bytes | None]:
    found = judged.fingerprint
    if judged.failure is not None or found is None:
        return {"thumb": None, "trimmed": None}
    trimmed = found.views[0].thumb.tobytes() if found.views else b""
    return {"thumb": found.thumb.tobytes(), "trimmed": trimmed}


def _write_failures(layout: RunLayout, shard: Shard, failures: list[Failure]) -> None:
    rows = [
        {
            "subject": f.subject,
            "shard": shard.name,
            "stage": f.stage,
            "reason": str(f.reason),
            "detail": f.detail,
        }
        for f in failures
    ]
    write_table(layout.shard_failures(shard.name), pa.Table.from_pylist(rows, schema=FAILURES))
