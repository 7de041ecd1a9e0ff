"""What report.html of an audit shows: which prompts, and which pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onceseen.audit import PromptOutcome
from onceseen.core.config import PipelineConfig
from onceseen.core.files import open_table, read_table
from onceseen.core.layout import RunLayout
from onceseen.stats.lookup import PAIR_BATCH_ROWS, find_verdicts, read_run
from onceseen.stats.report.thumbnails import Pictures, load_thumbnails

SHOWN = 120
"""Extracted pictures shown: with what was generated some 700 pictures, 4 MB."""

EXAMPLES = 6
"""Collapsed prompts shown, and prompts of a template."""

MORE = 4
"""Generations shown beside the representative."""

PAIR_SIDE, MORE_SIDE = 160, 96

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the page is made of.

    Attributes:
        layout: The audit, with prompts.parquet, generations.parquet and scan/, from which generations are read again.
        reference: The run that was trained on.
        config: All sections, as the audit went by them.
        summary: Content of summary.json.
        extracted: By training picture that was given back, the row of prompts.parquet that says it best.
    """

    layout: RunLayout
    reference: RunLayout
    config: PipelineConfig
    summary: Mapping[str, Any]
    extracted: Mapping[str, Row]


@dataclass(slots=True)
class ShownPrompt:
    """A prompt with pictures.

    Attributes:
        row: Of prompts.parquet.
        others: Other prompts that give the same training picture back.
        seed: Of the representative.
        more: Other generations of its clique: (sample_id, seed), the first in order.
        copies: Copies in training of the picture shown beside it; None if there is none.
    """

    row: Row
    others: list[str] = field(default_factory=list)
    seed: str = ""
    more: list[tuple[str, str]] = field(default_factory=list)
    copies: int | None = None

    @property
    def generations(self) -> list[str]:
        """All generations shown."""
        return [self.row["representative_id"], *(sample_id for sample_id, _ in self.more)]


@dataclass(frozen=True, slots=True)
class AuditData:
    """What was read for the page.

    Attributes:
        extracted: Training pictures that were given back, the most copied first.
        examples: Of collapsed prompts and prompts of a template, those with the largest cliques.
        too_few: Some prompts with too few generations.
        generations: Pictures of generations.
        training: Pictures of training.
    """

    extracted: Sequence[ShownPrompt]
    examples: Mapping[str, Sequence[ShownPrompt]]
    too_few: Sequence[Row]
    generations: Pictures
    training: Pictures


def gather_audit(report: AuditReport) -> AuditData:
    """Chooses prompts and reads their pictures again.

    Time: prompts.parquet is read whole and generations.parquet is streamed, three columns of it; one decode a picture
    shown.
    """
    extracted = [ShownPrompt(row) for row in sorted(report.extracted.values(), key=_most_copied)[:SHOWN]]
    prompts = read_table(report.layout.audit_prompts())
    _add_others(extracted, _of_verdict(prompts, PromptOutcome.MEMORISED))
    examples: dict[str, list[ShownPrompt]] = {
        verdict: [ShownPrompt(row) for row in sorted(_of_verdict(prompts, verdict), key=_largest)[:EXAMPLES]]
        for verdict in (PromptOutcome.COLLAPSED, PromptOutcome.TEMPLATE)
    }
    shown = [*extracted, *(prompt for these in examples.values() for prompt in these)]
    _add_generations(report.layout, shown)
    references = [prompt.row["reference_id"] for prompt in shown if prompt.row["reference_id"]]
    trained = read_run(report.reference)
    verdicts = find_verdicts(report.reference, trained.shards, references)
    for prompt in shown:
        found = verdicts.get(prompt.row["reference_id"])
        prompt.copies = found.copies if found else None
    scan = report.layout.audit_scan()
    generated = {sample_id: MORE_SIDE for prompt in shown for sample_id in prompt.generations}
    generated |= {prompt.row["representative_id"]: PAIR_SIDE for prompt in shown}
    return AuditData(
        extracted,
        examples,
        sorted(_of_verdict(prompts, PromptOutcome.TOO_FEW), key=_most_copied)[:EXAMPLES],
        load_thumbnails(scan, read_run(scan), generated),
        load_thumbnails(report.reference, trained, dict.fromkeys(references, PAIR_SIDE)),
    )


def _of_verdict(prompts: pa.Table, verdict: str) -> list[Row]:
    return list(prompts.filter(pc.equal(prompts["verdict"], str(verdict))).to_pylist())


def _most_copied(row: Row) -> tuple[int, int, str]:
    return -row["copies"], -row["clique"], row["prompt_id"]


def _largest(row: Row) -> tuple[int, int, str]:
    return -row["clique"], -row["template_tiles"], row["prompt_id"]


def _add_others(extracted: Sequence[ShownPrompt], memorised: Iterable[Row]) -> None:
    """Names the other prompts of each training picture."""
    by_group = {prompt.row["reference_group"]: prompt for prompt in extracted}
    for row in memorised:
        prompt = by_group.get(row["reference_group"])
        if prompt is not None and prompt.row["prompt_id"] != row["prompt_id"]:
            prompt.others.append(row["prompt"])


def _add_generations(layout: RunLayout, shown: Sequence[ShownPrompt]) -> None:
    """Finds the other members of each clique."""
    by_id = {prompt.row["prompt_id"]: prompt for prompt in shown}
    if not by_id:
        return
    for row in _members(layout, sorted(by_id)):
        prompt = by_id[row["prompt_id"]]
        seed = row["seed"] or ""
        if row["sample_id"] == prompt.row["representative_id"]:
            prompt.seed = seed
        elif len(prompt.more) < MORE:
            prompt.more.append((row["sample_id"], seed))


def _members(layout: RunLayout, prompt_ids: Sequence[str]) -> Iterator[Row]:
    """Members of the cliques of some prompts, in the order of the file."""
    wanted = pa.array(prompt_ids, pa.string())
    columns = ["sample_id", "prompt_id", "seed", "in_clique"]
    with open_table(layout.audit_generations()) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(PAIR_BATCH_ROWS, columns=columns):
            chosen = pc.and_(batch["in_clique"], pc.is_in(batch["prompt_id"], value_set=wanted))
            yield from batch.filter(chosen).to_pylist()
