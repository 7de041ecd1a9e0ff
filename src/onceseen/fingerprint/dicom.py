"""DICOM files to pixels, through pydicom (the extra `dicom`), as the same picture in a PNG or TIFF would be.

One frame is judged: the only one, or the middle one of several (frame n // 2, from 0: the first slices of a volume are
often empty). Grey of 8 bits stays as it is stored; deeper grey goes through `grey_window`; MONOCHROME1 and a falling
rescale are turned round, so that bright is bright. Colour (RGB, YBR, palette) becomes RGB, deeper samples by full
range. Overlays, shutters, presentation states and colour profiles are not applied.

A file is whatever a stranger sent: sizes are checked before pixels are made, elements and inflated bytes are bounded,
and a frame within may not be of another size than the file says.
"""

from __future__ import annotations

import io
import logging
import struct
import sys
import threading
import warnings
import zlib
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from onceseen.core.dicom import DICOM_REMEDY
from onceseen.core.failures import FailureReason, SampleError
from onceseen.fingerprint.grey_window import FILE, PIXELS, GreyWindow, find_window, parse_window, to_grey

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM: Final = "dicom"
"""Name of the format."""

_MAX_READS = 4_000_000  # of element headers: some seconds; an honest file has hundreds, a long volume 100,000
_MAX_INFLATED = 1 << 28
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_PIXEL_TAG = b"\xe0\x7f\x10\0"
_PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SEQUENCES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ModalityLUTSequence")
_MAX_SEQUENCE = 1 << 24  # bytes; they are parsed when they are looked at, some seconds for so many
_TAGS: Final = (
    *(
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "NumberOfFrames",
    ),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction"),
    *_SEQUENCES,
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(
        f"{c}PaletteColorLookupTable{what}"
        for c in ("Red", "Green", "Blue")
        for what in ("Descriptor", "Data")
    ),
    *(f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
)
_QUIET = threading.Lock()


class _Bounded(io.BytesIO):
    """A file of so many reads at most: elements without end, or within each other, are no work without end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise SampleError(FailureReason.DECODE_ERROR, f"dicom: more than {_MAX_READS:,} elements")
        return super().read(size)


def dicom_size(data: bytes) -> tuple[int, int]:
    """Columns and rows that a DICOM file promises; no pixel is read.

    Raises:
        SampleError: `MISSING_DECODER` (pydicom is not installed), `TRUNCATED_IMAGE`, `NO_IMAGE` (a report, a plan, a
            directory: no pixels in it) or `DECODE_ERROR`.
    """
    found = _read(data, pixels=False)
    if "Rows" not in found or "Columns" not in found:
        raise SampleError(FailureReason.NO_IMAGE, "dicom without Rows and Columns: it holds no picture")
    return _number(found, "Columns"), _number(found, "Rows")


def decode_dicom(data: bytes, window: str) -> NDArray[np.uint8]:
    """The judged frame, (h, w, 3) uint8 RGB.

    Args:
        data: The file, of a size that was found fit.
        window: `read.window`, for grey of more than 8 bits. With `file` and CENTRE/WIDTH it is in the units after
            rescale (Hounsfield in CT), and 8-bit grey goes through it too where the file names a window.

    Raises:
        SampleError: `MISSING_DECODER` (a compressed transfer syntax without its plugin), `TRUNCATED_IMAGE`, `NO_IMAGE`
            or `DECODE_ERROR`.
    """
    found = _read(data, pixels=True)
    frames = _frames(found)
    index = frames // 2 if frames > 1 else 0
    if not any(name in found for name in _PIXEL_DATA):
        if _PIXEL_TAG in data:  # pydicom leaves out an element that has no end
            raise SampleError(FailureReason.TRUNCATED_IMAGE, "dicom: the file ends within its pixel data")
        raise SampleError(FailureReason.NO_IMAGE, "dicom without pixel data")
    _check_frame(found, index, frames)
    frame = _frame(found, index)
    photometric = str(found.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        frame = _with_palette(frame, found)
    if frame.ndim == 3:
        return _colour(frame, 8 * frame.dtype.itemsize if photometric == "PALETTE COLOR" else _bits(found))
    if frame.ndim != 2:
        raise _bad(f"a frame of shape {frame.shape}")
    grey = _grey(frame, found, index, window)
    if photometric == "MONOCHROME1":
        np.subtract(255, grey, out=grey)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _bad(detail: str) -> SampleError:
    return SampleError(FailureReason.DECODE_ERROR, f"dicom: {detail}")


def _load() -> ModuleType:
    """pydicom, whose warnings of odd files are kept off stderr.

    Raises:
        SampleError: `MISSING_DECODER`.
    """
    loaded = sys.modules.get("pydicom")
    with _QUIET:
        try:
            import pydicom
        except ImportError as error:
            raise SampleError(
                FailureReason.MISSING_DECODER, f"a DICOM file, which is read through pydicom: {DICOM_REMEDY}"
            ) from error
        if loaded is None:
            logging.getLogger("pydicom").setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    return pydicom


def _read(data: bytes, *, pixels: bool) -> Dataset:
    pydicom = _load()
    try:
        _check_deflated(data)
        found: Dataset = pydicom.dcmread(
            _Bounded(data),
            stop_before_pixels=not pixels,
            specific_tags=[*_TAGS, *(_PIXEL_DATA if pixels else ())],
        )
        found.file_meta.TransferSyntaxUID.is_compressed  # noqa: B018 - raises where there is none, or no such one
        for name in _SEQUENCES:
            size = getattr(found.get_item(name), "length", 0) if name in found else 0
            if _MAX_SEQUENCE < size < 0xFFFFFFFF:
                raise _bad(f"{name} has {size:,} bytes; at most {_MAX_SEQUENCE:,} are read")
    except SampleError:
        raise
    except (EOFError, struct.error) as error:
        raise SampleError(FailureReason.TRUNCATED_IMAGE, f"dicom: {error}") from error
    except Exception as error:
        # pydicom raises nearly anything on a damaged file: ValueError, KeyError, RecursionError ...
        raise _bad(f"{type(error).__name__}: {error}") from error
    return found


def _check_deflated(data: bytes) -> None:
    """A deflated data set is inflated whole by pydicom, so its size is found out first, in pieces."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    stream = _Bounded(data)
    read_preamble(stream, False)
    if str(_read_file_meta_info(stream).get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    rest, total = data[stream.tell() :], 0
    while rest and not inflate.eof:
        total += len(inflate.decompress(rest, 1 << 22))
        rest = inflate.unconsumed_tail
        if total > _MAX_INFLATED:
            raise SampleError(
                FailureReason.DECOMPRESSION_BOMB,
                f"dicom: deflated to {len(data):,} bytes, holds more than {_MAX_INFLATED:,}",
            )


def _number(found: Dataset, name: str) -> int:
    try:
        return int(found[name].value)
    except Exception as error:  # any type may stand there, or one that pydicom cannot convert
        raise _bad(f"{name} cannot be read: {error}") from error


def _bits(found: Dataset) -> int:
    return _number(found, "BitsStored" if "BitsStored" in found else "BitsAllocated")


def _frames(found: Dataset) -> int:
    return _number(found, "NumberOfFrames") if "NumberOfFrames" in found else 1


def _check_frame(found: Dataset, index: int, frames: int) -> None:
    """A compressed frame must be of the size that the file says, or it could be one that fills the memory."""
    syntax = found.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == _DEFLATED:
        return
    from pydicom.encaps import get_frame

    try:
        frame = get_frame(found.PixelData, index, number_of_frames=max(1, frames))
    except Exception as error:
        raise SampleError(FailureReason.TRUNCATED_IMAGE, f"dicom: frame {index}: {error}") from error
    rows, columns = _number(found, "Rows"), _number(found, "Columns")
    if syntax == _RLE:
        _check_rle(frame, rows * columns)
        return
    size = _codestream_size(frame)
    if size is not None and size != (columns, rows):
        raise _bad(f"frame {index} is {size[0]} x {size[1]}; the file says {columns} x {rows}")


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG, JPEG-LS or JPEG 2000 stream; None for another, which a plugin judges."""
    if frame.startswith(b"\xff\x4f\xff\x51") and len(frame) >= 24:
        right, down, left, up = struct.unpack_from(">IIII", frame, 8)
        return right - left, down - up
    position = 2
    while frame.startswith(b"\xff\xd8") and position + 9 < len(frame):
        marker, length = frame[position + 1], struct.unpack_from(">H", frame, position + 2)[0]
        if frame[position] != 0xFF or length < 2:
            break
        if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            height, width = struct.unpack_from(">HH", frame, position + 5)
            return width, height
        position += 2 + length
    return None


def _check_rle(frame: bytes, pixels: int) -> None:
    """Run lengths are added up before they are unpacked: 2 bytes can stand for 128."""
    if len(frame) < 64:
        raise SampleError(FailureReason.TRUNCATED_IMAGE, "dicom: RLE frame without its header")
    count, *starts = struct.unpack_from("<16L", frame)
    starts = [*starts[: min(count, 15)], len(frame)]
    for start, end in pairwise(starts):
        position, total = start, 0
        while position < min(end, len(frame)) - 1:
            head = frame[position]
            total += head + 1 if head < 128 else 257 - head if head > 128 else 0
            position += head + 2 if head < 128 else 2 if head > 128 else 1
            if total > pixels + 256:
                raise SampleError(
                    FailureReason.DECOMPRESSION_BOMB,
                    f"dicom: an RLE segment holds more than {pixels} samples",
                )


def _frame(found: Dataset, index: int) -> NDArray[Any]:
    """One decoded frame; YBR has become RGB."""
    from pydicom.pixels.utils import pixel_array

    syntax = found.file_meta.TransferSyntaxUID
    try:
        return np.asarray(pixel_array(found, index=index))
    except Exception as error:
        text = " ".join(str(error).split())
        if "less than expected" in text:
            raise SampleError(FailureReason.TRUNCATED_IMAGE, f"dicom: {text}") from error
        twelve = syntax == _JPEG_EXTENDED and _bits(found) > 8  # Pillow decodes 8 bits alone
        if text.startswith("Unable to decompress") or isinstance(error, NotImplementedError) or twelve:
            raise SampleError(
                FailureReason.MISSING_DECODER,
                f"dicom: no decoder for transfer syntax {syntax.name!r} is installed; with pylibjpeg and "
                "pylibjpeg-libjpeg (JPEG, JPEG-LS) or pylibjpeg-openjpeg (JPEG 2000) beside pydicom it may be read, "
                "or store the files uncompressed",
            ) from error
        raise _bad(f"{syntax.name}: {type(error).__name__}: {text}") from error


def _with_palette(frame: NDArray[Any], found: Dataset) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_color_lut

    try:
        return np.asarray(apply_color_lut(frame, found))
    except Exception as error:
        raise _bad(f"palette: {type(error).__name__}: {error}") from error


def _colour(frame: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if frame.shape[2] != 3:
        raise _bad(f"{frame.shape[2]} samples a pixel; expected 1 or 3")
    if bits <= 8:
        return np.ascontiguousarray(frame, np.uint8)
    full = GreyWindow(0, (1 << bits) - 1)
    return np.stack([to_grey(frame[:, :, channel], full) for channel in range(3)], axis=2)


def _grey(frame: NDArray[Any], found: Dataset, index: int, window: str) -> NDArray[np.uint8]:
    """A grey frame as (h, w) uint8, before MONOCHROME1 is turned round."""
    if frame.dtype.kind == "f" and not np.isfinite(frame).all():
        raise _bad("samples that are no numbers")
    slope, intercept = _rescale(found, index)
    given = _given_window(found, index, window)
    if "ModalityLUTSequence" in found:
        frame, slope, intercept = _modality_lut(frame, found), 1.0, 0.0
    if given is not None and slope != 0:
        edges = ((given.black - intercept) / slope, (given.white - intercept) / slope)
        chosen = GreyWindow(min(edges), max(edges))  # in stored samples, which then need no rescaled copy
    elif frame.dtype == np.uint8 and _bits(found) == 8:
        chosen = GreyWindow(0, 255)
    else:
        chosen = find_window(frame)
    grey = to_grey(frame, chosen)
    return np.subtract(255, grey, out=grey) if slope < 0 else grey


def _given_window(found: Dataset, index: int, window: str) -> GreyWindow | None:
    """The window by a person's word or the file's, in rescaled units; None where the pixels choose."""
    if window == PIXELS:
        return None
    if window != FILE:
        return parse_window(window)
    centre = _frame_value(found, index, "FrameVOILUTSequence", "WindowCenter")
    width = _frame_value(found, index, "FrameVOILUTSequence", "WindowWidth")
    if centre is None or width is None or not width > 0:
        return None
    if str(found.get("VOILUTFunction", "LINEAR") or "LINEAR") == "LINEAR" and width > 1:
        centre, width = centre - 0.5, width - 1  # DICOM part 3, C.11.2.1.2.1
    return GreyWindow(centre - width / 2, centre + width / 2)


def _rescale(found: Dataset, index: int) -> tuple[float, float]:
    name = "PixelValueTransformationSequence"
    slope = _frame_value(found, index, name, "RescaleSlope")
    intercept = _frame_value(found, index, name, "RescaleIntercept")
    return (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)


def _frame_value(found: Dataset, index: int, sequence: str, name: str) -> float | None:
    """The first value of an element: of the frame's own group, of the shared group, or of the file; None if absent."""
    try:
        per_frame = list(found.get("PerFrameFunctionalGroupsSequence") or ())[index : index + 1]
        for group in (*per_frame, *list(found.get("SharedFunctionalGroupsSequence") or ())[:1]):
            for item in list(group.get(sequence) or ())[:1]:
                if name in item:
                    found = item
        value = found.get(name)
        first = value[0] if value is not None and hasattr(value, "__getitem__") and value else value
        number = None if first is None else float(first)
    except Exception as error:
        raise _bad(f"{name} cannot be read: {type(error).__name__}: {error}") from error
    if number is not None and not np.isfinite(number):
        raise _bad(f"{name} is {number}")
    return number


def _modality_lut(frame: NDArray[Any], found: Dataset) -> NDArray[Any]:
    from pydicom.pixels.processing import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(frame, found))
    except Exception as error:
        raise _bad(f"modality LUT: {type(error).__name__}: {error}") from error
