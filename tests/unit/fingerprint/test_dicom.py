"""DICOM: pydicom's own files read rightly, and hostile ones named for what they are."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onceseen.core.failures import FailureReason, SampleError
from onceseen.fingerprint import decode_image, hamming_distance, pdq_hash

# pydicom warns of what these files do wrong, which is the point of them
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra `dicom`)")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
MAX_PIXELS = 1_000_000
EXPLICIT, DEFLATED, RLE, JPEG = (f"1.2.840.10008.1.2.{end}" for end in ("1", "1.99", "5", "4.50"))


def file(name: str) -> bytes:
    return (FILES / name).read_bytes()


def rgb(data: bytes, window: str = "pixels") -> NDArray[np.uint8]:
    picture = decode_image(data, MAX_PIXELS, window)
    assert picture.format == "dicom"
    return picture.rgb


def error(data: bytes, max_pixels: int = MAX_PIXELS) -> SampleError:
    with pytest.raises(SampleError) as raised:
        decode_image(data, max_pixels)
    return raised.value


def save(dataset: Any) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def changed(name: str, **elements: Any) -> bytes:
    """A file of pydicom's with other elements."""
    dataset = pydicom.dcmread(FILES / name)
    for key, value in elements.items():
        setattr(dataset, key, value)
    return save(dataset)


def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    """An element in explicit little-endian form."""
    head = struct.pack("<HH2s", group, number, kind)
    if kind in (b"OB", b"OW", b"SQ", b"UN"):
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def header(syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = element(2, 0x10, b"UI", uid)
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta


def grey(rows: int, columns: int, pixels: bytes, bits: int = 16) -> bytes:
    def short(number: int, value: int) -> bytes:
        return element(0x28, number, b"US", struct.pack("<H", value))

    return (
        short(2, 1)
        + element(0x28, 4, b"CS", b"MONOCHROME2 ")
        + short(0x10, rows)
        + short(0x11, columns)
        + short(0x100, bits)
        + short(0x101, bits)
        + short(0x102, bits - 1)
        + short(0x103, 0)
        + pixels
    )


def encapsulated(frame: bytes) -> bytes:
    frame += b"\0" * (len(frame) % 2)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + items + end


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "693_J2KI.dcm"])
def test_a_slice_its_png_and_its_tiff_are_the_same_pixels(name: str) -> None:
    samples = pydicom.dcmread(FILES / name).pixel_array.astype(np.int32)
    deep = (samples - samples.min()).astype(np.uint16)
    expected = rgb(file(name))
    assert expected.std() > 30
    for extension in (".png", ".tiff"):
        data = bytes(cv2.imencode(extension, deep)[1])
        np.testing.assert_array_equal(decode_image(data, MAX_PIXELS).rgb, expected, err_msg=extension)


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_implicit.dcm"),
        *("MR_small_jp2klossless.dcm", "MR_small_padded.dcm"),
    ],
)
def test_one_slice_in_every_transfer_syntax(name: str) -> None:
    np.testing.assert_array_equal(rgb(file(name)), rgb(file("MR_small.dcm")))


def test_rescale_changes_nothing_and_a_falling_one_is_turned_round() -> None:
    expected = rgb(file("CT_small.dcm"))
    np.testing.assert_array_equal(
        rgb(changed("CT_small.dcm", RescaleSlope="2.5", RescaleIntercept="-7")), expected
    )
    np.testing.assert_array_equal(rgb(changed("CT_small.dcm", RescaleSlope="-1")), 255 - expected)


