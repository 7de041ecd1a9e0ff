"""Deduplicate shards.

SRC is a directory, a file or a glob of WebDataset tars (as img2dataset writes them), parquet files with images, or a
folder of images. RUN receives verdicts, pairs, statistics, a delete list, report.html and (without --dry-run) the
deduplicated shards, in the input's own format. Nothing in SRC is changed.

A killed run is resumed by the same command. Any Apache Beam option may be given as well, e.g. --runner=SparkRunner.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from onceseen.cli.arguments import add_job_control, add_settings
from onceseen.core.config_io import load_config

if TYPE_CHECKING:
    from onceseen.jobs.dedup import DedupResult

TAKES_BEAM_OPTIONS = True
EPILOG = """\
examples:
  onceseen dedup shards/ --output run
  onceseen dedup shards/ --output run --config configs/hash-only.yaml --dry-run
  onceseen dedup shards/ --output run --set keep.max_copies=3 --redo match
  onceseen dedup shards/ --output run --decisions decisions.csv --redo match

decisions.csv holds a person's word, above every score:
  sample_id_a,sample_id_b,decision        rows such as  00000/000000001,00003/000000042,different
  sample_id,decision                      rows such as  00000/000000007,keep
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("sources", metavar="SRC", nargs="+", help="files, directories or globs")
    parser.add_argument(
        "--output", required=True, metavar="RUN", help="run directory, made if it is not there"
    )
    add_settings(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="stop before the rewrite: verdicts, delete list and report only",
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="RUN0",
        help="take the features of a finished run of the same input and model",
    )
    add_job_control(parser, "RUN")


def run(args: argparse.Namespace) -> int:
    """Runs the job and prints what came of it.

    Returns:
        0.
    """
    from dataclasses import replace

    from onceseen.jobs.dedup import DedupRequest, run_dedup
    from onceseen.jobs.runner import TemplateStagedError, with_flags

    config = load_config(args.config, args.overrides)
    config = replace(config, runner=with_flags(config.runner, args.beam_options))
    request = DedupRequest(
        sources=tuple(args.sources),
        output=args.output,
        config=config,
        dry_run=args.dry_run,
        decisions=args.decisions,
        features=args.features,
        redo=args.redo,
        overwrite=args.overwrite,
        quiet=args.quiet,
    )
    try:
        result = run_dedup(request)
    except TemplateStagedError as staged:
        print(staged)
        return 0
    return say_result(result)


def say_result(result: DedupResult) -> int:
    """Prints what came of a run.

    Returns:
        0.
    """
    summary = result.summary
    if not result.worked:
        print(f"{result.layout.root}: done already, with this input and config; nothing to do")
    print(
        f"read {summary['read']:,} = kept {summary['kept']:,} + dropped {summary['dropped']:,} + "
        f"failed {summary['failed']:,}; {summary['components']:,} components, redundant {summary['redundant']:,}"
    )
    if summary["shards_failed"]:
        print(f"{summary['shards_failed']} damaged shard(s): see {result.layout.path('failures')}")
    print(f"report: {result.layout.report()}")
    return 0
