"""Fetch one file of a model's repository into the cache where its loader looks, and compare its SHA-256.

Usage: ``python fetch_weights.py REPOSITORY FILE SHA256``; ``HF_HOME`` says where the cache is.
"""

from __future__ import annotations

import hashlib
import sys


def main(arguments: list[str]) -> int:
    """Fetch and compare.

    Args:
        arguments: Repository on the hub, name of the file, and its SHA-256 in hexadecimal.

    Returns:
        0 when the file is there and the one expected, 1 when it is another, 2 when the arguments are wrong.
    """
    if len(arguments) != 3:
        sys.stderr.write("usage: python fetch_weights.py REPOSITORY FILE SHA256\n")
        return 2
    repository, name, expected = arguments
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(repository, name)
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        sys.stderr.write(f"{repository}/{name}: its SHA-256 is {found}; expected {expected}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
