"""List every copy of a picture in the training set of a finished run, and take them out of it.

IMAGE is a file of the picture, which is searched for in RUN; --sample names it by its id instead. Copies are what the
run verified: equal bytes or pixels, verified pairs with the picture, and its group, dropped ones too. Other pictures of
its component are listed apart and left alone, unless --component is given.

Without --apply nothing is changed. With it, RUN/shards is written again without the copies, verdicts and statistics
follow, and RUN/takedowns.csv says what went, when and why; a later `onceseen dedup --redo` does not bring it back. SRC
is never changed: RUN/takedowns.csv is the list of what to delete there.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onceseen.core.layout import RunLayout
    from onceseen.takedown import Copies, Copy

TAKES_BEAM_OPTIONS = True
EPILOG = """\
examples:
  onceseen takedown portrait.jpg --reference run                          what is there
  onceseen takedown portrait.jpg --reference run --output copies.csv
  onceseen takedown --sample 00000/000000012 --reference run --apply --why 'asked for by its author'

Exit codes: 0 done, also where no copy was found; 1 it failed; 2 wrong usage.
"""
_SHOWN = ("relation", "verdict", "kind", "score", "sample_id", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="files of the picture")
    parser.add_argument("--reference", required=True, metavar="RUN", help="directory of a finished run")
    parser.add_argument(
        "--sample",
        dest="samples",
        action="append",
        default=[],
        metavar="SAMPLE_ID",
        help="the picture by its id in RUN; may be repeated",
    )
    parser.add_argument(
        "--component", action="store_true", help="take the whole component, other pictures in it too"
    )
    parser.add_argument(
        "--output", default="", metavar="FILE", help="write the list as .csv, or as .json by that ending"
    )
    parser.add_argument("--apply", action="store_true", help="write RUN/shards again without the copies")
    parser.add_argument(
        "--date", type=_day, default=None, metavar="YYYY-MM-DD", help="for the ledger; today by default"
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="for the ledger")


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def run(args: argparse.Namespace) -> int:
    """Lists, and with --apply takes down.

    Returns:
        0.

    Raises:
        ValueError: If neither IMAGE nor --sample is given, or RUN, an id or an image is not what it should be.
    """
    from onceseen.core.layout import RunLayout
    from onceseen.stats.lookup import read_run, require_verdicts
    from onceseen.takedown import Copies, find_copies
    from onceseen.takedown.searching import search_images

    if not args.images and not args.samples:
        raise ValueError("no picture was given; expected IMAGE files or --sample SAMPLE_ID")
    layout = RunLayout.at(args.reference)
    record = read_run(layout)
    require_verdicts(layout, record)
    matches = search_images(layout, args.images)
    for path in (path for path, found in matches.items() if not found):
        print(f"{path}: no copy of it was found")
    known = bool(args.samples) or any(matches.values())
    found = Copies(())
    if known:
        found = find_copies(layout, record, args.samples, matches, component=args.component)
    print(describe(layout, found))
    if args.output:
        _write(args.output, found)
        print(f"written: {args.output}")
    if args.apply and found.taken:
        _apply(layout, found, args.date or date.today().isoformat(), args.why)
    elif found.taken:
        print("nothing was changed; --apply takes them down")
    return 0


def describe(layout: RunLayout, found: Copies) -> str:
    """The tables as text."""
    from onceseen.stats.report.figures import plural

    if not found.rows:
        return f"{layout.root}: no copy of it was found"
    written = sum(bool(row.written) for row in found.taken)
    lines = [
        f"{layout.root}: {plural(len(found.taken), 'sample')} of the picture, {written} of them in "
        + layout.shards_dir(),
        *_table(found.taken),
    ]
    if found.apart:
        lines += [
            "",
            f"{plural(len(found.apart), 'other picture')} in its component, left alone (--component takes them too):",
            *_table(found.apart),
        ]
    return "\n".join(lines)


def _table(rows: Sequence[Copy]) -> list[str]:
    cells = [list(_SHOWN)]
    for row in rows:
        score = "" if row.score is None else f"{row.score:.3f}"
        cells.append(
            [str(row.relation), row.verdict, row.kind, score, row.sample_id, row.written or row.source]
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(_SHOWN))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _write(path: str, found: Copies) -> None:
    from onceseen.core.files import absolute, plain_path, write_bytes
    from onceseen.takedown import Copy

    rows = [asdict(row) | {"relation": str(row.relation)} for row in found.rows]
    if path.lower().endswith(".json"):
        data = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    else:
        text = io.StringIO()
        out = csv.DictWriter(text, [f.name for f in fields(Copy)], lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
        data = text.getvalue()
    write_bytes(absolute(plain_path(path)), data.encode())


def _apply(layout: RunLayout, found: Copies, day: str, why: str) -> None:
    from onceseen.stats.report.figures import plural
    from onceseen.takedown import apply_takedown

    result = apply_takedown(layout, found.taken, date=day, why=why)
    print(f"taken down: {plural(result.added, 'sample')}, {result.ledger} in {layout.takedowns()} in all")
    print(f"written again: {plural(len(result.rewritten), 'shard')}")
    if result.returned:
        some = ", ".join(result.returned[:3])
        print(
            f"{len(result.returned)} other pictures had been dropped for one that is gone and are kept now: {some}"
            + (" ..." if len(result.returned) > 3 else "")
        )
    paths = {row.source for row in found.taken}
    print(
        f"SRC still holds them, in {plural(len(paths), 'file')}; {layout.takedowns()} lists what to delete there, with "
        "the file of each. Trained models and copies of RUN/shards elsewhere are not changed either"
    )