def test_monochrome1_is_turned_round() -> None:
    turned = rgb(changed("MR_small.dcm", PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(turned, 255 - rgb(file("MR_small.dcm")))


def test_the_window_of_the_file_and_a_given_one() -> None:
    dataset = pydicom.dcmread(FILES / "693_J2KI.dcm")
    units = dataset.pixel_array.astype(float) + float(dataset.RescaleIntercept)
    centre, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
    for window, low, high in (
        ("file", centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2),
        ("40/400", -160, 240),
    ):
        expected = np.floor((np.clip(units, low, high) - low) / (high - low) * 255 + 0.5)
        shown = rgb(file("693_J2KI.dcm"), window)[:, :, 0]
        assert np.abs(shown - expected).max() <= 1, window
    np.testing.assert_array_equal(rgb(file("CT_small.dcm"), "file"), rgb(file("CT_small.dcm")))  # names none


@pytest.mark.parametrize(
    "name", ["MR_small.dcm", "examples_overlay.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"]
)
def test_an_export_by_the_file_s_own_window(name: str) -> None:
    """Narrow windows of CT cut most of the range off: only by the same window do file and export meet."""
    dataset = pydicom.dcmread(FILES / name)
    units = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
    shown = pydicom.pixels.apply_windowing(units, dataset)
    low, high = float(shown.min()), float(shown.max())
    export = np.asarray((shown - low) * (255 / (high - low)), np.uint8)
    hashes = [pdq_hash(rgb(file(name), window)).bits for window in ("file", "pixels")]
    own, by_pixels = (
        hamming_distance(h, pdq_hash(np.repeat(export[:, :, None], 3, axis=2)).bits) for h in hashes
    )
    assert own <= 2
    assert by_pixels > 40 if dataset.Modality == "CT" else by_pixels <= 14


def test_eight_bits_and_colour_are_left_as_they_are() -> None:
    dataset = pydicom.dcmread(FILES / "image_dfl.dcm")
    np.testing.assert_array_equal(rgb(file("image_dfl.dcm"))[:, :, 1], dataset.pixel_array)
    dataset = pydicom.dcmread(FILES / "examples_rgb_color.dcm")
    np.testing.assert_array_equal(rgb(file("examples_rgb_color.dcm")), dataset.pixel_array)
    eight = rgb(file("SC_rgb_rle.dcm"))
    for deeper in ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"):
        np.testing.assert_array_equal(rgb(file(deeper)), eight)
    assert rgb(file("examples_palette.dcm")).max() > 200
    assert len(np.unique(rgb(file("liver_1frame.dcm")))) == 2


def test_the_middle_frame_is_judged() -> None:
    frames = pydicom.dcmread(FILES / "rtdose.dcm").pixel_array.astype(float)
    assert frames.shape[0] == 15
    middle = frames[7]
    expected = np.floor((middle - middle.min()) / np.ptp(middle) * 255 + 0.5)
    np.testing.assert_array_equal(rgb(file("rtdose.dcm"))[:, :, 0], expected)
    second = pydicom.pixels.pixel_array(FILES / "SC_rgb_rle_2frame.dcm", index=1)
    np.testing.assert_array_equal(rgb(file("SC_rgb_rle_2frame.dcm")), second)


@pytest.mark.parametrize(
    ("name", "reason", "text"),
    [
        ("MR_truncated.dcm", FailureReason.TRUNCATED_IMAGE, "less than expected"),
        ("MR_small_jpeg_ls_lossless.dcm", FailureReason.MISSING_DECODER, "JPEG-LS.*pylibjpeg"),
        ("JPGExtended.dcm", FailureReason.MISSING_DECODER, "JPEG Extended.*pylibjpeg"),
        ("rtplan.dcm", FailureReason.NO_IMAGE, "no picture"),
        ("test-SR.dcm", FailureReason.NO_IMAGE, "no picture"),
        ("badVR.dcm", FailureReason.DECODE_ERROR, "NumberOfFrames"),
        ("meta_missing_tsyntax.dcm", FailureReason.DECODE_ERROR, "TransferSyntaxUID"),
        ("no_meta.dcm", FailureReason.UNKNOWN_FORMAT, "preamble"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, reason: FailureReason, text: str) -> None:
    plugins = [m for m in ("gdcm", "jpeg_ls", "pylibjpeg") if importlib.util.find_spec(m)]
    if reason is FailureReason.MISSING_DECODER and plugins:
        pytest.skip(f"{plugins} are installed here, which decode it")
    found = error(file(name))
    assert found.reason is reason
    assert re.search(text, found.detail), found.detail


def test_sizes_are_refused_before_pixels_are_made() -> None:
    huge = header(EXPLICIT) + grey(65_535, 65_535, element(0x7FE0, 0x10, b"OW", bytes(64)))
    assert error(huge, 200_000_000).reason is FailureReason.DECOMPRESSION_BOMB
    assert error(huge, 10**12).reason is FailureReason.DECOMPRESSION_BOMB
    assert error(file("CT_small.dcm"), 128 * 128 - 1).reason is FailureReason.DECOMPRESSION_BOMB
    assert decode_image(file("CT_small.dcm"), 128 * 128).rgb.shape == (128, 128, 3)
    nothing = header(EXPLICIT) + grey(0, 5, element(0x7FE0, 0x10, b"OW", b""))
    assert error(nothing).reason is FailureReason.DECODE_ERROR


def test_a_frame_of_another_size_than_the_file_says() -> None:
    buffer = io.BytesIO()
    Image.new("L", (3_000, 2_000)).save(buffer, "JPEG")
    data = header(JPEG) + grey(20, 30, encapsulated(buffer.getvalue()), bits=8)
    assert "3000 x 2000; the file says 30 x 20" in error(data).detail
    right = io.BytesIO()
    Image.new("L", (30, 20), 77).save(right, "JPEG")
    data = header(JPEG) + grey(20, 30, encapsulated(right.getvalue()), bits=8)
    np.testing.assert_array_equal(rgb(data), np.full((20, 30, 3), 77))


def test_run_lengths_and_deflated_elements_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onceseen.fingerprint.dicom._MAX_INFLATED", 1 << 24)
    segment = b"\x81\0" * 200_000  # 128 zeros each
    frame = struct.pack("<16L", 1, 64, *[0] * 14) + segment
    data = header(RLE) + grey(20, 30, encapsulated(frame), bits=8)
    assert error(data).reason is FailureReason.DECOMPRESSION_BOMB
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(deflate.compress(bytes(1 << 22)) for _ in range(6)) + deflate.flush()
    assert len(body) < 1 << 19
    assert error(header(DEFLATED) + body).reason is FailureReason.DECOMPRESSION_BOMB


def test_no_pixel_data_and_cut_files() -> None:
    assert error(header(EXPLICIT) + grey(20, 30, b"")).reason is FailureReason.NO_IMAGE
    data = file("CT_small.dcm")
    for size in (133, 200, 1_000, 5_000, len(data) // 2, len(data) - 200):
        found = error(data[:size])
        assert found.reason in (
            FailureReason.TRUNCATED_IMAGE,
            FailureReason.NO_IMAGE,
            FailureReason.DECODE_ERROR,
        ), found
    cut = file("693_J2KI.dcm")
    assert error(cut[:-300]).reason in (
        FailureReason.TRUNCATED_IMAGE,
        FailureReason.DECODE_ERROR,
    )


def test_sequences_without_an_end() -> None:
    start = struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    for levels in (50, 5_000, 200_000):
        found = error(header(EXPLICIT) + (start + item) * levels)
        assert found.reason in (FailureReason.DECODE_ERROR, FailureReason.TRUNCATED_IMAGE)


def test_elements_without_end_take_seconds_not_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onceseen.fingerprint.dicom._MAX_READS", 20_000)
    body = element(0x8, 0x60, b"CS", b"CT") * 40_000
    started = time.monotonic()
    assert "more than 20,000 elements" in error(header(EXPLICIT) + body).detail
    assert time.monotonic() - started < 5
    long_sequence = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, (1 << 24) + 2) + bytes((1 << 24) + 2)
    assert "PerFrameFunctionalGroupsSequence" in error(header(EXPLICIT) + long_sequence).detail


def test_damage_anywhere_gives_a_picture_or_a_reason() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    for name in (
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
    ):
        for _ in range(40):
            data = bytearray(file(name))
            for place in rng.integers(0, len(data), 6):
                data[place] = int(rng.integers(0, 256))
            with suppress(SampleError):  # any other error fails the test
                assert decode_image(bytes(data), MAX_PIXELS).rgb.ndim == 3


def test_a_missing_pydicom_is_one_clear_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    found = error(file("CT_small.dcm"))
    assert found.reason is FailureReason.MISSING_DECODER
    assert "onceseen[dicom]" in found.detail


def test_pydicom_is_loaded_for_dicom_alone_and_says_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from onceseen.fingerprint import decode_image\n"
        "assert 'pydicom' not in sys.modules\n"
        "for name in sys.argv[1:]: decode_image(pathlib.Path(name).read_bytes(), 10**6)\n"
    )
    names = [
        str(FILES / n) for n in ("MR_small_padded.dcm", "chrArab.dcm", "rtdose.dcm") if (FILES / n).exists()
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
