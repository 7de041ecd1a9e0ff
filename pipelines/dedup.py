"""The main job as a script, for runners that start a file: the same as `onceseen dedup`.

Dataflow's Flex Templates know named parameters only, so two forms are understood besides the command's own:
`--sources=A B` for SRC, and `--settings=section.key=value;section.key=value` for several --set.

Everything that a worker needs is in the installed package, so nothing of this file is pickled.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from onceseen.cli import main


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command's arguments from a script's: SRC first, then the options in their order."""
    sources: list[str] = []
    options: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name == "--sources":
            sources += value.split()
        elif name == "--settings":
            options += [f"--set={setting.strip()}" for setting in value.split(";") if setting.strip()]
        else:
            options.append(argument)
    return [*sources, *options]


if __name__ == "__main__":
    sys.exit(main(["dedup", *command_line(sys.argv[1:])]))
