"""`onceseen COMMAND ...`: parse, hand over, turn errors into one clear line and an exit code.

Exit codes: 0 done, 1 the run failed, 2 wrong usage or config.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import onceseen
from onceseen.quiet import disable_telemetry, import_beam

_COMMANDS = {
    "dedup": ("onceseen.cli.dedup", "deduplicate shards: the main job"),
    "scan": ("onceseen.cli.scan", "which queries are duplicates of a finished run's pictures: the detector"),
    "audit": ("onceseen.cli.audit", "what a text-to-image model has memorised of a finished run"),
    "takedown": ("onceseen.cli.takedown", "every copy of a picture in a run, and the set again without them"),
    "serve": ("onceseen.cli.serve", "the detector over HTTP"),
    "evaluate": (
        "onceseen.evaluate.cli",
        "wrong drops, removed copies and micro-AP of a run against known copies",
    ),
    "explain": ("onceseen.explain", "why a sample was kept or dropped, or what is known of two samples"),
    "report": ("onceseen.cli.report", "write report.html of a finished run again"),
    "generate": ("onceseen.cli.generate", "many pictures of each prompt by a text-to-image model, as shards"),
    "fetch": ("onceseen.fetch.cli", "a table of URLs and captions becomes shards (img2dataset)"),
}
# Loading it takes seconds, and the others need none for a local run.
_WITH_BEAM = ("dedup", "scan", "audit", "takedown")
_EPILOG = """\
examples:
  onceseen dedup shards/ --output run                       deduplicate, keep everything in run/
  onceseen dedup shards/ --output run --dry-run             verdicts, delete list and report only
  onceseen dedup 'shards/*.tar' --output run --set verify.min_score=0.7
  onceseen explain run 00000/000000012                      why this one?
  onceseen scan generated/ --reference run --output scan    which of these are training pictures?
  onceseen audit generated/ --reference run --output audit  which of its pictures does a model give back?
  onceseen evaluate run --truth manifest.csv                how right was it?

Commands exit with 0 when done, 1 when the run failed, 2 for wrong usage or config.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands; heavy imports wait until a command is chosen."""
    parser = argparse.ArgumentParser(
        prog="onceseen",
        description="Makes a training set hold every picture once: finds near-duplicate images, verifies them, "
        "writes the set again without them, and says how often each picture occurred.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"onceseen {onceseen.__version__}")
    parser.add_argument("command", choices=list(_COMMANDS), metavar="COMMAND", help="one of those below")
    return parser


def _epilog() -> str:
    """The commands, one a line, and examples."""
    width = max(map(len, _COMMANDS))
    lines = "".join(f"  {name:<{width}}  {text}\n" for name, (_, text) in _COMMANDS.items())
    return f"commands (`onceseen COMMAND --help` tells more):\n{lines}\n{_EPILOG}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments without the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    disable_telemetry()
    if not arguments or arguments[0] not in _COMMANDS:
        return _exit_code(build_parser(), arguments)
    name, rest = arguments[0], arguments[1:]
    module = import_module(_COMMANDS[name][0])
    parser = argparse.ArgumentParser(
        prog=f"onceseen {name}",
        description=(module.__doc__ or _COMMANDS[name][1]).strip(),
        epilog=getattr(module, "EPILOG", None),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a shortened option could be one of Beam's
    )
    parser.add_argument("--verbose", action="store_true", help="log every step, and the whole of an error")
    module.add_arguments(parser)
    takes_beam_options = getattr(module, "TAKES_BEAM_OPTIONS", False)
    try:
        parsed, unknown = parser.parse_known_args(rest)
        parsed.beam_options = unknown
        _refuse_unknown(parser, unknown, beam=takes_beam_options)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    if unknown or name in _WITH_BEAM:
        import_beam()
    _set_up_logging(verbose=parsed.verbose)
    return _run(name, module.run, parsed)


def _refuse_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str], *, beam: bool) -> None:
    """Ends with a usage error where an option is none of ours; Beam's pass, but not those that are ours misspelt.

    `--dry_run` is an option of Beam's that does not stop the rewrite.
    """
    for flag in (u for u in unknown if u.startswith("-")):
        ours = "--" + flag.partition("=")[0].lstrip("-").replace("_", "-")
        if ours in parser._option_string_actions:
            parser.error(f"unknown option {flag}: did you mean {ours}?")
    if unknown and not beam:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if unknown and not unknown[0].startswith("-"):
        parser.error(
            f"{unknown[0]!r} stands apart from the other SRC: give them together, before the options"
        )


def _run(name: str, run: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    """Runs a command; errors that a user can do something about become one line."""
    try:
        if parsed.beam_options:
            _open_stores_by(parsed.beam_options)
        return int(run(parsed))
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _stopped(name)
    except (ValueError, FileNotFoundError) as error:
        if parsed.verbose:
            raise
        print(f"onceseen {name}: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, OSError) as error:
        if _was_interrupted(error):
            return _stopped(name)
        if parsed.verbose:
            raise
        print(f"onceseen {name}: {_last_line(error)} (--verbose shows where)", file=sys.stderr)
        return 1


def _open_stores_by(flags: Sequence[str]) -> None:
    """Has remote paths opened by Beam options of the command line, in commands that start no job too.

    Raises:
        ValueError: If Beam knows no such option.
    """
    from onceseen.core.config import RunnerConfig
    from onceseen.core.remote import use_beam_options
    from onceseen.jobs.runner import with_flags

    use_beam_options([f"--{option}" for option in with_flags(RunnerConfig(), flags).options])


def _stopped(name: str) -> int:
    print(f"onceseen {name}: stopped; run the same command again to resume", file=sys.stderr)
    return 1


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: inside a step, Beam raises it again as an error of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or _last_line(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_line(error: BaseException) -> str:
    """Beam wraps a worker's error in its whole traceback; the last line is the error."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).strip()


def _exit_code(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    try:
        if not arguments:
            parser.print_help()
            return 2
        parser.parse_args(arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    return 2


def _set_up_logging(*, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("onceseen")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    # Beam logs a worker's whole traceback as an error; `_run` tells its last line.
    logging.getLogger("apache_beam").setLevel(logging.INFO if verbose else logging.CRITICAL)
    logging.getLogger().setLevel(logging.WARNING if not verbose else logging.INFO)
