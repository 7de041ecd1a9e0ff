"""Labelled pairs for calibrate.py: planted copies of photographs, and negatives that are hard to tell from copies."""

from __future__ import annotations

import itertools
import logging
import math
import multiprocessing
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig, FingerprintConfig
from onceseen.embed import Embedder, load_embedder, prepare_picture
from onceseen.fingerprint import decode_image
from onceseen.planted.composites import apply_composite
from onceseen.planted.imaging import RgbImage, encode_jpeg, encode_png
from onceseen.planted.pages import blank_picture, template_page
from onceseen.planted.transforms import apply_transform
from onceseen.verify.fresh import fresh_side
from onceseen.verify.pixels import SecondLook, second_look
from onceseen.verify.sides import Side
from onceseen.verify.thumbs import FirstLook, first_look

REQUIRED = (
    "jpeg30",
    "jpeg50",
    "jpeg70",
    "jpeg90",
    "png",
    "webp",
    "resize_down",
    "resize_up",
    "crop10",
    "crop20",
    "crop30",
    "mirrored",
    "text",
    "watermark",
    "logo",
    "letterbox",
    "pillarbox",
    "frame",
    "grey",
    "brightness",
    "contrast",
)
BEYOND = (
    "jpeg8",
    "jpeg15",
    "crop50",
    "mirrored_crop",
    "colour",
    "blur",
    "noise",
    "strong",
    "rotation5",
    "mirrored_crop_text",
)
MEASURED = (
    "stickers",
    "rotation90",
    "screenshot",
    "collage2",
    "collage4",
)
NEAREST = 6
PAGES = 40
MAX_PIXELS = 1 << 30
_LOG = logging.getLogger("calibrate")


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture: its features as extract stores them, and its pixels."""

    side: Side
    rgb: RgbImage


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A pair, looked at twice.

    Attributes:
        label: `copy`, `other` (another picture) or `added` (the same with a thing added); empty: measured alone.
        kind: The transform, or the kind of negative.
        unit: What is dealt to one half as a whole: the source, or all pictures of a scene.
        first: By stored features.
        second: By pixels.
        flipped: Whether the looks have the copy as their second side.
    """

    label: str
    kind: str
    unit: str
    first: FirstLook
    second: SecondLook
    flipped: bool


class Pictures:
    """Makes `Shown` pictures as the extract job does."""

    def __init__(self, max_side: int) -> None:
        """Keeps pixels with no side over `max_side`."""
        self._max_side = max_side

    def show(self, data: bytes) -> Shown:
        """Fingerprints and embeds an encoded picture."""
        picture = decode_image(data, MAX_PIXELS)
        embedder = _embedder()
        prepared = prepare_picture(data, picture, FingerprintConfig(), embedder)
        # stored as float16
        vectors = embedder.embed(np.stack(prepared.inputs)).astype(np.float16).astype(np.float32)
        return Shown(fresh_side(prepared.fingerprint, list(vectors)), _within(picture.rgb, self._max_side))


@cache
def _embedder() -> Embedder:
    """The bundled model, once a process, on one thread."""
    cv2.setNumThreads(1)
    loaded = load_embedder(EmbedConfig(device="cpu", threads=1))
    if loaded is None:
        raise ValueError("the default embed.model is 'none'; expected a model")
    return loaded


def _within(rgb: RgbImage, side: int) -> RgbImage:
    scale = side / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = max(round(rgb.shape[1] * scale), 1), max(round(rgb.shape[0] * scale), 1)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def seeded(*names: str) -> np.random.Generator:
    """A generator that depends on the names alone."""
    return np.random.Generator(np.random.PCG64(zlib.crc32("/".join(names).encode())))


# Negatives made of photographs


