"""Step 4 of match: candidate pairs to judged pairs.

A first round judges all candidates by their stored features. Doubtful ones are put off: within a component only the
pairs with a representative matter, so later rounds read just those pictures again (see `proposals`).

Three hops, and no features file is read once for each other shard: the shard of a pair's smaller node sends that
picture's dossier to the part (`PART_ROWS` rows) of a shard that holds the larger one; there the pair is judged; what
was found is gathered by shard and written. Parts bound what one worker has to hold of a large shard. Pictures of
doubtful pairs are read again by range, ordered by shard and offset, and kept at `verify.max_side` pixels in a small
cache.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam

from onceseen.core.config import PipelineConfig, ReadConfig
from onceseen.core.cores import available_cores, one_thread_a_call
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.listing import read_configs, read_shards
from onceseen.core.metrics import counter, distribution
from onceseen.core.records import Shard, node_shard
from onceseen.detect import is_duplicate
from onceseen.jobs.match.judged import judged_blocks, write_judged
from onceseen.jobs.match.work import WorkFiles, runs_of
from onceseen.jobs.shuffles import Gather, Spread
from onceseen.neighbors.packing import PAIR, Records, unique_pairs, unpack
from onceseen.verify import Calibration, Judgement, judge, judge_pixels, load_calibration
from onceseen.verify.dossiers import Dossier, rows_of
from onceseen.verify.reread import PictureCache
from onceseen.verify.thumbs import Signals, signals

PART_ROWS = 512
"""Rows of a shard whose pairs are judged together: a power of two, so that a node's part is `node // PART_ROWS`."""

DOSSIER_ROWS = 512
_SEND_ROWS = 8_192
_REREAD_PAIRS = 256


@dataclass(eq=False)
class VerifyPairs(beam.PTransform):
    """Shards to judged pairs, written by the shard of the larger node.

    With `look`, doubtful pairs are read again: all of them, or (`likeliest`) at most so many of each larger node, the
    likeliest first, until one says that it is a duplicate.

    Shuffled: about 6 KB for each picture and part that it has candidates in, at most `DOSSIER_ROWS` in an element;
    gathered for a part: 6 KB for each pair, 3 MB for each candidate that its pictures have on average.
    """

    layout: RunLayout
    config: PipelineConfig
    steps: tuple[str, ...]
    output: str
    done: tuple[str, ...] = ()
    look: bool = False
    likeliest: int = 0

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Sends dossiers, judges, writes."""
        return (
            shards
            | "Spread" >> Spread("match/shards")
            | "SendDossiers" >> beam.FlatMap(send_dossiers, self.layout, self.steps, self.done)
            | "ByPart" >> Gather("match/dossiers")
            | "Judge" >> beam.ParDo(_JudgePartFn(self.layout, self.config, self.look, self.likeliest))
            | "ByShard" >> Gather("match/judged")
            | "WriteJudged" >> beam.Map(write_judged, self.layout, self.output)
        )


def send_dossiers(
    shard: Shard, layout: RunLayout, steps: Sequence[str], done: Sequence[str]
) -> Iterator[tuple[int, tuple[int, bytes, bytes]]]:
    """A shard's candidate pairs with the dossiers of its own pictures, by the other picture's part."""
    work = WorkFiles(layout)
    pairs = unique_pairs(work.read_all(steps, shard.number, PAIR))
    pairs = _without(pairs, work.read_all(done, shard.number, PAIR))
    if not len(pairs):
        return
    counter("match/candidate_pairs").inc(len(pairs))
    for _, near in runs_of(pairs["a"] // _SEND_ROWS):
        mine = pairs[near]
        dossier = Dossier.load(layout, shard, rows_of(mine["a"]))
        for part, places in runs_of(mine["b"] // PART_ROWS):
            for start in range(0, len(places), DOSSIER_ROWS):
                block = mine[places[start : start + DOSSIER_ROWS]]
                yield part, (shard.number, block.tobytes(), dossier.part(rows_of(block["a"])).to_bytes())


def _without(pairs: Records, done: Records) -> Records:
    """Pairs that an earlier round has not judged."""
    if not len(done):
        return pairs
    known = {(int(p["a"]), int(p["b"])) for p in done}
    fresh = [i for i, p in enumerate(pairs) if (int(p["a"]), int(p["b"])) not in known]
    return pairs[fresh]


class _JudgePartFn(beam.DoFn):
    """Judges all candidate pairs whose larger node is in one part of a shard."""

    def __init__(self, layout: RunLayout, config: PipelineConfig, look: bool, likeliest: int) -> None:
        self._layout = layout
        self._config = config
        self._look = look
        self._likeliest = likeliest
        self._shards: Mapping[int, Shard] = {}
        self._reads: Mapping[str, ReadConfig] = {}
        self._calibration: Calibration | None = None

    def setup(self) -> None:
        """Reads what is the same for all shards."""
        one_thread_a_call()
        self._shards = {s.number: s for s in read_shards(self._layout)}
        self._reads = read_configs(self._layout, self._shards.values())
        self._calibration = load_calibration(self._config.verify.calibration)

    def process(self, keyed: tuple[int, Iterable[tuple[int, bytes, bytes]]]) -> Iterator[tuple[int, bytes]]:
        """Judges one part's pairs: blocks of rows, by shard."""
        part, blocks = keyed
        number = node_shard(part * PART_ROWS)
        if self._calibration is None:
            raise RuntimeError("setup was not called")
        pictures = PictureCache(self._shards, self._config.read, self._config.verify.max_side, self._reads)
        part_judge = _PartJudge(
            self._layout, self._config, self._calibration, pictures, self._look, self._likeliest
        )
        gathered = sorted(blocks, key=_pairs_of_block)
        distribution("match/dossiers_gathered").update(sum(len(dossier) for _, _, dossier in gathered))
        rows = part_judge.judge_blocks(self._shards[number], gathered)
        distribution("match/pairs_judged").update(len(rows))
        for block in judged_blocks(rows):
            yield number, block


