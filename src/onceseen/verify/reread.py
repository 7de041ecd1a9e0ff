"""Pictures read again: by range, in the order of shards and offsets, shrunk, in a bounded cache."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import ReadConfig
from onceseen.core.cores import available_cores
from onceseen.core.records import Shard, node_id, node_shard
from onceseen.embed.images import squash
from onceseen.fingerprint import ENCODED_AHEAD, decoded_image
from onceseen.shards import WantedImage, read_images

CACHED_PICTURES = 512


class PictureCache:
    """Decoded pictures by node id, the least recently used leaving first.

    At `max_side` 384 a picture takes at most 442 KB, so the cache holds at most 226 MB.
    """

    def __init__(
        self,
        shards: Mapping[int, Shard],
        read: ReadConfig,
        max_side: int,
        others: Mapping[str, ReadConfig] | None = None,
        *,
        square: bool = False,
    ) -> None:
        """Starts empty.

        Args:
            shards: By number.
            read: How shards of this run are read.
            max_side: Longest side, in pixels, that pictures are shrunk to.
            others: How those of other runs are, by `Shard.run`.
            square: Whether they are squeezed (or enlarged) to squares of `max_side` instead.
        """
        self._shards = shards
        self._reads = {**(others or {}), "": read}
        self._max_side = max_side
        self._square = square
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def load(self, wanted: Mapping[int, WantedImage]) -> dict[int, NDArray[np.uint8]]:
        """The pictures asked for, (h, w, 3) uint8 RGB, longest side at most `max_side`; or squares of that side."""
        found = {node: self._cache[node] for node in wanted if node in self._cache}
        missing: dict[int, list[WantedImage]] = defaultdict(list)
        for node, image in wanted.items():
            if node not in found:
                missing[node_shard(node)].append(image)
        with ThreadPoolExecutor(available_cores()) as pool:
            for number in sorted(missing):
                read = self._reads[self._shards[number].run]
                for images in _portions(read_images(self._shards[number], read, missing[number])):
                    pixels = pool.map(self._decode, (data for _, data in images), repeat(read))
                    found |= {node_id(number, row): rgb for (row, _), rgb in zip(images, pixels, strict=True)}
        for node in wanted:
            self._cache[node] = found[node]
            self._cache.move_to_end(node)
        while len(self._cache) > CACHED_PICTURES:
            self._cache.popitem(last=False)
        return found

    def _decode(self, data: bytes, read: ReadConfig) -> NDArray[np.uint8]:
        with decoded_image(data, read.max_pixels, read.window) as picture:
            if self._square:
                return squash(picture.rgb, self._max_side)
            height, width = picture.rgb.shape[:2]
            scale = self._max_side / max(height, width)
            if scale >= 1:
                return picture.rgb
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            return np.asarray(cv2.resize(picture.rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _portions(images: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Images in portions of at most `ENCODED_AHEAD` and one more."""
    portion: list[tuple[int, bytes]] = []
    held = 0
    for row, data in images:
        portion.append((row, data))
        held += len(data)
        if held > ENCODED_AHEAD:
            yield portion
            portion, held = [], 0
    yield portion
