"""Arguments that several commands take, said once."""

from __future__ import annotations

import argparse


def add_settings(parser: argparse.ArgumentParser, *, above: str = "", example: str = "") -> None:
    """Adds --config and --set.

    Args:
        parser: The command's.
        above: Whose settings they stand above; empty: the defaults.
        example: A setting that this command's users may want.
    """
    whose = f", above those of {above}" if above else "; see configs/"
    such = f", e.g. {example}" if example else ""
    parser.add_argument("--config", metavar="FILE", help=f"YAML file of settings{whose}")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help=f"one setting, above the file's{such}; may be repeated",
    )


def add_job_control(parser: argparse.ArgumentParser, output: str, *, redo: str = "") -> None:
    """Adds --decisions, --redo, --overwrite and --quiet.

    Args:
        parser: The command's.
        output: What the directory of the results is called.
        redo: With which other flag --redo means something; empty: always.
    """
    parser.add_argument(
        "--decisions", default="", metavar="FILE", help="csv of a person's decisions on pairs or samples"
    )
    parser.add_argument(
        "--redo",
        default="",
        choices=("match", "rewrite"),
        help=f"{redo}do this job, and those after it, again: what a finished run asks for where its config differs",
    )
    parser.add_argument("--overwrite", action="store_true", help=f"start again, whatever {output} holds")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
