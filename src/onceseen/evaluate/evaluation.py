"""A finished run against known copies: stats/evaluation.json, stats/evaluate.html, and a table to read."""

from __future__ import annotations

from dataclasses import dataclass

from onceseen.core.files import write_bytes, write_json
from onceseen.core.layout import RunLayout
from onceseen.core.records import Verdict
from onceseen.evaluate.class_pairs import read_class_pairs
from onceseen.evaluate.measures import Rate
from onceseen.evaluate.page import render_evaluation
from onceseen.evaluate.recall import AllPairs, CopyRecall, TransformRecall, measure_all_pairs, measure_copies
from onceseen.evaluate.removal import Removal, measure_removal
from onceseen.evaluate.truth import Truth, read_truth
from onceseen.stats.lookup import VerdictRow, read_run, read_verdicts, require_verdicts
from onceseen.stats.report.figures import plural

_MOST_LISTED = 20


@dataclass(frozen=True)
class Evaluation:
    """What `onceseen evaluate` measured.

    Attributes:
        samples: Samples of the run.
        failed: Of these, samples that could not be judged.
        truth: The labels.
        removal: (i) Removed samples.
        copies: (ii) Copies found from their originals.
        pairs: (iii) All pairs, for information.
    """

    samples: int
    failed: int
    truth: Truth
    removal: Removal
    copies: CopyRecall
    pairs: AllPairs

    def to_json(self) -> dict[str, object]:
        """What stats/evaluation.json holds; a function of the run and the manifest."""
        return {
            "samples": self.samples,
            "failed": self.failed,
            "labelled": len(self.truth.labels),
            "sources": len({source for labels in self.truth.labels.values() for source in labels}),
            "unknown_files": list(self.truth.unknown_files),
            "unlabelled_samples": list(self.truth.unlabelled),
            "removal": self.removal.to_json(),
            "copies_of_originals": self.copies.to_json(),
            "all_pairs": self.pairs.to_json(),
        }

    def to_text(self) -> str:
        """The same as a table for a person."""
        return "\n".join(
            [*_removal_lines(self), "", *_recall_lines(self.copies), "", *_pair_lines(self), *_gaps(self)]
        )


def evaluate_run(layout: RunLayout, truth_path: str) -> Evaluation:
    """Compares a finished run with known copies and writes stats/evaluation.json and stats/evaluate.html.

    Holds all verdicts and all rows of the pairs table in memory: for labelled sets, up to some millions of
    samples.

    Args:
        layout: The run.
        truth_path: manifest.csv (see `onceseen.evaluate.truth`).

    Raises:
        ValueError: If RUN is not a finished run, or the manifest is malformed or names none of its samples.
    """
    run = read_run(layout)
    require_verdicts(layout, run)
    verdicts: dict[str, VerdictRow] = {}
    for shard in run.shard_names:
        verdicts.update((row.sample_id, row) for row in read_verdicts(layout, shard))
    truth = read_truth(truth_path, verdicts.keys(), run.shards)
    pairs = read_class_pairs(layout)
    evaluation = Evaluation(
        samples=len(verdicts),
        failed=sum(row.verdict == Verdict.FAILED for row in verdicts.values()),
        truth=truth,
        removal=measure_removal(verdicts, truth, pairs, run.config.keep.max_copies),
        copies=measure_copies(verdicts, truth, pairs),
        pairs=measure_all_pairs(verdicts, truth, pairs),
    )
    write_json(layout.stats("evaluation.json"), evaluation.to_json())
    html = render_evaluation(layout, run, truth, evaluation.removal, evaluation.copies)
    write_bytes(layout.stats("evaluate.html"), html.encode("utf-8"))
    return evaluation


def _removal_lines(evaluation: Evaluation) -> list[str]:
    removal = evaluation.removal
    judged = removal.dropped - removal.decided - removal.unlabelled
    lines = [
        f"{evaluation.samples:,} samples, {len(evaluation.truth.labels):,} labelled, "
        f"{evaluation.failed:,} failed",
        "",
        "(i) What was removed",
        f"  wrong drops                     {rate_text(Rate(len(removal.wrong), judged))}",
        f"  redundant samples removed       {rate_text(Rate(removal.removed, removal.redundant))}",
        f"    mean over sources (macro)     {decimal(removal.macro_share)} over {removal.sources:,} sources "
        "with copies",
        f"  sources without a kept sample   {len(removal.lost_sources):,}",
        f"  kept in place of its original   {_counts(removal.in_place_by)}",
        f"  kept, equal to its original     {removal.identical_in_place:,}",
    ]
    if removal.decided or removal.unlabelled:
        lines.append(
            f"  not judged                      {removal.decided} decided, {removal.unlabelled} unlabelled"
        )
    for row in removal.wrong[:_MOST_LISTED]:
        lines.append(
            f"    wrong: {row.sample_id} for {row.representative_id} ({row.kind}, score {decimal(row.score)})"
        )
    for source in removal.lost_sources[:_MOST_LISTED]:
        lines.append(f"    lost source: {source}")
    for entry in removal.in_place[:_MOST_LISTED]:
        lines.append(
            f"    {entry.transform} {entry.kept_id} kept, its original {entry.original.sample_id} dropped"
        )
    return lines


def _recall_lines(copies: CopyRecall) -> list[str]:
    names = (
        f"{'transform':<28}{'pairs':>7}{'joined':>8}{'found':>8}  {'95% interval':<15}{'not compared':>13}"
    )
    header = f"  {names}{'micro-AP':>10}"
    lines = [
        "(ii) Copies and their originals: joined (one representative, or verified), found (verified directly)",
        header,
        _recall_line(copies.overall),
    ]
    lines += [_recall_line(row) for row in copies.by_transform]
    lines.append(
        f"  {copies.false_pairs:,} scored pairs of an original and a picture without a common source"
    )
    return lines


def _recall_line(row: TransformRecall) -> str:
    ends = row.verified.interval
    interval = "–" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
    name = row.transform if row.whole else f"{row.transform} (part)"
    missing = row.verified.total - row.scored
    return (
        f"  {name:<28}{row.verified.total:>7,}{decimal(row.joined.value):>8}{decimal(row.verified.value):>8}"
        f"  {interval:<15}{missing:>13,}"
        f"{decimal(row.micro_ap):>10}"
    )


def _pair_lines(evaluation: Evaluation) -> list[str]:
    pairs = evaluation.pairs
    return [
        "(iii) All pairs of copies, for information",
        f"  verified                        {rate_text(Rate(pairs.verified, pairs.total))}",
        f"  under one representative        {rate_text(Rate(pairs.same_group, pairs.total))}",
        f"  verified without common source  {pairs.false_verified:,}",
    ]


def _gaps(evaluation: Evaluation) -> list[str]:
    lines: list[str] = []
    unknown, unlabelled = evaluation.truth.unknown_files, evaluation.truth.unlabelled
    for what, ids in (
        (plural(len(unknown), "file") + " of the manifest not in the run", unknown),
        (plural(len(unlabelled), "sample") + " of the run not in the manifest", unlabelled),
    ):
        if ids:
            lines += ["", f"{what}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"]
    return lines


def decimal(value: float | None) -> str:
    """Three decimals; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def rate_text(rate: Rate) -> str:
    """A rate with its counts and interval."""
    if rate.value is None or rate.interval is None:
        return "– (0 of 0)"
    low, high = rate.interval
    return f"{rate.value:.3f} ({rate.hits:,} of {rate.total:,}; 95% interval {low:.3f} to {high:.3f})"


def _counts(by_name: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in by_name.items()) or "0"
