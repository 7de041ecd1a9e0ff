"""Finds the shards of all SRC before any work, and refuses what would make ids ambiguous.

What a SRC is, is told from what it holds: tars, parquet files with images, or image files. A parquet file
without images beside a tar of the same stem is that tar's sidecar; other parquet files without images are
named in the log and left. A SRC that holds two kinds of pictures is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from onceseen.core.config import ReadConfig
from onceseen.core.dicom import DICOM_HEAD, is_dicom
from onceseen.core.files import absolute, open_read
from onceseen.core.ids import name_order
from onceseen.core.records import Shard, ShardKind
from onceseen.shards.extensions import (
    DICOM_SUFFIXES,
    JSON_EXTENSION,
    TEXT_EXTENSIONS,
    is_image,
    is_image_file,
    may_be_dicom,
)
from onceseen.shards.folder_read import text_name
from onceseen.shards.parquet_read import ParquetDamage, image_column, open_parquet
from onceseen.shards.sources import FoundFile, Source, find_sources

_log = logging.getLogger(__name__)

_COMPRESSED_TARS = (
    *(".tgz", ".tbz", ".txz", ".tzst"),
    *(".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".tar.z"),
)
_ROOT_NAME = "_root"
_FOOTER_THREADS = 16


def list_shards(sources: Sequence[str], config: ReadConfig) -> list[Shard]:
    """Lists the shards of all sources, numbered in UTF-8 byte order of their names.

    A shard's name is its path in SRC without `.tar` or `.parquet`; with several SRC, the name of the SRC
    stands before it (files given one by one keep their own name). A folder's shard is a directory, named by
    its path in SRC (the top one `_root`), and split by a hash of the file name above `read.folder_split`
    images.

    Args:
        sources: Files, directories or globs.
        config: Columns of parquet files, and where folders are split.

    Returns:
        At least one shard.

    Raises:
        ValueError: If a SRC matches nothing, cannot be read, holds two kinds of pictures, compressed tars or
            none at all, or if two samples could get the same id.
    """
    if not sources:
        raise ValueError("no SRC was given; expected at least one file, directory or glob")
    found = find_sources(list(sources))
    _refuse_overlap(found)
    prefixed = [s for s in found if not s.explicit]
    prefixes = _prefixes(prefixed, several=len(found) > 1)
    shards: list[Shard] = []
    for source in found:
        prefix = "" if source.explicit else prefixes[source.name]
        shards += _source_shards(source, prefix, config)
    shards.sort(key=lambda s: name_order(s.name))
    _refuse_ambiguous(shards)
    return [dataclasses.replace(shard, number=number) for number, shard in enumerate(shards)]


def _prefixes(sources: Sequence[Source], *, several: bool) -> dict[str, str]:
    """`<name>/` for each SRC where there are several, else nothing."""
    by_name: dict[str, Source] = {}
    for source in sources:
        other = by_name.setdefault(source.name, source)
        if other is not source:
            raise ValueError(
                f"SRC {other.text!r} and {source.text!r} have the same name {source.name!r}, which would "
                "stand before the ids of both; expected different names: rename one, or give the directory "
                "that holds both"
            )
    return {name: f"{text_name(name)}/" if several else "" for name in by_name}


def _refuse_overlap(sources: Sequence[Source]) -> None:
    owners: dict[str, Source] = {}
    for source in sources:
        for file in source.files:
            path = absolute(file.path)
            other = owners.setdefault(path, source)
            if other is not source:
                raise ValueError(
                    f"{file.path} is in SRC {other.text!r} and in SRC {source.text!r}; expected each file "
                    "once: leave one of the two out"
                )
        paths = [f.path for f in source.files]
        if len(set(paths)) != len(paths):
            raise ValueError(f"SRC {source.text!r} names a file twice; expected each file once")


def _refuse_ambiguous(shards: Sequence[Shard]) -> None:
    """Two shards of one name, or of names `a` and `a/b`: id `a/b/c` could be key `c` or key `b/c`."""
    by_name: dict[str, Shard] = {}
    for shard in shards:
        other = by_name.setdefault(shard.name, shard)
        if other is not shard:
            raise ValueError(
                f"{other.path} and {shard.path} would both be shard {shard.name!r}; expected different "
                "names: give the directory that holds both, or rename one"
            )
    for shard in shards:
        parts = shard.name.split("/")
        for end in range(1, len(parts)):
            above = by_name.get("/".join(parts[:end]))
            if above is not None and above.kind is not ShardKind.FOLDER:
                raise ValueError(
                    f"{above.path} and {shard.path}: ids of shard {shard.name!r} could also be ids of shard "
                    f"{above.name!r} (a key may hold '/'); expected unambiguous ids: rename one"
                )


def _source_shards(source: Source, prefix: str, config: ReadConfig) -> list[Shard]:
    """The shards of one SRC, not numbered yet."""
    _refuse_run_directory(source)
    tars = [f for f in source.files if _lower(f).endswith(".tar")]
    images = [f for f in source.files if is_image(_suffix(f))]
    stems = {_stem(f) for f in tars}
    tables = [f for f in source.files if _lower(f).endswith(".parquet")]
    sidecars = [f for f in tables if _stem(f) in stems]
    with_images, without = _split_tables([f for f in tables if _stem(f) not in stems], config)
    with_images += _not_a_sidecar(sidecars[:1], config)
    _refuse_compressed(source)
    if source.explicit or not (tars or with_images):
        source = _without_unmarked(source)
        images = [f for f in source.files if is_image_file(f.relative)]
    kinds = {"tars": tars, "parquet files with images": with_images, "image files": images}
    present = [(kind, files) for kind, files in kinds.items() if files]
    if not present:
        raise _no_pictures(source, without, config)
    if len(present) > 1:
        (a, first), (b, second) = present[:2]
        raise ValueError(
            f"SRC {source.text!r} holds {a} ({first[0].relative}) and {b} ({second[0].relative}); expected "
            f"one kind: give a glob for one of them, such as {_glob_for(source, first[0])!r}"
        )
    _refuse_unknown(source, sidecars)
    if without:
        _log.warning("%d parquet files without images are left out: %s ...", len(without), without[0].path)
    if tars:
        return [_file_shard(f, prefix, ShardKind.TAR) for f in tars]
    if with_images:
        return [_file_shard(f, prefix, ShardKind.PARQUET) for f in with_images]
    return _folder_shards(source, prefix, config)


def _without_unmarked(source: Source) -> Source:
    """The SRC without the files that have no extension and no mark of DICOM either; 132 bytes of each are read.

    Raises:
        ValueError: If such a file was named one by one.
    """
    asked = [f for f in source.files if may_be_dicom(f.relative)]
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        unmarked = [f for f, marked in zip(asked, pool.map(_is_dicom, asked), strict=True) if not marked]
    if unmarked and source.explicit:
        raise _no_shard(unmarked[0])
    left_out = set(unmarked)
    return dataclasses.replace(source, files=tuple(f for f in source.files if f not in left_out))


def _is_dicom(file: FoundFile) -> bool:
    try:
        with open_read(file.path) as stream:
            return is_dicom(stream.read(DICOM_HEAD))
    except OSError:
        return False


def _lower(file: FoundFile) -> str:
    return file.relative.lower()


def _suffix(file: FoundFile) -> str:
    return os.path.splitext(file.relative)[1][1:].lower()


def _stem(file: FoundFile) -> str:
    return os.path.splitext(file.relative)[0]


def _glob_for(source: Source, file: FoundFile) -> str:
    return f"{source.root}/**/*{os.path.splitext(file.relative)[1]}"


def _refuse_run_directory(source: Source) -> None:
    """A SRC that is, or holds, what `onceseen dedup` has written."""
    names = [] if source.explicit else [f.relative for f in source.files]
    roots = {n.removesuffix("run.json") for n in names if f"/{n}".endswith("/run.json")}
    roots &= {n.rpartition("features/")[0] for n in names if n.endswith(".parquet")}
    if roots:
        root = min(roots, key=name_order)
        raise ValueError(
            f"SRC {source.text!r} {'holds' if root else 'is'} a run directory; expected a dataset: "
            + (f"move {source.root}/{root.rstrip('/')} elsewhere" if root else f"give {source.root}/shards")
        )


def _refuse_compressed(source: Source) -> None:
    for file in source.files:
        if _lower(file).endswith(_COMPRESSED_TARS):
            raise ValueError(
                f"{file.path} is a compressed tar; expected plain .tar files, whose members can be read by "
                "range: unpack it first (images do not shrink)"
            )


def _refuse_unknown(source: Source, sidecars: Iterable[FoundFile]) -> None:
    """A file that was named one by one and is no shard."""
    known = {f.path for f in sidecars}
    for file in source.files if source.explicit else ():
        if (
            file.path not in known
            and _suffix(file) not in ("tar", "parquet")
            and not is_image_file(file.relative)
        ):
            raise _no_shard(file)


def _no_shard(file: FoundFile) -> ValueError:
    return ValueError(
        f"{file.path} is no shard; expected .tar, .parquet or image files: give their directory"
    )


def _no_pictures(source: Source, without: Sequence[FoundFile], config: ReadConfig) -> ValueError:
    if without:
        wanted = f"{config.image_column!r} (read.image_column)" if config.image_column else "with image bytes"
        return ValueError(
            f"{without[0].path} has no column {wanted}: set read.image_column to a column of bytes; if it "
            "is the sidecar of a tar, give the tars or their directory"
        )
    return ValueError(
        f"SRC {source.text!r} holds no .tar, no .parquet and no image file among its {len(source.files)} "
        "files"
    )


def _split_tables(files: Sequence[FoundFile], config: ReadConfig) -> tuple[list[FoundFile], list[FoundFile]]:
    """Parquet files with images (or a damaged footer, which the run will list), and those without.

    Raises:
        ValueError: If a file with images lacks `read.key_column`.
    """
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        schemas = list(pool.map(_schema, files))
    yes: list[FoundFile] = []
    no: list[FoundFile] = []
    for file, schema in zip(files, schemas, strict=True):
        if schema is None or image_column(schema, config):
            if schema is not None and config.key_column and config.key_column not in schema.names:
                raise ValueError(
                    f"{file.path} has no column {config.key_column!r} (read.key_column); its columns are "
                    f"{schema.names[:32]}"
                )
            yes.append(file)
        else:
            no.append(file)
    return yes, no


def _not_a_sidecar(files: Sequence[FoundFile], config: ReadConfig) -> list[FoundFile]:
    """Those with a tar's stem that hold images themselves. One is looked at: a dataset is uniform."""
    schemas = [(f, _schema(f)) for f in files]
    return [f for f, schema in schemas if schema is not None and image_column(schema, config)]


