"""What a member is for, told from its extension: image, caption, json, or what an earlier run added."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

IMAGE_EXTENSIONS = frozenset(
    {
        *(
            "jpg",
            "jpeg",
            "jpe",
            "jfif",
            "png",
            "webp",
            "gif",
            "bmp",
            "dib",
            "tif",
            "tiff",
            "avif",
            "heic",
            "heif",
        ),
        *("jp2", "j2k", "jpx", "jxl", "pbm", "pgm", "ppm", "pnm", "tga"),
        *("dcm", "dicom"),
    }
)
DICOM_SUFFIXES = (".dcm", ".dicom")
TEXT_EXTENSIONS = ("txt", "caption", "text")
JSON_EXTENSION = "json"
OWN_EXTENSION = "onceseen.json"

_encode = json.JSONEncoder(sort_keys=True, default=str).encode


def last_part(extension: str) -> str:
    """The part of a composite extension that tells the format.

    >>> last_part("image.jpg")
    'jpg'
    """
    return extension.rpartition(".")[2]


def is_image(extension: str) -> bool:
    """Whether a member with this (lower-case) extension is an image."""
    return last_part(extension) in IMAGE_EXTENSIONS


def is_image_file(name: str) -> bool:
    """Whether a file of a folder's shard is an image: by its extension, or as a DICOM file by its lack of one.

    Listing looked into those, so none without DICOM's mark is in a shard.
    """
    return is_image(os.path.splitext(name)[1][1:].lower()) or may_be_dicom(name)


def may_be_dicom(name: str) -> bool:
    """Whether a file has such a name as scanners and archives give DICOM files: `IM000042`, `1.2.840.113619.2.55.3`.

    A `DICOMDIR` is the table of contents of such a folder and holds no picture.
    """
    base = os.path.basename(name)
    extension = os.path.splitext(base)[1][1:]
    return (not extension or extension.isdigit() or extension.lower() == "ima") and base.upper() != "DICOMDIR"


def decode_caption(data: bytes) -> str:
    """A caption member as text, without white space around it; bytes that are not UTF-8 become U+FFFD."""
    return data.decode("utf-8", "replace").strip()


def parse_json(data: bytes) -> Mapping[str, Any]:
    """A sample's json member; empty where it is no JSON object (that does not make the picture unfit)."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def caption_of(fields: Mapping[str, Any]) -> str:
    """The `caption` field of a sample's json, empty if there is none."""
    return clean_text(fields.get("caption"))


def clean_text(value: object) -> str:
    """A value as a caption, in characters that UTF-8 can hold (JSON has lone surrogates); empty if none."""
    return value.encode("utf-8", "replace").decode("utf-8").strip() if isinstance(value, str) else ""


def meta_of(fields: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The fields named in `read.meta_columns` as ASCII JSON with sorted keys; empty if there are none."""
    found = {name: fields[name] for name in columns if name in fields}
    return _encode(found) if found else ""
