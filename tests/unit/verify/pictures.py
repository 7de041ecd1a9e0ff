"""Sides as the extract job stores them, of real photographs and planted copies of them."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig, FingerprintConfig, VerifyConfig
from onceseen.embed import Embedder, load_embedder
from onceseen.fingerprint import Fingerprint, View, decode_image, fingerprint_image, view_pixels
from onceseen.planted.imaging import encode_png
from onceseen.planted.transforms import apply_transform
from onceseen.verify import Judgement, Region, Side, judge, judge_pixels, load_calibration

PHOTOS = Path(__file__).resolve().parents[3] / "examples" / "photos"
CONFIG = VerifyConfig()
CALIBRATION = load_calibration("")
Rgb = NDArray[np.uint8]
Shown = tuple[Side, Rgb]


@cache
def photo(name: str) -> Rgb:
    """A bundled photograph."""
    picture = decode_image((PHOTOS / f"{name}.jpg").read_bytes(), 1 << 30).rgb
    picture.flags.writeable = False
    return picture


@cache
def embedder() -> Embedder:
    loaded = load_embedder(EmbedConfig(device="cpu", threads=1))
    assert loaded is not None
    return loaded


@cache
def copy_of(name: str, transform: str, with_embedding: bool = True) -> Shown:
    """A planted copy of a photograph; `original` is the photograph itself."""
    if transform == "original":
        return show(photo(name), with_embedding)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{name}/{transform}".encode())))
    return show_encoded(apply_transform(transform, photo(name).copy(), rng).data, with_embedding)


def show(rgb: Rgb, with_embedding: bool = True) -> Shown:
    """Side and pixels of a picture."""
    return show_encoded(encode_png(np.ascontiguousarray(rgb)).data, with_embedding)


def show_encoded(data: bytes, with_embedding: bool = True) -> Shown:
    picture = decode_image(data, 1 << 30)
    found = fingerprint_image(data, picture, FingerprintConfig())
    view = found.views[0] if found.views else None
    regions = [picture.rgb] + ([view_pixels(picture, view)] if view else [])
    vectors: list[NDArray[np.float32] | None] = [None] * len(regions)
    if with_embedding:
        vectors = list(embedder().embed(np.stack([embedder().preprocess(r) for r in regions])))
    whole = _region((0.0, 0.0, 1.0, 1.0), found, vectors[0])
    trimmed = _region(view.box, view, vectors[1]) if view else None
    return Side(found.width, found.height, found.blank, found.sharpness, whole, trimmed), picture.rgb


def _region(
    box: tuple[float, float, float, float], found: Fingerprint | View, vector: NDArray[np.float32] | None
) -> Region:
    bits, mirrored = np.frombuffer(found.pdq, np.uint8), np.frombuffer(found.pdq_mirrored, np.uint8)
    return Region(box, bits, mirrored, found.pdq_quality, found.thumb, vector)


def final(a: Shown, b: Shown, config: VerifyConfig = CONFIG) -> Judgement:
    """Both looks, as the match job takes them."""
    first = judge(a[0], b[0], config, CALIBRATION)
    if not first.doubtful:
        return first
    return judge_pixels(a[0], b[0], a[1], b[1], first, config, CALIBRATION)


def droppable(judged: Judgement, config: VerifyConfig = CONFIG) -> tuple[bool, bool]:
    """Whether a may be dropped for b, and b for a."""
    a, b = judged.coverage_a, judged.coverage_b
    return (
        judged.verified and a >= config.min_coverage and b >= config.min_kept_coverage,
        judged.verified and b >= config.min_coverage and a >= config.min_kept_coverage,
    )


def thumb_of(rgb: Rgb) -> NDArray[np.float32]:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA), dtype=np.float32)
