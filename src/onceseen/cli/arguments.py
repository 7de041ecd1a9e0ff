"""Arguments that several commands take, said once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onceseen.core.config import RunnerConfig


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


def open_runner(args: argparse.Namespace) -> RunnerConfig:
    """The runner of a command that opens a reference first: remote paths are opened by its options from here on.

    Args:
        args: With config, overrides and beam_options.

    Raises:
        ValueError: If a setting of section runner is unknown or out of range, or Beam knows no such option.
    """
    from onceseen.core.config_io import load_runner
    from onceseen.core.remote import use_beam_options
    from onceseen.jobs.runner import with_flags

    runner = with_flags(load_runner(args.config, args.overrides), args.beam_options)
    use_beam_options([f"--{option}" for option in runner.options])
    return runner
