"""Find what a text-to-image model has memorised of a finished run, the set that it was trained on.

GENERATIONS are many pictures of each prompt, as `onceseen generate` writes them: files, directories or globs of tars,
parquet files or images. A prompt is memorised where at least audit.min_clique of its generations are near-identical to
each other, and to a training picture (Carlini et al. 2023). The prompt of a picture is `prompt` of its json, or its
caption; --table names it where neither does. How near is near is calibrated: at most audit.max_rate of the pictures of
--held-out, which the model has not seen, may match; without them, of the training pictures held against each other.

OUT receives prompts.parquet (one row a prompt: memorised, collapsed, template, varied or too_few), generations.parquet,
summary.json (rates with intervals, by the number of copies in training), thresholds.json and delete_list.csv: every
copy in RUN of what was given back. Neither GENERATIONS nor RUN is changed.

--prompts RUN --per-bin N writes the prompts to ask instead: captions of RUN, so many of each number of copies.

A killed audit is resumed by the same command. Any Apache Beam option may be given as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from onceseen.cli.arguments import add_settings, open_runner

TAKES_BEAM_OPTIONS = True
EPILOG = """\
a whole audit, from the deduplicated training set to what leaves it:
  onceseen audit --prompts run --per-bin 50 --output prompts.csv
  onceseen generate --pipeline model/ --prompts prompts.csv --per-prompt 500 --output generated
  onceseen audit generated --reference run --held-out validation/ --output audit

more examples:
  onceseen audit images/ --reference run --output audit --table prompts.csv
                    a folder of pictures; prompts.csv has rows such as  cat/0001.png,a photo of a cat,17
  onceseen audit generated --reference run --output audit --set audit.min_clique=5 --truth known.csv
                    fewer pictures a prompt; known.csv (prompt,memorised with yes or no) tells how well it was told