def _schema(file: FoundFile) -> pa.Schema | None:
    try:
        with open_parquet(file.path) as table:
            return table.schema_arrow
    except (ParquetDamage, OSError):
        return None


def _file_shard(file: FoundFile, prefix: str, kind: ShardKind) -> Shard:
    return Shard(0, prefix + text_name(_stem(file)), kind, file.path, file.size, file.mark)


def _folder_shards(source: Source, prefix: str, config: ReadConfig) -> list[Shard]:
    """One shard a directory that holds images, or several by a fixed hash of the file's stem."""
    directories: dict[str, list[FoundFile]] = {}
    for file in source.files:
        if is_image_file(file.relative) or _suffix(file) in (*TEXT_EXTENSIONS, JSON_EXTENSION):
            directories.setdefault(file.relative.rpartition("/")[0], []).append(file)
    root_name = _ROOT_NAME
    while root_name in directories:
        root_name += "_"
    shards = []
    for directory, files in directories.items():
        images = sum(is_image_file(f.relative) for f in files)
        if not images:
            continue
        name = prefix + text_name(directory or root_name)
        parts = -(-images // config.folder_split)
        dicom = {_dicom_stem(f) for f in files} - {""}
        split: list[list[FoundFile]] = [[] for _ in range(parts)]
        for file in files:
            split[_part(file, parts, dicom)].append(file)
        for number, part in enumerate(split):
            if any(is_image_file(f.relative) for f in part):
                own = name if parts == 1 else f"{name}.{number:05d}-of-{parts:05d}"
                shards.append(_folder_shard(own, source.root, prefix, part))
    return shards


def _dicom_stem(file: FoundFile) -> str:
    """The name of a DICOM file without its `.dcm`, empty for another file."""
    name = os.path.basename(file.relative)
    if name.lower().endswith(DICOM_SUFFIXES):
        return os.path.splitext(name)[0]
    return name if may_be_dicom(name) else ""


def _part(file: FoundFile, parts: int, dicom: Set[str]) -> int:
    """Part of a file: by what stands before the first dot; a picture and its captions stay together.

    DICOM files are named by numbers with dots that begin alike, so theirs is the whole stem.
    """
    name = os.path.basename(file.relative)
    before = os.path.splitext(name)[0]
    if before.lower().endswith(DICOM_SUFFIXES):  # the caption `a.dcm.txt` of `a.dcm`
        before = os.path.splitext(before)[0]
    stem = _dicom_stem(file) or (before if before in dicom else name.partition(".")[0])
    return int.from_bytes(hashlib.sha256(os.fsencode(stem)).digest()[:8], "big") % parts


def _folder_shard(name: str, root: str, prefix: str, files: Sequence[FoundFile]) -> Shard:
    listing = "\n".join(f"{text_name(f.relative)}\t{f.size}\t{f.mark}" for f in files)
    return Shard(
        number=0,
        name=name,
        kind=ShardKind.FOLDER,
        path=root,
        size=sum(f.size for f in files),
        mark=hashlib.sha256(listing.encode()).hexdigest()[:32],
        files=tuple(f.relative for f in files),
        id_prefix=prefix,
    )
