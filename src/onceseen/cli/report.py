"""Write report.html of a finished run again.

RUN may be remote; Beam's options for its store, such as --s3_endpoint_url=..., may be given as well.
"""

from __future__ import annotations

import argparse

TAKES_BEAM_OPTIONS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("run", metavar="RUN", help="directory of a finished run")


def run(args: argparse.Namespace) -> int:
    """Writes the report and prints its path.

    Returns:
        0.
    """
    from onceseen.core.layout import RunLayout
    from onceseen.stats import write_report

    print(write_report(RunLayout.at(args.run)))
    return 0
