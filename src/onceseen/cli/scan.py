"""Find queries that are duplicates of pictures in a finished run.

QUERY is a model's answers, a new crawl or an evaluation set: files, directories or globs of tars, parquet files or
images. Every picture of RUN is searched, those that were dropped too. OUT receives flagged.parquet (one row a query:
duplicate, near or clear, with the evidence), summary.json, delete_list.csv and report.html. Nothing is deleted, and
neither QUERY nor RUN is changed; --apply writes the query set again in OUT/shards/, without the duplicates.

A killed scan is resumed by the same command. Any Apache Beam option may be given as well.
"""

from __future__ import annotations

import argparse

TAKES_BEAM_OPTIONS = True
EPILOG = """\
examples:
  onceseen scan generated/ --reference run --output scan          which answers are training pictures?
  onceseen scan generated/ --reference run --output scan --apply  and the others, in scan/shards/
  onceseen scan test/ --reference run --output clean --policy decontaminate --apply
                                     training shards without what leaks into the test set, in clean/shards/

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
    parser.add_argument("--decisions", default="", metavar="FILE", help="csv of a person's decisions")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, above those of RUN")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="one setting, above the file's, e.g. scan.near_score=0.1; may be repeated",
    )
    parser.add_argument("--overwrite", action="store_true", help="start again, whatever OUT holds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(args: argparse.Namespace) -> int:
    """Runs the scan and prints what came of it.

    Returns:
        0.
    """
    from dataclasses import replace

    from onceseen.jobs.runner import with_flags
    from onceseen.jobs.scan.reference import open_reference, scan_config
    from onceseen.jobs.scan.run import ScanRequest, run_scan

    reference = open_reference(args.reference)
    config = scan_config(reference, args.config, args.overrides, args.policy)
    config = replace(config, runner=with_flags(config.runner, args.beam_options))
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