def other_frame(rgb: RgbImage, rng: np.random.Generator) -> RgbImage:
    """A smooth warp by 0.35 to 2 % of the longer side, another light and noise: the camera has moved."""
    height, width = rgb.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    reach = np.float32(math.exp(rng.uniform(math.log(0.0035), math.log(0.02))) * max(height, width))
    knots = int(rng.integers(3, 7))
    fields = [
        cv2.resize(
            rng.normal(0, 1, (knots, knots)).astype(np.float32),
            (width, height),
            interpolation=cv2.INTER_CUBIC,
        )
        for _ in range(2)
    ]
    maps = x + fields[0] * reach, y + fields[1] * reach
    out = cv2.remap(rgb, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    out = out * rng.uniform(0.95, 1.05) + rng.normal(0, rng.uniform(1, 4), out.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


def moved_part(rgb: RgbImage, other: RgbImage, rng: np.random.Generator) -> RgbImage:
    """One or two textured parts, of this or another photograph, pasted with soft edges: a thing was added or moved."""
    height, width = rgb.shape[:2]
    out = rgb.astype(np.float32)
    for _ in range(int(rng.integers(1, 3))):
        source = (
            rgb if rng.random() < 0.5 else cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
        )
        mask = _blob(height, width, rng)
        for _ in range(20):
            down, right = int(rng.uniform(0.1, 0.9) * height), int(rng.uniform(0.1, 0.9) * width)
            part = np.roll(source, (down, right), (0, 1))
            if part.mean(axis=2)[mask > 0.5].std() > 28:
                break
        out = out * (1 - mask[:, :, None]) + part * mask[:, :, None]
    return np.clip(out, 0, 255).astype(np.uint8)


def _blob(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A soft, wavy ellipse of 1.5 to 10 % of the area."""
    area = rng.uniform(0.015, 0.1) * height * width
    long = math.sqrt(area / math.pi * rng.uniform(0.5, 2))
    short = area / math.pi / long
    turn = rng.uniform(0, math.pi)
    x, y = np.meshgrid(
        np.arange(width) - rng.uniform(0.1, 0.9) * width, np.arange(height) - rng.uniform(0.1, 0.9) * height
    )
    u = (x * math.cos(turn) + y * math.sin(turn)) / long
    v = (-x * math.sin(turn) + y * math.cos(turn)) / short
    edge = 1 + 0.15 * np.sin(3 * np.arctan2(v, u) + rng.uniform(0, 6))
    soft = cv2.GaussianBlur((u * u + v * v < edge).astype(np.float32), (0, 0), rng.uniform(0.6, 2.0))
    return np.asarray(soft, dtype=np.float32)


def sky(rng: np.random.Generator) -> RgbImage:
    """A gradient with faint clouds and sensor noise."""
    height, width = 300, 400
    down, right = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top, bottom = (
        np.array([90, 140, 220]) + rng.normal(0, 12, 3),
        np.array([190, 210, 240]) + rng.normal(0, 8, 3),
    )
    clouds = cv2.GaussianBlur(
        rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), rng.uniform(20, 60)
    )
    out = top * (1 - down) + bottom * down + right * rng.uniform(-20, 20)
    out = (
        out + (clouds / clouds.std() * rng.uniform(0, 8))[:, :, None] + rng.normal(0, 1.5, (height, width, 3))
    )
    return np.clip(out, 0, 255).astype(np.uint8)


# Pairs


class PairMaker:
    """Makes every labelled pair, source by source."""

    def __init__(
        self, photos: list[Path], scenes: dict[str, str], further: Path | None, max_side: int
    ) -> None:
        """Takes the photographs, their scenes by file name, and a folder of further scenes."""
        self._photos, self._scenes, self._further = photos, scenes, further
        self._max_side = max_side
        self._pictures = Pictures(max_side)

    def all_pairs(self, processes: int) -> Iterator[LabelledPair]:
        """Copies, then negatives across photographs and scenes; the same for any number of processes."""
        kept: list[tuple[str, Shown, Shown]] = []
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            for number, (pairs, original, copy) in enumerate(pool.map(self.of_one, range(len(self._photos)))):
                yield from pairs
                kept.append((self._photos[number].stem, original, copy))
                if number % 10 == 9:
                    _LOG.info("%d of %d photographs", number + 1, len(self._photos))
        yield from self._across(kept)
        yield from self._scene_pairs([(name, original) for name, original, _ in kept])
        yield from self._pages()
        yield from self._flat()

    def of_one(self, number: int) -> tuple[list[LabelledPair], Shown, Shown]:
        """The pairs of one photograph, itself, and one of its copies for pairs with others."""
        data = self._photos[number].read_bytes()
        original = self._pictures.show(data)
        pairs: list[LabelledPair] = []
        copies = self._of_one(self._photos[number].stem, original, data, number, pairs)
        return pairs, original, copies[number % len(copies)]

    def _pair(self, label: str, kind: str, unit: str, a: Shown, b: Shown) -> LabelledPair:
        flipped = b.side.order() < a.side.order()
        p, q = (b, a) if flipped else (a, b)
        first = first_look(p.side, q.side)
        second = second_look(p.side, q.side, p.rgb, q.rgb, self._max_side)
        return LabelledPair(label, kind, unit, first, second, flipped)

    def _unit(self, name: str) -> str:
        return self._scenes.get(name, "") or name

    def _of_one(
        self, name: str, original: Shown, data: bytes, number: int, pairs: list[LabelledPair]
    ) -> list[Shown]:
        unit, rgb = self._unit(name), decode_image(data, MAX_PIXELS).rgb
        copies: dict[str, Shown] = {}
        others = [
            decode_image(self._photos[(number + step) % len(self._photos)].read_bytes(), MAX_PIXELS).rgb
            for step in (7, 13, 29)
        ]
        for kind in (*REQUIRED, *BEYOND, *MEASURED, "left_half", "right_half"):
            if kind.startswith("collage"):
                made = apply_composite(kind, [rgb, *others][: int(kind[-1])], seeded(name, kind))
            else:
                made = apply_transform(kind, rgb, seeded(name, kind))
            copies[kind] = self._pictures.show(made.data)
            pairs.append(
                self._pair("copy" if kind in (*REQUIRED, *BEYOND) else "", kind, unit, copies[kind], original)
            )
        made = apply_composite("picture_in_picture", [rgb, others[0]], seeded(name, "inset"))
        pairs.append(
            self._pair("added", "picture in picture", unit, self._pictures.show(made.data), original)
        )
        for turn in range(2):
            for label, kind in (("other", "warped frame"), ("added", "moved part")):
                changed = self._changed(kind, rgb, others[0], seeded(name, kind, str(turn)))
                pairs.append(self._pair(label, kind, unit, self._pictures.show(changed), original))
        pairs.append(self._pair("other", "halves", unit, copies["left_half"], copies["right_half"]))
        return [original, *(copies[k] for k in ("crop20", "text", "jpeg50", "blur", "crop50", "grey"))]

    def _changed(self, kind: str, rgb: RgbImage, other: RgbImage, rng: np.random.Generator) -> bytes:
        """A frame or a part in which at least 1.2 % of the pixels clearly differ."""
        for _ in range(10):
            out = other_frame(rgb, rng) if kind == "warped frame" else moved_part(rgb, other, rng)
            if (np.abs(out.astype(np.int16) - rgb).max(axis=2) > 40).mean() > 0.012:
                break
        return encode_jpeg(out, int(rng.integers(75, 96))).data

    def _across(self, kept: list[tuple[str, Shown, Shown]]) -> Iterator[LabelledPair]:
        """For each photograph, the photographs of the other unit that are nearest by embedding: the hard ones."""
        vectors = np.stack([k[1].side.whole.embedding for k in kept])
        order = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")
        for i, (name, _, copy) in enumerate(kept):
            near = [j for j in order[i] if self._unit(kept[j][0]) != self._unit(name)][:NEAREST]
            for j in near:
                yield self._pair("other", "cross-source", self._unit(name), copy, kept[j][1])

    def _scene_pairs(self, kept: list[tuple[str, Shown]]) -> Iterator[LabelledPair]:
        groups: dict[str, list[Shown]] = defaultdict(list)
        for name, original in kept:
            if self._scenes.get(name):
                groups[self._scenes[name]].append(original)
        if self._further is not None:
            for folder in sorted(p for p in self._further.iterdir() if p.is_dir()):
                groups[f"further/{folder.name}"] += [
                    self._pictures.show(p.read_bytes()) for p in sorted(folder.iterdir())
                ]
        for scene, members in sorted(groups.items()):
            pairs = list(itertools.combinations(members, 2))
            for a, b in pairs[:: max(len(pairs) // 40, 1)]:
                yield self._pair("other", f"scene {scene}", scene, a, b)

    def _pages(self) -> Iterator[LabelledPair]:
        pages = [template_page(seeded("page", str(k))) for k in range(PAGES)]
        shown = [self._pictures.show(encode_png(p).data) for p in pages]
        for k, page in enumerate(pages):
            unit = f"page {k}"
            for kind in ("jpeg50", "webp", "resize_down", "grey"):
                copy = self._pictures.show(apply_transform(kind, page, seeded(unit, kind)).data)
                yield self._pair("copy", f"page {kind}", unit, copy, shown[k])
            for step in (1, 2, 5):
                yield self._pair("other", "page, other text", unit, shown[k], shown[(k + step) % len(pages)])

    def _flat(self) -> Iterator[LabelledPair]:
        for kind, make in (("sky", lambda k: sky(seeded("sky", str(k)))), ("blank", blank_picture)):
            shown = [self._pictures.show(encode_jpeg(make(k), 90).data) for k in range(10)]
            for i, j in itertools.combinations(range(len(shown)), 2):
                yield self._pair("other", kind, f"{kind} {i}", shown[i], shown[j])
