"""The command line. `main` is the console script; each command is one module or room with `add_arguments` and `run`."""

from onceseen.cli.main import main

__all__ = ["main"]