what is printed:
  read 6,000 generations of 12 prompts = judged 5,990 + excluded 10 + failed 0
  memorised 4 of 12 prompts (13.8%-60.9%), collapsed 1, template 0, extracted 4; min_clique 10 of 500 generations a
  prompt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("generations", metavar="GENERATIONS", nargs="*", help="files, directories or globs")
    parser.add_argument("--reference", metavar="RUN", help="the finished run that the model was trained on")
    parser.add_argument(
        "--output", metavar="OUT", help="directory of the results; with --prompts the csv file"
    )
    parser.add_argument(
        "--held-out",
        action="append",
        default=[],
        metavar="DIR",
        help="pictures like the training set's that the model has not seen, to calibrate by; may be repeated",
    )
    parser.add_argument(
        "--table",
        default="",
        metavar="FILE",
        help="csv or parquet of prompts: file,prompt,seed; above json and txt",
    )
    parser.add_argument(
        "--truth", default="", metavar="FILE", help="csv of known answers: prompt,memorised (yes or no)"
    )
    parser.add_argument(
        "--prompts", metavar="RUN", help="write a list of prompts for RUN's model, and do nothing else"
    )
    parser.add_argument(
        "--per-bin", type=int, metavar="N", help="with --prompts: prompts of each number of copies"
    )
    add_settings(parser, above="RUN", example="audit.min_clique=5")
    parser.add_argument("--overwrite", action="store_true", help="start again, whatever OUT holds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Audits, or writes the prompts, and prints what came of it.

    Returns:
        0.
    """
    from dataclasses import replace

    from onceseen.jobs.audit.run import AuditRequest, audit_config, run_audit
    from onceseen.jobs.reference_run import open_reference

    _check_flags(args)
    runner = open_runner(args)  # the reference may be remote
    if args.prompts:
        return _write_prompts(args)
    reference = open_reference(args.reference)
    config = replace(audit_config(reference, args.config, args.overrides), runner=runner)
    result = run_audit(
        AuditRequest(
            generations=tuple(args.generations),
            reference=reference,
            output=args.output,
            config=config,
            held_out=tuple(args.held_out),
            table=args.table,
            truth=args.truth,
            overwrite=args.overwrite,
            quiet=args.quiet,
        )
    )
    if not result.worked:
        print(f"{result.layout.root}: done already, with these generations and config; nothing to do")
    for line in _lines(result.summary):
        print(line)
    print(
        f"to delete: {result.summary['delete']:,} training pictures, {result.layout.path('delete_list.csv')}"
    )
    print(f"report: {result.layout.report()}")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that are missing or say nothing together.

    Raises:
        ValueError: Naming them.
    """
    if args.prompts:
        given = [name for name in ("reference", "held_out", "table", "truth") if getattr(args, name)]
        if args.generations or given:
            other = "GENERATIONS" if args.generations else "--" + given[0].replace("_", "-")
            raise ValueError(f"--prompts writes a list of prompts and audits nothing: leave {other} out")
        if args.per_bin is None:
            raise ValueError("--prompts needs --per-bin N, prompts of each number of copies, such as 50")
        return
    if args.per_bin is not None:
        raise ValueError("--per-bin belongs to --prompts RUN")
    missing = [name for name in ("generations", "reference", "output") if not getattr(args, name)]
    if missing:
        wanted = "GENERATIONS" if missing[0] == "generations" else f"--{missing[0]}"
        raise ValueError(f"{wanted} is missing; expected GENERATIONS --reference RUN --output OUT")


def _write_prompts(args: argparse.Namespace) -> int:
    from onceseen.core.layout import RunLayout
    from onceseen.stats.prompts import describe_bins, write_prompts

    summary = write_prompts(RunLayout.at(args.prompts), args.per_bin, args.output or "")
    for line in describe_bins(summary):
        print(line)
    print(f"{summary.prompts:,} prompts: {summary.path}")
    return 0


def _lines(summary: Mapping[str, Any]) -> list[str]:
    """What came of it, for a person."""
    prompts, rates, thresholds = summary["prompts"], summary["rates"], summary["thresholds"]
    found = rates["memorised"]
    without = f" + without a prompt {summary['without_prompt']:,}" if summary["without_prompt"] else ""
    few = f"; {prompts['too_few']:,} prompts have too few and are not counted" if prompts["too_few"] else ""
    resized = f"; {summary['resized']:,} of another size, resized" if summary["resized"] else ""
    lines = [
        f"read {summary['read']:,} generations of {prompts['tried']:,} prompts = judged {summary['generated']:,} + "
        f"excluded {summary['excluded']:,} + failed {summary['failed']:,}{without}{resized}",
        f"memorised {found['hits']:,} of {found['tried']:,} prompts ({found['low']:.1%}-{found['high']:.1%}), "
        f"collapsed {summary['collapsed']:,}, template {summary['template']:,}, extracted {summary['extracted']:,}; "
        f"min_clique {summary['min_clique']:,} of {summary['per_prompt']['median']:,} generations a prompt{few}",
        _thresholds_line(thresholds),
    ]
    lines += [f"note: {warning}" for warning in thresholds["warnings"]]
    truth = summary["truth"]
    if truth is not None:
        said = truth["verdict"]
        clique, nearest = (_number(truth[name]["auc"]) for name in ("matched_clique", "nearest_distance"))
        lines.append(
            f"truth: {said['found']:,} of {truth['memorised']:,} memorised prompts found, {said['false']:,} of "
            f"{truth['prompts'] - truth['memorised']:,} others said to be; AUC {clique} by matching clique, {nearest} "
            "by nearest distance"
        )
    return lines


def _thresholds_line(thresholds: Mapping[str, Any]) -> str:
    """What counted, and how it was chosen."""
    cosine = "" if thresholds["edge_cosine"] is None else f", edge cosine {thresholds['edge_cosine']:.3f}"
    source, side = thresholds["calibrated_on"], thresholds["side"]
    chosen = "set, not calibrated"
    if source != "set":
        counts = f"{thresholds['matched']:,} of {thresholds['tried']:,}"
        chosen = f"calibrated on {source} pictures, of which {counts} match"
    return (
        f"match distance {thresholds['match_distance']:.4f}, edge distance {thresholds['edge_distance']:.4f}"
        f"{cosine} at {side} x {side} pixels; {chosen}"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