def _pairs_of_block(block: tuple[int, bytes, bytes]) -> tuple[int, bytes]:
    return block[:2]


@dataclass(frozen=True, slots=True)
class _Pair:
    """One candidate pair on its way: its nodes and the dossiers that hold them."""

    a: int
    b: int
    left: Dossier
    right: Dossier


@dataclass(frozen=True, slots=True)
class _Judged:
    """A pair and what was found, without the dossiers: those are let go block by block."""

    a: int
    b: int
    id_a: str
    id_b: str
    verdict: Judgement

    @classmethod
    def of(cls, pair: _Pair, verdict: Judgement) -> _Judged:
        """What is kept of a pair."""
        return cls(pair.a, pair.b, pair.left.sample_id(pair.a), pair.right.sample_id(pair.b), verdict)


def _pairs_of(blocks: Iterable[tuple[int, bytes, bytes]], right: Dossier) -> Iterator[_Pair]:
    """The pairs of some blocks, one block's dossier at a time."""
    for number, packed, dossier in blocks:
        left = Dossier.from_bytes(number, dossier)
        for a, b in unpack([packed], PAIR).tolist():
            yield _Pair(a, b, left, right)


def _nearest(pairs: Iterable[_Pair], count: int) -> list[_Pair]:
    """For each larger node its `count` nearest by cosine and as many by PDQ distance; by nodes.

    A look at two thumbs costs milliseconds, a cosine microseconds: a query in a crowded place has hundreds of pairs.
    """
    queues: dict[int, list[tuple[_Pair, Signals]]] = defaultdict(list)
    for pair in pairs:
        queues[pair.b].append((pair, signals(pair.left.side(pair.a), pair.right.side(pair.b))))
    chosen: dict[tuple[int, int], _Pair] = {}
    for queue in queues.values():
        by_cosine = sorted(queue, key=lambda q: (-(q[1].cosine or 0.0), q[0].a))[:count]
        by_pdq = sorted(queue, key=lambda q: (q[1].pdq_distance, q[0].a))[:count]
        chosen |= {(pair.a, pair.b): pair for pair, _ in (*by_cosine, *by_pdq)}
    return [chosen[key] for key in sorted(chosen)]


