"""Find queries that are duplicates of pictures in a finished run.

QUERY is a model's answers, a new crawl or an evaluation set: files, directories or globs of tars, parquet files or
images. Every picture of RUN is searched, those that were dropped too. OUT receives flagged.parquet (one row a query:
duplicate, near or clear, with the evidence), summary.json, delete_list.csv and report.html. Nothing is deleted, and
neither QUERY nor RUN is changed; --apply writes the query set again in OUT/shards/, without the duplicates.

--append makes a run instead: QUERY is a new crawl, deduplicated within itself and against RUN, whose own shards and
files stay as they are. OUT's tables are of both, its shards/ of the new ones.

A killed scan is resumed by the same command. Any Apache Beam option may be given as well.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from onceseen.cli.arguments import add_job_control, add_settings, open_runner

if TYPE_CHECKING:
    from onceseen.core.config import RunnerConfig
    from onceseen.jobs.reference_run import ReferenceRun

TAKES_BEAM_OPTIONS = True
EPILOG = """\
examples:
  onceseen scan generated/ --reference run --output scan          which answers are training pictures?
  onceseen scan generated/ --reference run --output scan --apply  and the others, in scan/shards/
  onceseen scan test/ --reference run --output clean --policy decontaminate --apply
                                     training shards without what leaks into the test set, in clean/shards/
  onceseen scan crawl2/ --reference run --output run2 --append --prefix crawl2
                                     the new crawl without what run has, counts of its pictures grown in run2

decisions.csv takes known false positives away for good, whatever their score:
  query_id,reference_id,decision          rows such as  generated/0001,00003/000000042,different
  query_id,decision                       rows such as  generated/0007,keep
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("queries", metavar="QUERY", nargs="+", help="files, directories or globs")
    parser.add_argument("--reference", required=True, metavar="RUN", help="a finished run, of onceseen dedup")
    parser.add_argument("--output", required=True, metavar="OUT", help="directory of the results")
    parser.add_argument(
        "--policy",
        default="",
        choices=("flag", "decontaminate"),
        help="flag (default): say which queries are duplicates. decontaminate: QUERY is an evaluation set; whole "
        "components of RUN that touch it leave the training side",
    )
    parser.add_argument(
        "--apply",
        action="store_true",
        help="write OUT/shards/: the query set without its duplicates, or the training set decontaminated",
    )
    parser.add_argument(
        "--append",
        action="store_true",
        help="OUT becomes a run over QUERY, deduplicated against RUN as well; `onceseen report`, `explain` and a "
        "later --reference take it like any other",
    )
    parser.add_argument(
        "--prefix", default="", metavar="NAME", help="with --append: stands before the ids of the new samples"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with --append: stop before the rewrite, as in onceseen dedup"
    )
    add_settings(parser, above="RUN", example="scan.near_score=0.1")
    add_job_control(parser, "OUT", redo="with --append: ")


def run(args: argparse.Namespace) -> int:
    """Runs the scan and prints what came of it.

    Returns:
        0.
    """
    from dataclasses import replace

    from onceseen.jobs.reference_run import open_reference, scan_config
    from onceseen.jobs.scan.run import ScanRequest, run_scan

    _check_flags(args)
    runner = open_runner(args)  # the reference may be remote
    reference = open_reference(args.reference)
    if args.append:
        return _append(args, reference, runner)
    config = replace(scan_config(reference, args.config, args.overrides, args.policy), runner=runner)
    result = run_scan(
        ScanRequest(
            queries=tuple(args.queries),
            reference=reference,
            output=args.output,
            config=config,
            apply=args.apply,
            decisions=args.decisions,
            overwrite=args.overwrite,
            quiet=args.quiet,
        )
    )
    summary = result.summary
    if not result.worked:
        print(f"{result.layout.root}: done already, with these queries and config; nothing to do")
    print(
        f"read {summary['read']:,} = duplicate {summary['duplicate']:,} + near {summary['near']:,} + "
        f"clear {summary['clear']:,} + failed {summary['failed']:,}"
    )
    if summary["policy"] == "decontaminate":
        print(f"{summary['contaminated']:,} training pictures leave: {result.layout.path('delete_list.csv')}")
    print(f"report: {result.layout.report()}")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that say nothing together.

    Raises:
        ValueError: Naming them.
    """
    if args.append and (args.apply or args.policy):
        raise ValueError(
            "--append writes the new shards anyway, and flags nothing: leave --apply and --policy out"
        )
    if not args.append and (args.prefix or args.dry_run or args.redo):
        raise ValueError(
            "--prefix, --redo and --dry-run belong to --append; without --apply a scan writes no shards"
        )


def _append(args: argparse.Namespace, reference: ReferenceRun, runner: RunnerConfig) -> int:
    """Deduplicates a new crawl against the reference."""
    from dataclasses import replace

    from onceseen.cli.dedup import say_result
    from onceseen.jobs.append import append_config
    from onceseen.jobs.dedup import DedupRequest, run_dedup

    config = append_config(reference, args.config, args.overrides)
    request = DedupRequest(
        sources=tuple(args.queries),
        output=args.output,
        config=replace(config, runner=runner),
        dry_run=args.dry_run,
        decisions=args.decisions,
        redo=args.redo,
        overwrite=args.overwrite,
        quiet=args.quiet,
        append_to=reference,
        prefix=args.prefix,
    )
    return say_result(run_dedup(request))
