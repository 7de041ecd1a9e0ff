"""The fingerprint as a whole."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.unit.fingerprint.conftest import encode

from onceseen.core.config import FingerprintConfig
from onceseen.fingerprint import Fingerprint, Picture, decode_image, fingerprint_image

CONFIG = FingerprintConfig()


def fingerprint(data: bytes) -> Fingerprint:
    return fingerprint_image(data, decode_image(data, 10**8), CONFIG)


def summary(f: Fingerprint) -> tuple[object, ...]:
    views = tuple((v.name, v.box, v.pdq, v.pdq_mirrored, v.pdq_quality, v.thumb.tobytes()) for v in f.views)
    return (
        f.sha256,
        f.pixel_hash,
        f.pdq,
        f.pdq_mirrored,
        f.pdq_quality,
        f.sharpness,
        f.thumb.tobytes(),
        views,
    )


def test_fields(photo: Image.Image) -> None:
    data = encode(photo, "PNG")
    f = fingerprint(data)
    assert (f.format, f.width, f.height, f.num_bytes) == ("png", 96, 72, len(data))
    assert f.sha256 == hashlib.sha256(data).digest()
    assert [len(f.pixel_hash), len(f.pdq), len(f.pdq_mirrored)] == [16, 32, 32]
    assert (f.thumb.shape, f.thumb.dtype) == ((64, 64), np.uint8)
    assert not f.blank
    assert 0 < f.sharpness <= np.hypot(96, 72) + 0.1


def test_sha256_of_the_caller_is_taken(photo: Image.Image) -> None:
    data = encode(photo, "PNG")
    f = fingerprint_image(data, decode_image(data, 10**8), CONFIG, b"\1" * 32)
    assert (f.sha256, f.pixel_hash) == (b"\1" * 32, fingerprint(data).pixel_hash)


def test_pixel_hash_is_of_pixels_not_of_bytes(photo: Image.Image) -> None:
    a, b = fingerprint(encode(photo, "PNG")), fingerprint(encode(photo, "WEBP", lossless=True))
    assert a.sha256 != b.sha256
    assert a.pixel_hash == b.pixel_hash
    changed = np.array(photo)
    changed[5, 5, 0] ^= 1
    reshaped = np.asarray(photo).reshape(96, 72, 3)
    for rgb in (changed, reshaped):
        assert fingerprint_image(b"", Picture(rgb, "png"), CONFIG).pixel_hash != a.pixel_hash


def test_flat_pictures_are_blank() -> None:
    rng = np.random.default_rng(0)
    flat = np.full((300, 400, 3), 250, np.uint8)
    noisy = rng.integers(118, 138, (300, 400, 3), dtype=np.uint8)
    assert all(fingerprint_image(b"", Picture(p, "png"), CONFIG).blank for p in (flat, noisy))
    assert fingerprint_image(b"", Picture(flat, "png"), CONFIG).views == ()


def test_smallest_pictures() -> None:
    for height, width in ((1, 1), (1, 500), (500, 1), (2, 3), (33, 47)):
        rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
        f = fingerprint_image(b"", Picture(rgb, "png"), CONFIG)
        assert (f.width, f.height, f.thumb.shape) == (width, height, (64, 64))


def test_threads_give_the_same_fingerprints(photos: list[NDArray[np.uint8]]) -> None:
    files = [encode(Image.fromarray(p), "JPEG") for p in photos[:16]]
    alone = [summary(fingerprint(data)) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert [summary(f) for f in pool.map(fingerprint, files)] == alone