class _PartJudge:
    """Judges pairs of one part of a shard by stored features, then the doubtful ones by their pixels."""

    def __init__(
        self,
        layout: RunLayout,
        config: PipelineConfig,
        calibration: Calibration,
        pictures: PictureCache,
        look: bool,
        likeliest: int,
    ) -> None:
        self._layout = layout
        self._config = config
        self._calibration = calibration
        self._look = look
        self._likeliest = likeliest
        self._pictures = pictures

    def judge_blocks(
        self, shard: Shard, blocks: Sequence[tuple[int, bytes, bytes]]
    ) -> list[dict[str, object]]:
        """Rows of the pairs table, by the nodes of the pair."""
        pairs = unpack((block for _, block, _ in blocks), PAIR)
        right = Dossier.load(self._layout, shard, rows_of(pairs["b"]))
        rows: list[_Judged] = []
        doubtful: list[tuple[_Pair, Judgement]] = []
        gathered = _pairs_of(blocks, right)
        for pair in _nearest(gathered, self._config.scan.neighbors) if self._likeliest else gathered:
            sides = pair.left.side(pair.a), pair.right.side(pair.b)
            verdict = judge(*sides, self._config.verify, self._calibration)
            if not (self._look and verdict.doubtful):
                rows.append(_Judged.of(pair, verdict))
                continue
            doubtful.append((pair, verdict))
            if len(doubtful) >= _REREAD_PAIRS and not self._likeliest:
                rows += self._look_again(doubtful)
                doubtful = []
        rows += self._look_at_likeliest(doubtful) if self._likeliest else self._look_again(doubtful)
        put_off = self._config.verify.local_features
        return [_row(j, put_off=put_off) for j in _limited(rows, self._config.verify.max_unverified)]

    def _look_at_likeliest(self, doubtful: Sequence[tuple[_Pair, Judgement]]) -> list[_Judged]:
        """A few looks for each larger node, one a turn, until one says that it is a duplicate."""
        queues: dict[int, list[tuple[_Pair, Judgement]]] = defaultdict(list)
        for one in sorted(doubtful, key=lambda d: (-d[1].score, d[0].a, d[0].b)):
            queues[one[0].b].append(one)
        out: list[_Judged] = []
        unread: list[tuple[_Pair, Judgement]] = []
        for _ in range(self._likeliest):
            turn = [queue.pop(0) for queue in queues.values()]
            for start in range(0, len(turn), _REREAD_PAIRS):
                found = self._look_again(turn[start : start + _REREAD_PAIRS])
                out += found
                for settled in (j.b for j in found if is_duplicate(j.verdict, self._config.verify)):
                    unread += queues.pop(settled)
            queues = {b: queue for b, queue in queues.items() if queue}
        unread += [one for queue in queues.values() for one in queue]
        return out + [_Judged.of(pair, first) for pair, first in unread]

    def _look_again(self, doubtful: Sequence[tuple[_Pair, Judgement]]) -> list[_Judged]:
        """Reads the pictures of doubtful pairs again and judges them by pixels."""
        counter("match/pairs_read_again").inc(len(doubtful))
        wanted = {p.a: p.left.wanted(p.a) for p, _ in doubtful} | {
            p.b: p.right.wanted(p.b) for p, _ in doubtful
        }
        pixels = self._pictures.load(wanted)

        def judge_one(one: tuple[_Pair, Judgement]) -> Judgement:
            pair, first = one
            sides = pair.left.side(pair.a), pair.right.side(pair.b)
            return judge_pixels(
                *sides, pixels[pair.a], pixels[pair.b], first, self._config.verify, self._calibration
            )

        with ThreadPoolExecutor(available_cores()) as pool:  # OpenCV releases the interpreter lock
            return [
                _Judged.of(pair, found)
                for (pair, _), found in zip(doubtful, pool.map(judge_one, doubtful), strict=True)
            ]


def _row(judged: _Judged, *, put_off: bool) -> dict[str, object]:
    """A judged row, smaller sample id first; a doubtful pair that may yet be looked at is not verified."""
    verdict = judged.verdict
    doubtful = put_off and verdict.doubtful
    first, second = (judged.id_a, judged.a), (judged.id_b, judged.b)
    if name_order(second[0]) < name_order(first[0]):
        first, second, verdict = second, first, verdict.swapped()
    return {
        "sample_id_a": first[0],
        "sample_id_b": second[0],
        "kind": verdict.kind,
        "cosine": None if verdict.cosine is None or math.isnan(verdict.cosine) else verdict.cosine,
        "pdq_distance": verdict.pdq_distance,
        "score": verdict.score,
        "verified": verdict.verified and not doubtful,
        "doubtful": doubtful,
        "coverage_a": verdict.coverage_a,
        "coverage_b": verdict.coverage_b,
        "transform": verdict.transform,
        "node_a": first[1],
        "node_b": second[1],
        "foreign_a": verdict.foreign_a,
        "foreign_b": verdict.foreign_b,
    }


def _limited(judged: Sequence[_Judged], limit: int) -> list[_Judged]:
    """All verified and doubtful pairs, and the best few of the others for each larger node, by nodes."""
    kept = [j for j in judged if j.verdict.verified or j.verdict.doubtful]
    count: Counter[int] = Counter()
    unverified = [j for j in judged if not (j.verdict.verified or j.verdict.doubtful)]
    for one in sorted(unverified, key=lambda j: (-j.verdict.score, j.a, j.b)):
        count[one.b] += 1
        if count[one.b] <= limit:
            kept.append(one)
    return sorted(kept, key=lambda j: (j.a, j.b))
