"""Products of int8 codes in blocks: the same bits on every processor, library and GPU.

    cosine bound of i and j = (code_i . code_j) * scale_i * scale_j + residual_i * residual_j

The product of two codes is an integer of at most 224 * 127^2 < 2^24, so float32 holds it exactly in whatever order and
by whatever kernel it is summed, TF32 included. What follows is one rounded operation after another, in the same order
everywhere, each a step of its own, since a fused one rounds once less. So a GPU finds the very pairs that the CPU
finds, and needs no margin for its arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import CellsConfig
from onceseen.neighbors.packing import ALL_PAIRS, PAIR, Asked, Records, pair_records, unique_pairs

ROUNDING = 0.02
"""What int8 rounding can add to or take from a cosine (measured: under 0.008 at 224 dimensions)."""
_ROWS = 1024
_ENTRIES = 1 << 26
"""Entries of the products on a GPU at a time: 256 MB in float32, and some of that again for what is compared."""
_GATHERED = 1 << 18
"""Codes gathered on a GPU at a time: 235 MB in float32."""
_SELF = -2.0


class CodeBlocks(Protocol):
    """The codes of one coarse cell where they are compared; rows are those of its records."""

    def nearest_seeds(
        self, members: NDArray[np.int64], seeds: NDArray[np.int64], probes: int
    ) -> NDArray[np.int64]:
        """The nearest seeds of each member by code product, the earlier seed where equal.

        Args:
            members: (n,) rows.
            seeds: (s,) rows, s >= probes.
            probes: Seeds a member.

        Returns:
            (n, probes) int64 positions in `seeds`, nearest first.
        """
        ...

    def near_pairs(
        self, cells: Iterable[NDArray[np.int64]], config: CellsConfig, asked: Asked = ALL_PAIRS
    ) -> Records:
        """Pairs inside each fine cell whose cosine may reach `min_cosine`, for each row its `neighbors` nearest.

        Args:
            cells: Ascending rows of each cell.
            config: The least cosine and the number of neighbours; those that tie with the last all count.
            asked: Which pairs; only nodes from `since` on look for neighbours, others are found by them.

        Returns:
            `PAIR` array of distinct nodes, sorted, each pair once.
        """
        ...


def code_blocks(records: Records, device: str) -> CodeBlocks:
    """The codes on a device.

    Args:
        records: Array of `code_dtype(c)`, equal nodes beside each other.
        device: `cpu` for numpy, or a device of torch's.
    """
    return NumpyBlocks(records) if device == "cpu" else TorchBlocks(records, device)


def _least(config: CellsConfig) -> float:
    return float(np.float32(config.min_cosine - ROUNDING))


class NumpyBlocks:
    """The codes in this process's memory: c * 4 bytes a vector, and a block of 1,024 rows of products."""

    def __init__(self, records: Records) -> None:
        """Widens the codes to float32, so that their product is the BLAS's."""
        self._code = records["code"].astype(np.float32)
        self._scale = np.ascontiguousarray(records["scale"])
        self._residual = np.ascontiguousarray(records["residual"])
        self._nodes = np.ascontiguousarray(records["node"])

    def nearest_seeds(
        self, members: NDArray[np.int64], seeds: NDArray[np.int64], probes: int
    ) -> NDArray[np.int64]:
        """See `CodeBlocks`."""
        out = np.empty((len(members), probes), dtype=np.int64)
        code, scale = np.ascontiguousarray(self._code[seeds].T), self._scale[seeds]
        for start in range(0, len(members), _ROWS):
            product = self._code[members[start : start + _ROWS]] @ code
            product *= scale
            rows = np.arange(len(product))
            for probe in range(probes):
                nearest = product.argmax(axis=1)
                out[start : start + len(product), probe] = nearest
                product[rows, nearest] = -np.inf
        return out

    def near_pairs(
        self, cells: Iterable[NDArray[np.int64]], config: CellsConfig, asked: Asked = ALL_PAIRS
    ) -> Records:
        """See `CodeBlocks`."""
        found = [pairs for members in cells for pairs in self._near(members, config, asked)]
        return unique_pairs(np.concatenate([np.empty(0, dtype=PAIR), *found]))

    def _near(self, members: NDArray[np.int64], config: CellsConfig, asked: Asked) -> Iterator[Records]:
        """Pairs of one fine cell, a block of rows at a time."""
        nodes = self._nodes[members]
        first = int(np.searchsorted(nodes, asked.since))
        if first == len(nodes) or (asked.across and not first):
            return
        code, scale, residual = self._code[members], self._scale[members], self._residual[members]
        itself = _same_nodes(nodes)
        last = first if asked.across else len(nodes)
        for start in range(first, len(members), _ROWS):
            block = slice(start, start + _ROWS)
            bound = code[block] @ code[:last].T
            bound *= scale[block, None]
            bound *= scale[:last]
            bound += residual[block, None] * residual[:last]
            i, j = itself
            here = (i >= start) & (i < start + len(bound)) & (j < last)
            bound[i[here] - start, j[here]] = _SELF
            near = np.flatnonzero(bound >= _least(config))  # flat, which is five times faster than by axes
            left, right = np.divmod(near, last)
            crowded = np.flatnonzero(np.bincount(left) > config.neighbors)
            if len(crowded):
                cut = np.full(len(bound), _SELF, dtype=np.float32)
                cut[crowded] = np.partition(bound[crowded], -config.neighbors, axis=1)[:, -config.neighbors]
                kept = bound.ravel()[near] >= cut[left]
                left, right = left[kept], right[kept]
            yield pair_records(nodes[left + start], nodes[right])


