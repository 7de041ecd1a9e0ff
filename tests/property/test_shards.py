"""Any tar, any set of kept samples: the output holds the kept members of the input, in order, and nothing
else."""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.shards.shard_tools import READ, WRITE, one_shard, read_all, verdict
from webdataset.tariterators import base_plus_ext

from onceseen.core.ids import decode_name
from onceseen.shards import rewrite_shard

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
IMAGES = ("jpg", "PNG", "image.webp")
EXTENSIONS = (*IMAGES, "txt", "json", "cls", "onceseen.json", "")


class Entry(NamedTuple):
    """A member to be."""

    stem: str
    extension: str
    data: bytes
    kind: bytes

    @property
    def name(self) -> str:
        return f"{self.stem}.{self.extension}" if self.extension else self.stem


STEMS = st.sampled_from(
    [
        "a",
        "b",
        "0001",
        "d/a",
        "d.e/a",
        "./a",
        "ключ",
        "猫/ñ",
        "k" * 99,
        "d" * 90 + "/" + "k" * 95,
        "caf\udce9",
        "a#2",
    ]
) | st.text(st.characters(codec="utf-8", exclude_characters="\0/."), min_size=1, max_size=30)
DATA = st.one_of(
    st.just(b""), st.binary(max_size=40), st.integers(1, 1600).map(lambda n: bytes([n % 251]) * n)
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 9 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
ENTRIES = st.lists(st.builds(Entry, STEMS, st.sampled_from(EXTENSIONS), DATA, KINDS), max_size=14)


def _build(path: Path, entries: list[Entry], tar_format: int) -> None:
    with tarfile.open(path, "w", format=tar_format, encoding="utf-8", errors="surrogateescape") as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type = entry.kind
            if entry.kind == tarfile.REGTYPE:
                info.size = len(entry.data)
            elif entry.kind != tarfile.DIRTYPE:
                info.linkname = "somewhere"
            tar.addfile(info, io.BytesIO(entry.data) if entry.kind == tarfile.REGTYPE else None)


def _members(path: Path) -> list[tuple[str, bytes, bytes]]:
    """(name, type, data) of all members, by Python's own module."""
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
        found = []
        for info in tar.getmembers():
            stream = tar.extractfile(info) if info.isreg() else None
            found.append((info.name, info.type, stream.read() if stream else b""))
        return found


def _samples(members: list[tuple[str, bytes, bytes]]) -> list[int | None]:
    """The number of each member's sample, by WebDataset's way to take names apart; None if it has none."""
    numbers: list[int | None] = []
    current: str | None = None
    extensions: set[str] = set()
    number = -1
    for name, kind, _ in members:
        key, extension = base_plus_ext(name)
        regular = kind == tarfile.REGTYPE
        if key is None or not extension or (not regular and (kind == tarfile.DIRTYPE or key != current)):
            numbers.append(None)
            continue
        if not regular:
            numbers.append(number)
            continue
        if key != current or extension.lower() in extensions:
            number, current, extensions = number + 1, key, set()
        extensions.add(extension.lower())
        numbers.append(number)
    return numbers


@settings(max_examples=150, deadline=None)
@given(ENTRIES, st.sampled_from(FORMATS), st.data())
def test_output_is_the_kept_members_in_order(
    entries: list[Entry], tar_format: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        source = root / "s.tar"
        try:
            _build(source, entries, tar_format)
        except ValueError:  # a name that the oldest format cannot hold
            return
        members = _members(source)
        numbers = _samples(members)
        count = max((n for n in numbers if n is not None), default=-1) + 1
        samples, failures = read_all(one_shard(source))
        assert not failures
        assert len(samples) == count
        _check_images(members, numbers, samples)
        kept = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
        verdicts = {s.key: verdict(s, drop=not k) for s, k in zip(samples, kept, strict=True)}
        assert len(verdicts) == count
        kept = [row.verdict != "drop" for row in verdicts.values()]
        summary = rewrite_shard(one_shard(source), verdicts, str(root / "out"), READ, WRITE)
        output = _members(root / "out" / "s.tar")
        own = ".onceseen.json"
        expected = [
            m for m, n in zip(members, numbers, strict=True) if n is None or (kept[n] and not _is_own(m[0]))
        ]
        assert [m for m in output if not m[0].endswith(own)] == [
            m for m in expected if not m[0].endswith(own)
        ]
        foreign = sum(m[0].endswith(own) for m in expected)
        assert sum(m[0].endswith(own) for m in output) == foreign + summary.members_added
        assert summary.members_added == summary.written == sum(kept)


def _is_own(name: str) -> bool:
    return (base_plus_ext(name)[1] or "").lower() == "onceseen.json"


def _check_images(members: list, numbers: list[int | None], samples: list) -> None:
    for sample in samples:
        mine = [
            m for m, n in zip(members, numbers, strict=True) if n == sample.row and m[1] == tarfile.REGTYPE
        ]
        images = [m for m in mine if m[0].lower().endswith((".jpg", ".png", ".webp"))]
        assert sample.key.startswith(
            decode_name(base_plus_ext(mine[0][0])[0].encode("utf-8", "surrogateescape"))
        )
        if images:  # `image.webp` says something about a `jpg` beside it
            plain = [m for m in images if "." not in base_plus_ext(m[0])[1]]
            assert (sample.image or b"") == (plain or images)[0][2]
        else:
            assert sample.error == "no_image"


@settings(max_examples=80, deadline=None)
@given(ENTRIES, st.sampled_from(FORMATS), st.floats(0, 1), st.sampled_from(["cut", "flip"]))
def test_damaged_tars_reconcile(entries: list[Entry], tar_format: int, where: float, how: str) -> None:
    """However a tar is damaged, what is read is what can be rewritten, and the output is a whole tar."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        source = root / "s.tar"
        try:
            _build(source, entries, tar_format)
        except ValueError:
            return
        content = bytearray(source.read_bytes())
        place = int(where * (len(content) - 1))
        if how == "cut":
            del content[place:]
        else:
            content[place] ^= 0x55
        source.write_bytes(content)
        shard = one_shard(source)
        samples, failures = read_all(shard)
        assert len(failures) <= 1
        verdicts = {s.key: verdict(s) for s in samples}
        summary = rewrite_shard(shard, verdicts, str(root / "out"), READ, WRITE)
        assert bool(summary.damaged) == bool(failures)
        again, damage = read_all(one_shard(root / "out" / "s.tar"))
        assert not damage
        assert [(s.key, s.image, s.error) for s in again] == [(s.key, s.image, s.error) for s in samples]
