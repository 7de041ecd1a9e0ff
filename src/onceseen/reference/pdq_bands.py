"""PDQ signatures in the order of each band, with a directory of where its values begin.

A reference is stored straight and a query asks straight and mirrored: half of what storing both would take. The
directory has as many entries as there are signatures, at most one for each value of the band; where it is coarser than
the band, a query compares a few signatures more. A bucket over `bands.max_bucket` is narrowed to the query's value in
the next band, and cut there if it is still over: what is missed is left to the other bands.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import BandsConfig
from onceseen.core.files import join
from onceseen.neighbors.bands import band_positions, band_values
from onceseen.reference.store import appending, mapped, save

_MAX_DIRECTORY_BITS = 20


def write_bands(
    directory: str, pdq: NDArray[np.uint8], config: BandsConfig, step: Callable[[int], object]
) -> None:
    """Writes bands_order.npy and bands_start.npy. Memory: some 40 bytes a signature, one band at a time.

    Args:
        directory: The index.
        pdq: (n, 32) signatures, mapped.
        config: Bands.
        step: Called with 1 for each band done.
    """
    positions = band_positions(config)
    bits = min(config.bits, _MAX_DIRECTORY_BITS, max(1, len(pdq).bit_length()))
    starts = np.zeros((config.bands, 2**bits + 1), dtype=np.uint32)
    with appending(join(directory, "bands_order.npy"), np.dtype("<u4"), (len(pdq),)) as file:
        for band in range(config.bands):
            values = _values(pdq, positions[band])
            following = _values(pdq, positions[(band + 1) % config.bands])
            order = np.lexsort((following, values))
            places = values[order] >> (config.bits - bits)
            starts[band] = np.searchsorted(places, np.arange(2**bits + 1))
            file.append(order[None])
            step(1)
    save(directory, "bands_start.npy", starts)


def _values(pdq: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Values of one band, in blocks: unpacked bits are 256 bytes a signature."""
    blocks = [band_values(pdq[s : s + 65_536], positions) for s in range(0, len(pdq), 65_536)]
    return np.concatenate([np.empty(0, dtype=np.uint32), *blocks])


@dataclass(frozen=True, slots=True)
class PdqBands:
    """The signatures of an index, mapped.

    Attributes:
        pdq: (n, 32) uint8.
        samples: (n,) int64, the sample of each.
        order: (bands, n) uint32: signatures by band value, next band's value and place.
        starts: (bands, directory + 1) uint32.
        positions: (bands, bits) bit positions.
        config: The bands.
    """

    pdq: NDArray[np.uint8]
    samples: NDArray[np.int64]
    order: NDArray[np.uint32]
    starts: NDArray[np.uint32]
    positions: NDArray[np.int64]
    config: BandsConfig

    @classmethod
    def open(cls, directory: str, config: BandsConfig) -> PdqBands:
        """Maps the four files."""
        pdq, samples, order, starts = (
            mapped(join(directory, f"{name}.npy"), here_and_there=True)
            for name in ("pdq", "pdq_sample", "bands_order", "bands_start")
        )
        return cls(pdq, samples, order, starts, band_positions(config), config)

    def nearest(self, queries: NDArray[np.uint8], count: int) -> list[int]:
        """The `count` nearest samples within `bands.max_distance` of any of the query's signatures, nearest first.

        Args:
            queries: (q, 32) uint8.
            count: Samples wanted at most.

        Cost: bands * q looks into the directory, and at most `max_bucket` comparisons in each.
        """
        best: dict[int, int] = {}
        for query in queries:
            found = self._signatures(query)
            distance = np.bitwise_count(self.pdq[found] ^ query).sum(axis=1, dtype=np.int64)
            for place in np.flatnonzero(distance <= self.config.max_distance):
                sample = int(self.samples[found[place]])
                best[sample] = min(best.get(sample, 256), int(distance[place]))
        return sorted(best, key=lambda sample: (best[sample], sample))[:count]

    def _signatures(self, query: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """Signatures that share a band with the query, each once."""
        if not len(self.pdq):
            return np.empty(0, dtype=np.uint32)
        values = band_values(query[None], self.positions)[0]
        shift = self.config.bits - ((self.starts.shape[1] - 1).bit_length() - 1)
        found = []
        for band, value in enumerate(values.tolist()):
            low, high = self.starts[band, value >> shift : (value >> shift) + 2].tolist()
            if high - low > self.config.max_bucket:
                low, high = self._narrow(band, values, low, high)
            found.append(self.order[band, low:high])
        return np.unique(np.concatenate(found))

    def _narrow(self, band: int, values: NDArray[np.uint32], low: int, high: int) -> tuple[int, int]:
        """Places in a large bucket whose value is the query's, in the next band too where that is not enough."""
        order = self.order[band]
        for depth in (0, 1):
            wanted = int(values[(band + depth) % self.config.bands])
            positions = self.positions[(band + depth) % self.config.bands]

            def value(place: int, positions: NDArray[np.int64] = positions) -> int:
                return int(band_values(self.pdq[order[place] : order[place] + 1], positions)[0])

            low, high = (
                bisect_left(range(high), wanted, low, high, key=value),
                bisect_right(range(high), wanted, low, high, key=value),
            )
            if high - low <= self.config.max_bucket:
                break
        return low, min(high, low + self.config.max_bucket)
