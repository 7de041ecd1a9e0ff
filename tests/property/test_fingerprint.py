"""Damaged files: a picture or a `SampleError`, nothing else; and the laws of the hashes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from onceseen.core.config import FingerprintConfig
from onceseen.core.failures import SampleError
from onceseen.fingerprint import (
    caption_minhash,
    decode_image,
    fingerprint_image,
    hamming_distance,
    minhash_similarity,
    pdq_hash,
)

MAX_PIXELS = 1_000_000
KINDS = ("JPEG", "PROGRESSIVE", "CMYK", "PNG", "PNG16", "RGBA", "WEBP", "GIF", "BMP", "TIFF", "LZW", "AVIF")


def _file(kind: str) -> bytes:
    y, x = np.mgrid[:40, :56]
    rgb = np.stack([x * 4, y * 6, (x * y) % 256], axis=2).astype(np.uint8)
    image = Image.fromarray(rgb)
    options: dict[str, object] = {}
    form = {"PROGRESSIVE": "JPEG", "CMYK": "JPEG", "PNG16": "PNG", "RGBA": "PNG", "LZW": "TIFF"}.get(
        kind, kind
    )
    if kind == "PROGRESSIVE":
        options["progressive"] = True
    elif kind == "CMYK":
        image = image.convert("CMYK")
    elif kind == "PNG16":
        image = Image.fromarray(rgb[:, :, 0].astype(np.uint16) * 257)
    elif kind == "RGBA":
        image.putalpha(Image.fromarray(rgb[:, :, 0]))
    elif kind == "GIF":
        options.update(save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    elif kind == "LZW":
        options["compression"] = "tiff_lzw"
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


FILES = {kind: _file(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=5_000)
@given(data=st.data())
def test_damaged_files_give_a_picture_or_a_reason(kind: str, data: st.DataObject) -> None:
    encoded = bytearray(FILES[kind])
    place = st.integers(0, len(encoded) - 1)
    flips = data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=6))
    for index, value in flips:
        encoded[index] = value
    start, length = data.draw(place), data.draw(st.integers(0, 60))
    if data.draw(st.booleans()):
        del encoded[start : start + length]
    if data.draw(st.booleans()):
        del encoded[data.draw(st.integers(0, len(encoded))) :]
    try:
        picture = decode_image(bytes(encoded), MAX_PIXELS)
    except SampleError:
        return
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.ndim == 3
    assert picture.rgb.shape[2] == 3
    assert 0 < picture.rgb.shape[0] * picture.rgb.shape[1] <= MAX_PIXELS
    fingerprint_image(bytes(encoded), picture, FingerprintConfig())


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_after_any_magic_are_judged(tail: bytes) -> None:
    for magic in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypavif",
    ):
        with pytest.raises(SampleError):
            decode_image(magic + tail, MAX_PIXELS)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_mirroring_twice_is_nothing(height: int, width: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours, flipped = pdq_hash(rgb), pdq_hash(rgb[:, ::-1])
    assert (ours.mirrored, ours.bits) == (flipped.bits, flipped.mirrored)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
def test_hamming_is_a_distance(a: bytes, b: bytes, c: bytes) -> None:
    assert hamming_distance(a, b) == hamming_distance(b, a)
    assert (hamming_distance(a, b) == 0) == (a == b)
    assert hamming_distance(a, c) <= hamming_distance(a, b) + hamming_distance(b, c)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_a_caption_is_like_itself(caption: str) -> None:
    sketch = caption_minhash(caption, 16)
    assert minhash_similarity(sketch, sketch) == (1.0 if caption.split() and sketch else 0.0)
