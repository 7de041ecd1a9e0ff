"""Step 5 of an audit: the generations of a prompt are brought together and judged.

What is shuffled is 16 bytes a generation: its prompt's hash and its node. A prompt then goes to the shard of its
smallest node, which holds nearly all its generations where a generator wrote them prompt by prompt; so pictures are
read by range there, and never travel.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from onceseen.audit import (
    Candidate,
    GenerationInput,
    Nearest,
    Thresholds,
    judge_prompt,
)
from onceseen.core.cores import one_thread_a_call
from onceseen.core.features import read_feature_rows, vectors
from onceseen.core.files import read_table, write_table
from onceseen.core.ids import name_order
from onceseen.core.metrics import counter
from onceseen.core.records import Shard, node_shard
from onceseen.core.schemas import AUDIT_GENERATIONS, AUDIT_PROMPTS
from onceseen.detect import Finding
from onceseen.jobs.audit.plan import (
    EXACT,
    GENERATION_ROWS,
    MEASURED,
    PROMPT_ROWS,
    PROMPTED,
    REFERENCES,
    AuditPlan,
    Pictures,
)
from onceseen.jobs.audit.rows import generation_row, name_pictures, prompt_row, unprompted_row
from onceseen.jobs.match.work import runs_of
from onceseen.jobs.shuffles import Gather, Spread, portions
from onceseen.neighbors.packing import Records, unpack
from onceseen.stats.text import hash64
from onceseen.verify.dossiers import rows_of

PROMPT = np.dtype([("prompt", "<u8"), ("node", "<i8")])
"""A generation of a prompt: 16 bytes."""


@dataclass(eq=False)
class JudgePrompts(beam.PTransform):
    """Shards of generations to rows on prompts and generations, by the shard of a prompt's smallest node.

    Shuffled: 16 bytes a generation, twice. Gathered for a shard: 16 bytes for each generation of its prompts; a worker
    holds the squares of one prompt's generations, 200 KB each at side 256.
    """

    plan: AuditPlan
    thresholds: Thresholds
    side: int
    commonest: int
    partitions: int

    def expand(self, shards: beam.PCollection[Shard]) -> beam.PCollection[None]:
        """Brings prompts together, judges them, writes."""
        return (
            shards
            | "Spread" >> Spread("audit/shards")
            | "SendPrompts" >> beam.FlatMap(send_prompts, self.plan, self.partitions)
            | "ByPrompt" >> Gather("audit/prompts")
            | "PlacePrompts" >> beam.FlatMap(place_prompts)
            | "ByShard" >> Gather("audit/placed")
            | "Judge" >> beam.ParDo(_JudgeShardFn(self.plan, self.thresholds, self.side, self.commonest))
        )


def send_prompts(shard: Shard, plan: AuditPlan, partitions: int) -> Iterator[tuple[int, bytes]]:
    """A shard's generations, by partition of their prompts."""
    table = read_table(plan.work.path(PROMPTED, shard.number, "parquet"), ["node", "prompt"])
    records = np.empty(len(table), dtype=PROMPT)
    for name in ("node", "prompt"):
        records[name] = table[name].to_numpy()
    for partition, places in runs_of((records["prompt"] % np.uint64(partitions)).astype(np.int64)):
        for block in portions(records[places], PROMPT.itemsize):
            yield partition, block.tobytes()


