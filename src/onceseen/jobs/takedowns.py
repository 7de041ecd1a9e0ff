"""RUN/takedowns.csv: which samples were taken down, when and why; rows are added and never changed.

A later `dedup --redo` drops them again, whatever else its decisions say. A row names the file of SRC that still holds
the picture, so the ledger is the delete list for SRC as well.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from onceseen.core.files import read_bytes_if_there, write_bytes
from onceseen.core.layout import RunLayout


@dataclass(frozen=True, slots=True)
class Takedown:
    """One row.

    Attributes:
        sample_id: What was taken down.
        sha256: SHA-256 of the picture's file, hexadecimal; empty where it could never be read.
        date: When, as YYYY-MM-DD.
        why: A person's reason, and what the picture is to the one asked for.
        path: The file of SRC that holds it: the shard, or in a folder the picture's own.
        member: Its member in that, where the shard is a tar.
    """

    sample_id: str
    sha256: str
    date: str
    why: str
    path: str
    member: str


_HEADER = [f.name for f in fields(Takedown)]


def read_takedowns(layout: RunLayout) -> list[Takedown]:
    """The rows of a run's ledger, oldest first; none where nothing was taken down.

    Raises:
        ValueError: If the ledger is damaged: what was taken down must not come back for that.
    """
    path = layout.takedowns()
    data = read_bytes_if_there(path)
    if data is None:
        return []
    try:
        header, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        if header != _HEADER or any(len(row) != len(_HEADER) or not row[0] for row in rows):
            raise ValueError("a row is not as it was written")
        return [Takedown(*row) for row in rows]
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected the columns {','.join(_HEADER)}: mend it, since what it names must "
            "not come back"
        ) from error


def add_takedowns(layout: RunLayout, rows: Sequence[Takedown]) -> list[Takedown]:
    """Adds rows of samples that are not in the ledger yet; the file appears whole, old rows first.

    Returns:
        The whole ledger.

    Raises:
        ValueError: If the ledger is damaged.
        OSError: If it cannot be written.
    """
    ledger = read_takedowns(layout)
    known = {row.sample_id for row in ledger}
    added = [row for row in rows if row.sample_id not in known]
    if added:
        ledger += added
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(_HEADER)
        out.writerows(astuple(row) for row in ledger)
        write_bytes(layout.takedowns(), text.getvalue().encode())
    return ledger
