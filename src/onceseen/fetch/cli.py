"""Download the pictures of a table of URLs into WebDataset shards, by img2dataset.

Existing shards of the same table are kept, so the same command goes on after an interruption. Exit code 0 when every
shard is written: URLs that failed are counted in the summary, not fatal.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from onceseen.fetch.download import FetchConfig, fetch

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``onceseen fetch``; the defaults are those of ``FetchConfig``.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("urls", metavar="URLS", help="table of URLs: txt, csv, tsv, json, jsonl or parquet")
    parser.add_argument("--output", required=True, metavar="SHARDS", help="directory of the shards")
    parser.add_argument("--extra-column", dest="extra_columns", action="append", metavar="NAME",
                        help="a further column to carry along; may be given several times")  # fmt: skip
    texts = {
        "url_column": "column of the URLs",
        "caption_column": "column of the captions; without it no captions are written",
        "processes": "processes, one shard each",
        "threads": "downloads at the same time in each process",
        "shard_size": "URLs a shard",
        "timeout_s": "seconds without an answer until a download is given up",
        "retries": "further tries of a failed download",
        "shard_retries": "further tries of a shard that failed as a whole",
        "user_agent": "token that names you to sites",
    }
    defaults = {field.name: field.default for field in dataclasses.fields(FetchConfig)}
    for name, text in texts.items():
        default = defaults[name]
        shown = "" if default is None else f" (default: {default})"
        kind = int if isinstance(default, int) else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default, help=text + shown)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, and print the summary as JSON.

    Args:
        arguments: What the parser of ``add_arguments`` read.

    Returns:
        0 when every shard is written (URLs that failed are counted, not fatal), 1 when one is not, 2 for a
        wrong table, argument or installation.
    """
    names = {field.name for field in dataclasses.fields(FetchConfig)}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    given["extra_columns"] = tuple(given.get("extra_columns") or ())
    try:
        summary = fetch(FetchConfig(**given))
    except (ValueError, ModuleNotFoundError) as error:
        sys.stderr.write(f"onceseen fetch: {error}\n")
        return 2
    except RuntimeError as error:
        sys.stderr.write(f"onceseen fetch: {error}\n")
        return 1
    sys.stdout.write(json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False) + "\n")
    return 0
