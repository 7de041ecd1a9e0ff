"""Measure a run against known copies.

Prints and writes (RUN/stats/evaluation.json, and evaluate.html with pictures): wrong drops, those whose representative
shares no source with them; the share of redundant samples removed, averaged over sources; recall of copies and micro-AP
over scored pairs, by transform, where pairs that were never compared count as missed; and all pairs, for information.

manifest.csv has the header file,source_id,transform. `file` is the sample_id (for folders: the path in SRC). Two files
are copies when they share a source_id; a file may have several rows, one for each source that it contains.

RUN and the manifest may be remote; Beam's options for their store, such as --s3_endpoint_url=..., may be given as well.
"""

from __future__ import annotations

import argparse
import sys

from onceseen.core.files import plain_path
from onceseen.core.layout import RunLayout
from onceseen.evaluate.evaluation import evaluate_run

TAKES_BEAM_OPTIONS = True


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
    layout = RunLayout.at(args.run)
    try:
        evaluation = evaluate_run(layout, plain_path(args.truth))
    except ValueError as error:
        print(f"onceseen evaluate: {error}", file=sys.stderr)
        return 2
    print(evaluation.to_text())
    print(f"\nWritten: {layout.stats('evaluation.json')}, {layout.stats('evaluate.html')}")
    return 0