def _same_nodes(nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All (i, j) with equal nodes, where equal ones are beside each other: itself, and a picture's views."""
    every = np.arange(len(nodes))
    left, right = [every], [every]
    shift = 1
    while len(same := np.flatnonzero(nodes[shift:] == nodes[:-shift])):
        left += [same, same + shift]
        right += [same + shift, same]
        shift += 1
    return np.concatenate(left), np.concatenate(right)


class TorchBlocks:
    """The codes on a GPU, c bytes a vector; many fine cells are multiplied at once, padded to the longest of them."""

    def __init__(self, records: Records, device: str) -> None:
        """Copies the codes to the device."""
        import torch

        self._device = torch.device(device)
        self._code = self._moved(records["code"])
        self._scale = self._moved(records["scale"])
        self._residual = self._moved(records["residual"])
        self._nodes = self._moved(records["node"])

    def _moved(self, array: NDArray[Any]) -> Any:  # noqa: ANN401 - a tensor
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def nearest_seeds(
        self, members: NDArray[np.int64], seeds: NDArray[np.int64], probes: int
    ) -> NDArray[np.int64]:
        """See `CodeBlocks`."""
        wanted, chosen = self._moved(members), self._moved(seeds)
        code, scale = self._code[chosen].float().T, self._scale[chosen]
        out = np.empty((len(members), probes), dtype=np.int64)
        step = max(1, _ENTRIES // len(seeds))
        for start in range(0, len(members), step):
            product = self._code[wanted[start : start + step]].float() @ code
            product *= scale
            for probe in range(probes):
                nearest = product.max(dim=1, keepdim=True).indices  # the first of equal ones
                out[start : start + len(product), probe] = nearest[:, 0].cpu().numpy()
                product.scatter_(1, nearest, -float("inf"))
        return out

    def near_pairs(
        self, cells: Iterable[NDArray[np.int64]], config: CellsConfig, asked: Asked = ALL_PAIRS
    ) -> Records:
        """See `CodeBlocks`."""
        found = [pairs for group in _groups(cells) for pairs in self._near(group, config, asked)]
        return unique_pairs(np.concatenate([np.empty(0, dtype=PAIR), *found]))

    def _near(
        self, cells: Sequence[NDArray[np.int64]], config: CellsConfig, asked: Asked
    ) -> Iterator[Records]:
        """Pairs of some fine cells, as many rows at a time as `_ENTRIES` allows."""
        width = max(len(members) for members in cells)
        padded = np.full((len(cells), width), -1, dtype=np.int64)
        for row, members in zip(padded, cells, strict=True):
            row[: len(members)] = members
        rows = self._moved(padded)
        real = rows >= 0
        rows = rows.clamp(min=0)
        code, scale = self._code[rows].float(), self._scale[rows]
        residual, nodes = self._residual[rows], self._nodes[rows]
        step = max(1, _ENTRIES // (len(cells) * width))
        for start in range(0, width, step):
            block = slice(start, start + step)
            bound = code[:, block] @ code.transpose(1, 2)
            bound *= scale[:, block, None]
            bound *= scale[:, None, :]
            bound += residual[:, block, None] * residual[:, None, :]
            out = nodes[:, block, None] == nodes[:, None, :]
            out |= ~real[:, None, :]
            out |= ~real[:, block, None]
            out |= nodes[:, block, None] < asked.since
            if asked.across:
                out |= nodes[:, None, :] >= asked.since
            bound.masked_fill_(out, _SELF)
            near = bound >= _least(config)
            crowded = near.sum(dim=2) > config.neighbors
            if bool(crowded.any()):
                most = bound[crowded]
                cut = most.topk(config.neighbors, dim=1).values[:, -1:]
                near[crowded] &= most >= cut
            cell, left, right = near.nonzero(as_tuple=True)
            yield pair_records(nodes[cell, left + start].cpu().numpy(), nodes[cell, right].cpu().numpy())


def _groups(cells: Iterable[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """Cells of about one length together, as many as `_ENTRIES` and `_GATHERED` allow, one at least."""
    group: list[NDArray[np.int64]] = []
    for members in sorted(cells, key=len):
        rows = (len(group) + 1) * len(members)
        if group and (rows > _GATHERED or rows * len(members) > _ENTRIES):
            yield group
            group = []
        group.append(members)
    if group:
        yield group
