"""Step 4 of match: candidate pairs to judged pairs.

A first round judges all candidates by their stored features. Doubtful ones are put off: within a component only the
pairs with a representative matter, so later rounds read just those pictures again (see `proposals`).

Two hops, so that every features file is read once: the shard of a pair's smaller node sends that picture's dossier to
the shard of the larger one, where the pair is judged. Pictures of doubtful pairs are read again by range, ordered by
shard and offset, and kept at `verify.max_side` pixels in a small cache.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from onceseen.core.config import PipelineConfig
from onceseen.core.cores import available_cores, one_thread_a_call
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.metrics import NAMESPACE, counter
from onceseen.core.records import Shard, node_shard
from onceseen.jobs.match.evidence import Dossier, rows_of
from onceseen.jobs.match.judged import write_judged
from onceseen.jobs.match.reread import PictureCache
from onceseen.jobs.match.work import WorkFiles
from onceseen.jobs.state import read_shards
from onceseen.neighbors.packing import PAIR, Records, unique_pairs, unpack
from onceseen.verify import Calibration, Judgement, judge, judge_pixels, load_calibration

DOSSIER_ROWS = 1_024
_REREAD_PAIRS = 256


@dataclass(eq=False)
class VerifyPairs(beam.PTransform):
    """Shards to judged pairs, written by the shard of the larger node.

    Shuffled: about 6 KB for each picture and shard that it has candidates in.
    """

    layout: RunLayout
    config: PipelineConfig
    steps: tuple[str, ...]
    output: str
    done: tuple[str, ...] = ()
    look: bool = False

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Sends dossiers, judges, writes."""
        return (
            shards
            | "Spread" >> beam.Reshuffle()
            | "SendDossiers" >> beam.FlatMap(send_dossiers, self.layout, self.steps, self.done)
            | "ByShard" >> beam.GroupByKey()
            | "Judge" >> beam.ParDo(_JudgeShardFn(self.layout, self.config, self.output, self.look))
        )


def send_dossiers(
    shard: Shard, layout: RunLayout, steps: Sequence[str], done: Sequence[str]
) -> Iterator[tuple[int, tuple[int, bytes, bytes]]]:
    """A shard's candidate pairs with the dossiers of its own pictures, by the other picture's shard."""
    work = WorkFiles(layout)
    pairs = unique_pairs(work.read_all(steps, shard.number, PAIR))
    pairs = _without(pairs, work.read_all(done, shard.number, PAIR))
    if not len(pairs):
        return
    counter("match/candidate_pairs").inc(len(pairs))
    dossier = Dossier.load(layout, shard, rows_of(pairs["a"]))
    others = node_shard(pairs["b"])
    for other in np.unique(others):
        mine = pairs[others == other]
        for start in range(0, len(mine), DOSSIER_ROWS):
            block = mine[start : start + DOSSIER_ROWS]
            yield int(other), (shard.number, block.tobytes(), dossier.part(rows_of(block["a"])).to_bytes())


def _without(pairs: Records, done: Records) -> Records:
    """Pairs that an earlier round has not judged."""
    if not len(done):
        return pairs
    known = {(int(p["a"]), int(p["b"])) for p in done}
    fresh = [i for i, p in enumerate(pairs) if (int(p["a"]), int(p["b"])) not in known]
    return pairs[fresh]


class _JudgeShardFn(beam.DoFn):
    """Judges all candidate pairs whose larger node is in one shard and writes them."""

    def __init__(self, layout: RunLayout, config: PipelineConfig, output: str, look: bool) -> None:
        self._layout = layout
        self._config = config
        self._output = output
        self._look = look
        self._shards: Mapping[int, Shard] = {}
        self._calibration: Calibration | None = None

    def setup(self) -> None:
        """Reads what is the same for all shards."""
        one_thread_a_call()
        self._shards = {s.number: s for s in read_shards(self._layout)}
        self._calibration = load_calibration(self._config.verify.calibration)

    def process(self, keyed: tuple[int, Iterable[tuple[int, bytes, bytes]]]) -> None:
        """Judges one shard's pairs."""
        number, blocks = keyed
        if self._calibration is None:
            raise RuntimeError("setup was not called")
        shard_judge = _ShardJudge(self._layout, self._config, self._calibration, self._shards, self._look)
        rows = shard_judge.judge_blocks(self._shards[number], sorted(blocks, key=lambda block: block[:2]))
        beam.metrics.Metrics.distribution(NAMESPACE, "match/pairs_judged").update(len(rows))
        write_judged(self._layout, self._output, number, rows)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One candidate pair on its way: its nodes and the dossiers that hold them."""

    a: int
    b: int
    left: Dossier
    right: Dossier


@dataclass(frozen=True, slots=True)
class _Judged:
    """A pair and what was found."""

    pair: _Pair
    verdict: Judgement


class _ShardJudge:
    """Judges pairs of one shard by stored features, then the doubtful ones by their pixels."""

    def __init__(
        self,
        layout: RunLayout,
        config: PipelineConfig,
        calibration: Calibration,
        shards: Mapping[int, Shard],
        look: bool,
    ) -> None:
        self._layout = layout
        self._config = config
        self._calibration = calibration
        self._look = look
        self._pictures = PictureCache(shards, config.read, config.verify.max_side)

    def judge_blocks(
        self, shard: Shard, blocks: Sequence[tuple[int, bytes, bytes]]
    ) -> list[dict[str, object]]:
        """Rows of the pairs table, by the nodes of the pair."""
        pairs = unpack((block for _, block, _ in blocks), PAIR)
        right = Dossier.load(self._layout, shard, rows_of(pairs["b"]))
        rows: list[_Judged] = []
        doubtful: list[tuple[_Pair, Judgement]] = []
        for number, packed, dossier in blocks:
            left = Dossier.from_bytes(number, dossier)
            for a, b in unpack([packed], PAIR).tolist():
                pair = _Pair(a, b, left, right)
                verdict = judge(left.side(a), right.side(b), self._config.verify, self._calibration)
                if self._look and verdict.doubtful:
                    doubtful.append((pair, verdict))
                else:
                    rows.append(_Judged(pair, verdict))
            if len(doubtful) >= _REREAD_PAIRS:
                rows += self._look_again(doubtful)
                doubtful = []
        rows += self._look_again(doubtful)
        put_off = self._config.verify.local_features and not self._look
        return [
            _row(j.pair, j.verdict, put_off=put_off)
            for j in _limited(rows, self._config.verify.max_unverified)
        ]

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
                _Judged(pair, found)
                for (pair, _), found in zip(doubtful, pool.map(judge_one, doubtful), strict=True)
            ]


def _row(pair: _Pair, verdict: Judgement, *, put_off: bool) -> dict[str, object]:
    """A judged row, smaller sample id first; a doubtful pair that may yet be looked at is not verified."""
    doubtful = put_off and verdict.doubtful
    first, second = (pair.left.sample_id(pair.a), pair.a), (pair.right.sample_id(pair.b), pair.b)
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
    for one in sorted(unverified, key=lambda j: (-j.verdict.score, j.pair.a, j.pair.b)):
        count[one.pair.b] += 1
        if count[one.pair.b] <= limit:
            kept.append(one)
    return sorted(kept, key=lambda j: (j.pair.a, j.pair.b))
