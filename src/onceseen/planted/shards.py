"""Writes samples as img2dataset writes them: tar with a sidecar, parquet, or a folder.

A shard is `00000.tar` (members `000000000.jpg`, `.json`, `.txt` of one key together, names in alphabetical
order, as webdataset's TarWriter sorts them), `00000.parquet` (one row for each URL, failed downloads too,
which have no members) and `00000_stats.json`. Layout and columns: img2dataset 1.47 with captions, EXIF and
sha256. The bytes are a function of the samples: times are zero, and what img2dataset measures (durations)
is zero as well.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SHARD_DIGITS = 5
KEY_DIGITS = 4

SIDECAR_SCHEMA = pa.schema(
    [
        ("caption", pa.string()),
        ("url", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class PlantedSample:
    """One URL of the set: a picture with its caption, or a download that failed.

    Attributes:
        caption: The text that goes with the picture.
        url: Where it would have been downloaded from.
        image: The picture's bytes, possibly damaged; None for a failed download.
        extension: `jpg`, `png`, `webp`; without a dot.
        width: In pixels; 0 for a failed download.
        height: In pixels; 0 for a failed download.
        error_message: Why the download failed, None where it did not.
    """

    caption: str
    url: str
    image: bytes | None
    extension: str = "jpg"
    width: int = 0
    height: int = 0
    error_message: str | None = None

    def __post_init__(self) -> None:
        """Checks that there is either an image or an error."""
        if (self.image is None) != (self.error_message is not None):
            raise ValueError(
                f"{self.url}: expected either an image or an error_message, got "
                f"{'neither' if self.image is None else 'both'}"
            )


def sample_key(shard_id: int, index: int) -> str:
    """img2dataset's key: 5 digits of the shard and 4 of the row in it.

    >>> sample_key(3, 42)
    '000030042'
    """
    if not (0 <= shard_id < 10**SHARD_DIGITS and 0 <= index < 10**KEY_DIGITS):
        raise ValueError(
            f"expected a shard below 100000 and a row below 10000, got shard {shard_id}, row {index}"
        )
    return f"{shard_id:0{SHARD_DIGITS}d}{index:0{KEY_DIGITS}d}"


def shard_name(shard_id: int) -> str:
    """`00003` for shard 3."""
    return f"{shard_id:0{SHARD_DIGITS}d}"


def sample_metadata(sample: PlantedSample, key: str) -> dict[str, str | int | None]:
    """A row of the sidecar, and the content of the json member: img2dataset's fields in its order."""
    failed = sample.image is None
    return {
        "caption": sample.caption,
        "url": sample.url,
        "key": key,
        "status": "failed_to_download" if failed else "success",
        "error_message": sample.error_message,
        "width": None if failed else sample.width,
        "height": None if failed else sample.height,
        "original_width": None if failed else sample.width,
        "original_height": None if failed else sample.height,
        "exif": None if failed else "{}",
        "sha256": None if sample.image is None else hashlib.sha256(sample.image).hexdigest(),
    }


def write_tar_shard(directory: Path, shard_id: int, samples: Sequence[PlantedSample]) -> Path:
    """Write one shard with its sidecar and statistics; returns the path of the tar.

    Args:
        directory: Made if need be.
        shard_id: Number of the shard.
        samples: At most 10,000, failed downloads included; row i gets key i.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = [sample_metadata(sample, sample_key(shard_id, i)) for i, sample in enumerate(samples)]
    path = directory / f"{shard_name(shard_id)}.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, row in zip(samples, rows, strict=True):
            if sample.image is None:
                continue
            members = {
                sample.extension: sample.image,
                "json": json.dumps(row, indent=4).encode(),
                "txt": sample.caption.encode(),
            }
            for extension in sorted(members):
                _add_member(tar, f"{row['key']}.{extension}", members[extension])
    pq.write_table(pa.Table.from_pylist(rows, SIDECAR_SCHEMA), directory / f"{shard_name(shard_id)}.parquet")
    _write_stats(directory, shard_id, samples)
    return path


def write_parquet_shard(directory: Path, shard_id: int, samples: Sequence[PlantedSample]) -> Path:
    """Write one shard as parquet with image bytes in a binary column `jpg` (null for a failed download).

    img2dataset names the column after its encode_format, whatever the format of the bytes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rows = [
        {**sample_metadata(sample, sample_key(shard_id, i)), "jpg": sample.image}
        for i, sample in enumerate(samples)
    ]
    path = directory / f"{shard_name(shard_id)}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, SIDECAR_SCHEMA.append(pa.field("jpg", pa.binary()))), path)
    _write_stats(directory, shard_id, samples)
    return path


def write_folder(directory: Path, shard_id: int, samples: Sequence[PlantedSample]) -> Path:
    """Write one shard as a folder of pictures, `00000/000000000.jpg` with `.json` and `.txt` beside it."""
    folder = directory / shard_name(shard_id)
    folder.mkdir(parents=True, exist_ok=True)
    for i, sample in enumerate(samples):
        if sample.image is None:
            continue
        key = sample_key(shard_id, i)
        (folder / f"{key}.{sample.extension}").write_bytes(sample.image)
        (folder / f"{key}.json").write_text(
            json.dumps(sample_metadata(sample, key), indent=4), encoding="utf-8"
        )
        (folder / f"{key}.txt").write_text(sample.caption, encoding="utf-8")
    return folder


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member with the owner and the mode that webdataset's TarWriter gives, at time zero."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mtime = 0
    info.mode = 0o444
    info.uname = info.gname = "bigdata"
    tar.addfile(info, io.BytesIO(content))


def _write_stats(directory: Path, shard_id: int, samples: Sequence[PlantedSample]) -> None:
    """Write img2dataset's statistics of a shard."""
    errors = collections.Counter(sample.error_message or "success" for sample in samples)
    successes = errors["success"]
    stats = {
        "count": len(samples),
        "successes": successes,
        "failed_to_download": len(samples) - successes,
        "failed_to_resize": 0,
        "duration": 0.0,
        "start_time": 0.0,
        "end_time": 0.0,
        "status_dict": dict(sorted((name, count) for name, count in errors.items() if count)),
    }
    path = directory / f"{shard_name(shard_id)}_stats.json"
    path.write_text(json.dumps(stats, indent=4), encoding="utf-8")
