"""One query against the index: exact pixels, PDQ bands and embedding cells, then the same judgement as in `dedup`.

A pair that stored features leave in doubt is looked at on the pictures themselves, the likeliest first, until one says
that it is a duplicate, at most `scan.looks` times; what is still in doubt then does not count as verified.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import PipelineConfig
from onceseen.core.failures import SampleError
from onceseen.core.files import join
from onceseen.core.records import Shard, node_row, node_shard
from onceseen.detect import Finding, Match, best_match, exact_match, is_duplicate
from onceseen.fingerprint import Fingerprint, View
from onceseen.neighbors.cells import Cells
from onceseen.neighbors.packing import Records
from onceseen.reference.checks import Check, ReferencePicture
from onceseen.reference.fine_cells import FineCells
from onceseen.reference.pdq_bands import PdqBands
from onceseen.reference.queries import Query
from onceseen.reference.store import TRIMMED_FLAG, VERDICTS, Samples, mapped
from onceseen.shards import WantedImage
from onceseen.verify import Calibration, Judgement, Region, Side, judge, judge_pixels
from onceseen.verify.reread import PictureCache


class SourceUnreachableError(RuntimeError):
    """A picture of the reference cannot be read again, so a doubtful pair cannot be settled."""


class Index:
    """The mapped files of an index, and how they are searched. Thread-safe: nothing is written."""

    def __init__(self, directory: str, config: PipelineConfig, cells: Cells | None) -> None:
        """Maps the files.

        Args:
            directory: A finished index.
            config: The run's own configuration.
            cells: The run's coarse cells; None where embeddings are not searched.
        """
        self.samples = Samples.open(directory)
        self._exact = mapped(join(directory, "exact.npy"), here_and_there=True)
        self._regions = mapped(join(directory, "regions.npy"), here_and_there=True)
        self._bands = PdqBands.open(directory, config.bands) if config.bands.enabled else None
        self._cells = FineCells.open(directory, cells, config.cells) if cells is not None else None
        self._min_quality = config.fingerprint.min_pdq_quality
        self._mirrored = config.bands.mirrored
        self._min_cosine = config.cells.min_cosine

    def exact(self, pixel_hash: bytes, sha256: bytes) -> tuple[int, bool] | None:
        """The head of the class of pictures with equal pixels, or a member with equal bytes where there is one.

        Returns:
            Its sample, and whether its bytes are equal; None where there is no such class.
        """
        hashes = self._exact["hash"]

        def of(place: int) -> bytes:
            return bytes(hashes[place].tobytes())

        low = bisect_left(range(len(hashes)), pixel_hash, key=of)
        high = bisect_right(range(len(hashes)), pixel_hash, low, key=of)
        if low == high:
            return None
        members = self._exact[low:high]
        equal = np.flatnonzero((members["sha"] == np.frombuffer(sha256[:16], np.uint8)).all(axis=1))
        return int(members["sample"][equal[0] if len(equal) else 0]), bool(len(equal))

    def candidates(self, query: Query, neighbors: int, probes: int) -> list[int]:
        """Samples to be judged: the nearest by PDQ and the nearest by cosine, each once, ascending."""
        found = set(self._by_pdq(query, neighbors))
        if self._cells is not None:
            found |= set(self._by_cosine(self._cells, query, neighbors, probes))
        return sorted(found)

    def _by_pdq(self, query: Query, count: int) -> list[int]:
        found = query.fingerprint
        if self._bands is None or found is None or found.blank:
            return []
        regions: list[Fingerprint | View] = [found, *found.views]
        signatures = [
            np.frombuffer(bits, np.uint8)
            for region in regions
            if region.pdq_quality >= self._min_quality
            for bits in ((region.pdq, region.pdq_mirrored) if self._mirrored else (region.pdq,))
        ]
        return self._bands.nearest(np.stack(signatures), count) if signatures else []

    def _by_cosine(self, cells: FineCells, query: Query, count: int, probes: int) -> list[int]:
        """The nearest samples by the stored vectors, at least `cells.min_cosine` near, the smaller sample first."""
        best: dict[int, float] = {}
        for vector in query.vectors:
            unit = vector / max(float(np.linalg.norm(vector)), 1e-12)
            regions = cells.nearest(unit, probes, count)
            stored = self._regions["embedding"][regions].astype(np.float64)
            cosines = np.round(stored @ vector.astype(np.float64), 6)
            samples = self._regions["sample"][regions]
            for sample, cosine in zip(samples.tolist(), cosines.tolist(), strict=True):
                best[sample] = max(best.get(sample, -1.0), cosine)
        near = [sample for sample, cosine in best.items() if cosine >= self._min_cosine]
        return sorted(near, key=lambda sample: (-best[sample], sample))[:count]

    def side(self, sample: int) -> Side:
        """A sample that is compared, as the verify room sees it."""
        record = self.samples.records[sample]
        first, count = int(record["region"]), int(record["regions"])
        regions = [self._region(self._regions[r]) for r in range(first, first + count)]
        sizes = int(record["width"]), int(record["height"])
        return Side(*sizes, False, float(record["sharpness"]), regions[0], regions[1] if count > 1 else None)

    @staticmethod
    def _region(record: Records) -> Region:
        x0, y0, x1, y1 = record["box"].tolist()
        vector = record["embedding"].astype(np.float32)
        bits = np.array(record["pdq"]), np.array(record["mirrored"])
        trimmed = bool(record["flags"] & TRIMMED_FLAG)
        box = (x0, y0, x1, y1) if trimmed else (0.0, 0.0, 1.0, 1.0)
        embedding = vector if len(vector) else None
        return Region(box, *bits, int(record["quality"]), np.array(record["thumb"]), embedding)

    def wanted(self, sample: int) -> tuple[int, WantedImage]:
        """Node id of a sample, and what to ask of its shard to read it again."""
        record = self.samples.records[sample]
        key, member = (text or "" for text in self.samples.text(sample, "key", "member"))
        node = self.samples.node(sample)
        place = int(record["member_offset"]), int(record["member_size"])
        return node, WantedImage(node_row(node), key, member, *place)


@dataclass(frozen=True, slots=True)
class _Judged:
    sample: int
    side: Side
    verdict: Judgement


class Searcher:
    """Judges queries. Thread-safe; pictures read again are kept in a small cache."""

    def __init__(
        self,
        index: Index,
        shards: dict[int, Shard],
        config: PipelineConfig,
        calibration: Calibration,
        pictures: PictureCache,
    ) -> None:
        """Takes what is the same for all queries.

        Args:
            index: Where the reference is found.
            shards: The reference's, by number.
            config: Sections verify and scan are used.
            calibration: The score's coefficients.
            pictures: Reads the reference's pictures again.
        """
        self._index = index
        self._shards = shards
        self._config = config
        self._calibration = calibration
        self._pictures = pictures
        self._reading = threading.Lock()

    def exact(self, query: Query) -> Check | None:
        """The answer where the reference holds the very same pixels: nothing has to be embedded then."""
        found = query.fingerprint
        known = None if found is None else self._index.exact(found.pixel_hash, found.sha256)
        if known is None:
            return None
        sample, equal = known
        picture = self._picture(sample)
        match = exact_match(picture.sample_id, equal_bytes=equal)
        return Check(Finding.DUPLICATE, match, picture)

    def check(self, query: Query) -> Check:
        """The answer to a query that was embedded.

        Raises:
            SourceUnreachableError: If a doubtful pair cannot be settled.
        """
        if query.failure is not None:
            return Check(Finding.FAILED, reason=str(query.failure.reason), detail=query.failure.detail)
        verify, scan = self._config.verify, self._config.scan
        found = {_id(self._index, j.sample): j for j in self._judge(query)}
        matches = [Match.of(sample_id, j.verdict) for sample_id, j in found.items()]
        said, match = best_match(matches, verify, scan)
        if match is None:
            return Check(said)
        return Check(said, match, self._picture(found[match.reference_id].sample))

    def duplicates(self, query: Query) -> list[Match]:
        """Every candidate that the query is a duplicate of, in the order of their samples; none where it failed.

        All doubtful pairs are looked at, whatever `scan.looks` says.

        Raises:
            SourceUnreachableError: If a doubtful pair cannot be settled.
        """
        matches = [
            Match.of(_id(self._index, j.sample), j.verdict)
            for j in sorted(self._judge(query, every=True), key=lambda j: j.sample)
            if is_duplicate(j.verdict, self._config.verify)
        ]
        known = self.exact(query)
        if known is not None and known.match is not None:
            matches = [known.match, *(m for m in matches if m.reference_id != known.match.reference_id)]
        return matches

    def _judge(self, query: Query, *, every: bool = False) -> Iterator[_Judged]:
        """All candidates, by stored features and where in doubt by pixels: until one is found, or every one."""
        if query.fingerprint is None or query.fingerprint.blank:
            return
        verify, own = self._config.verify, query.side()
        doubtful = []
        for sample in self._index.candidates(query, self._config.scan.neighbors, self._config.scan.probes):
            side = self._index.side(sample)
            judged = _Judged(sample, side, judge(own, side, verify, self._calibration))
            if judged.verdict.doubtful and verify.local_features:
                doubtful.append(judged)
            else:
                yield judged
        doubtful.sort(key=lambda j: (-j.verdict.score, j.sample))
        settled = False
        for turn, judged in enumerate(doubtful):
            if not every and (settled or turn >= self._config.scan.looks):
                yield replace(judged, verdict=replace(judged.verdict, verified=False))
                continue
            looked = self._look(query, own, judged)
            settled = is_duplicate(looked.verdict, verify)
            yield looked

    def _look(self, query: Query, own: Side, judged: _Judged) -> _Judged:
        pixels = self._read(judged.sample)
        if query.rgb is None:
            raise ValueError("a query without pixels cannot be looked at")
        args = query.rgb, pixels, judged.verdict, self._config.verify, self._calibration
        return replace(judged, verdict=judge_pixels(own, judged.side, *args))

    def _read(self, sample: int) -> NDArray[np.uint8]:
        """The pixels of a reference picture.

        Raises:
            SourceUnreachableError: Naming the file and the remedy.
        """
        node, wanted = self._index.wanted(sample)
        try:
            with self._reading:
                return self._pictures.load({node: wanted})[node]
        except (OSError, ValueError, SampleError, KeyError) as error:
            (sample_id,) = self._index.samples.text(sample, "sample_id")
            path = self._shards[node_shard(node)].path
            raise SourceUnreachableError(
                f"{sample_id} cannot be read again from {path}: {error}; make that file reachable where the run read "
                "it, or set verify.local_features=false to go by stored features alone, which finds fewer copies"
            ) from error

    def _picture(self, sample: int) -> ReferencePicture:
        names = ("sample_id", "representative_id", "component_id")
        sample_id, representative, component = self._index.samples.text(sample, *names)
        record = self._index.samples.records[sample]
        return ReferencePicture(
            sample_id or "",
            self._shards[node_shard(self._index.samples.node(sample))].name,
            str(VERDICTS[record["verdict"]]),
            representative,
            int(record["copies"]),
            component or "",
            int(record["component_size"]),
        )


def _id(index: Index, sample: int) -> str:
    (sample_id,) = index.samples.text(sample, "sample_id")
    return sample_id or ""
