"""`onceseen evaluate RUN --truth manifest.csv`."""

from __future__ import annotations

import argparse
import sys

from onceseen.core.layout import RunLayout
from onceseen.evaluate.evaluation import evaluate_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("run", metavar="RUN", help="directory of a finished run")
    parser.add_argument(
        "--truth",
        required=True,
        metavar="manifest.csv",
        help="known copies: a csv with the header file,source_id,transform",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates, writes RUN/stats/evaluation.json and RUN/stats/evaluate.html, and prints the table.

    Returns:
        0; 2 where the run or the manifest is not usable.
    """
    layout = RunLayout(args.run)
    try:
        evaluation = evaluate_run(layout, args.truth)
    except ValueError as error:
        print(f"onceseen evaluate: {error}", file=sys.stderr)
        return 2
    print(evaluation.to_text())
    print(f"\nWritten: {layout.stats('evaluation.json')}, {layout.stats('evaluate.html')}")
    return 0
