"""``python -m onceseen``: the same command as ``onceseen``."""

import sys

from onceseen.cli import main

if __name__ == "__main__":
    sys.exit(main())
