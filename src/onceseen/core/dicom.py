"""How a DICOM file is known, and whether this machine can read one: for listing and for decoding."""

from __future__ import annotations

import importlib.util
from typing import Final

DICOM_HEAD: Final = 132
"""Bytes of a file that show whether it is DICOM."""
DICOM_REMEDY: Final = "install pydicom: pip install 'onceseen[dicom]'"


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these bytes is DICOM; one without the preamble is not known as such."""
    return head[128:DICOM_HEAD] == b"DICM"


def dicom_installed() -> bool:
    """Whether DICOM files can be read here; loads nothing."""
    return importlib.util.find_spec("pydicom") is not None
