"""The main job as a script, for runners that start a file: the same as `onceseen dedup`.

Everything that a worker needs is in the installed package, so nothing of this file is pickled.
"""

from __future__ import annotations

import sys

from onceseen.cli import main

if __name__ == "__main__":
    sys.exit(main(["dedup", *sys.argv[1:]]))