def place_prompts(keyed: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
    """Prompts to the shard of their smallest node; generations without a prompt to their own shard."""
    records = unpack(keyed[1], PROMPT)
    records = records[np.lexsort((records["node"], records["prompt"]))]
    firsts = np.flatnonzero(np.r_[True, records["prompt"][1:] != records["prompt"][:-1]])
    sizes = np.diff(np.r_[firsts, len(records)])
    smallest = np.repeat(records["node"][firsts], sizes)
    home = np.where(records["prompt"] == 0, records["node"], smallest)
    for number, places in runs_of(node_shard(home)):
        for block in portions(records[places], PROMPT.itemsize):
            yield number, block.tobytes()


class _JudgeShardFn(beam.DoFn):
    """Judges the prompts of one shard."""

    def __init__(self, plan: AuditPlan, thresholds: Thresholds, side: int, commonest: int) -> None:
        self._plan = plan
        self._thresholds = thresholds
        self._side = side
        self._commonest = commonest

    def setup(self) -> None:
        """Many pictures are read side by side."""
        one_thread_a_call()

    def process(self, keyed: tuple[int, Iterable[bytes]]) -> None:
        """Writes one shard's rows."""
        number, blocks = keyed
        records = unpack(blocks, PROMPT)
        records = records[np.lexsort((records["node"], records["prompt"]))]
        pictures = Pictures(self._plan, self._side)
        judging = _Judging(self._plan, self._thresholds, self._commonest, pictures, records["node"])
        prompts, generations = judging.judge_all(records)
        name_pictures(prompts, generations, pictures)
        counter("audit/prompts").inc(len(prompts))
        for step, rows, schema in (
            (PROMPT_ROWS, prompts, AUDIT_PROMPTS),
            (GENERATION_ROWS, generations, AUDIT_GENERATIONS),
        ):
            write_table(
                self._plan.work.path(step, number, "parquet"), pa.Table.from_pylist(rows, schema=schema)
            )


class _Judging:
    """What is known of the generations of one shard's prompts, but for their pixels."""

    def __init__(
        self,
        plan: AuditPlan,
        thresholds: Thresholds,
        commonest: int,
        pictures: Pictures,
        nodes: NDArray[np.int64],
    ) -> None:
        self._thresholds = thresholds
        self._commonest = commonest
        self._pictures = pictures
        self._samples: dict[int, dict[str, Any]] = {}
        self._embeddings: dict[int, NDArray[np.float32]] = {}
        self._exact: dict[int, Records] = {}
        self._findings: dict[int, dict[str, Any]] = {}
        self._wanted = pictures.wanted(nodes.tolist())
        self._named = {owner: node for owner, _, node, _ in plan.known(REFERENCES).tolist()}
        for number, places in runs_of(node_shard(nodes)):
            self._read(plan, pictures.shards[number], np.sort(nodes[places]))

    def _read(self, plan: AuditPlan, shard: Shard, nodes: NDArray[np.int64]) -> None:
        """Takes in tables of one shard."""
        mine = set(nodes.tolist())
        samples = read_table(plan.work.path(PROMPTED, shard.number, "parquet")).to_pylist()
        self._samples |= {row["node"]: row for row in samples if row["node"] in mine}
        rows = rows_of(nodes)
        findings = plan.findings(shard, ["verdict", "reference_id", "component_id"]).take(rows)
        self._findings |= dict(zip(nodes.tolist(), findings.to_pylist(), strict=True))
        if plan.config.embed.model != "none":
            table = read_feature_rows(plan.layout, shard, rows, ["embedding"])
            self._embeddings |= dict(zip(nodes.tolist(), vectors(table), strict=True))
        exact = plan.work.read(MEASURED, shard.number, EXACT)
        for node, places in runs_of(exact["probe"]):
            if node in mine:
                self._exact[node] = exact[places]

    def judge_all(self, records: Records) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows on prompts, by smallest node, and on their generations; those without a prompt come last."""
        by_prompt: dict[int, list[int]] = defaultdict(list)
        for prompt, node in records.tolist():
            by_prompt[prompt].append(node)
        without = by_prompt.pop(0, [])
        prompts: list[dict[str, Any]] = []
        generations: list[dict[str, Any]] = []
        for prompt, nodes in sorted(by_prompt.items(), key=lambda item: min(item[1])):
            row, rows = self._judge(prompt, nodes)
            prompts.append(row)
            generations += rows
        generations += [unprompted_row(self._samples[node], self._findings[node]) for node in without]
        return prompts, generations

    def _judge(self, prompt: int, nodes: Sequence[int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One prompt's row and those of its generations, by sample id; training pictures by node still."""
        ordered = sorted(nodes, key=lambda node: name_order(self._samples[node]["sample_id"]))
        pixels = self._pictures.load({node: self._wanted[node] for node in ordered})
        inputs = [self._input(node, pixels[node]) for node in ordered]
        verdict, judged = judge_prompt(inputs, self._thresholds, self._training)
        rows = [
            generation_row(prompt, given, said, self._findings[given.node])
            for given, said in zip(inputs, judged, strict=True)
        ]
        return prompt_row(prompt, inputs, verdict), rows

    def _training(self, node: int) -> NDArray[np.uint8]:
        """A training picture's pixels."""
        return self._pictures.load(self._pictures.wanted([node]))[node]

    def _input(self, node: int, pixels: NDArray[np.uint8]) -> GenerationInput:
        sample, finding = self._samples[node], self._findings[node]
        named = finding["reference_id"]
        return GenerationInput(
            sample_id=sample["sample_id"],
            node=node,
            seed=sample["seed"],
            pixels=pixels,
            embedding=self._embeddings.get(node),
            blank=sample["blank"],
            resized=sample["side"] != self._commonest,
            nearest=self._nearest(node),
            detector=Finding(finding["verdict"]),
            detector_node=None if named is None else self._named.get(hash64(named)),
            detector_component=str(hash64(finding["component_id"])) if finding["component_id"] else "",
        )

    def _nearest(self, node: int) -> Nearest | None:
        """The nearest training picture by pixels, with the others that were looked at."""
        exact = self._exact.get(node)
        if exact is None:
            return None
        _, first, component, distance, l2 = exact[0].tolist()
        return Nearest(
            node=first,
            component=str(component),
            distance=distance,
            l2=l2,
            second=float(exact["distance"][1]) if len(exact) > 1 else math.inf,
            candidates=tuple(Candidate(row["node"].item(), str(row["component"])) for row in exact),
        )
