"""The search by thumbs against plain loops, and that blocks may come in any order and grouping."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from onceseen.audit.search import NEAR, PROBE_VALUES, best_components, nearest_components, probes_of

Found = list[tuple[int, int, int, int]]


def _plain(
    probe: NDArray[np.uint8],
    owner: int,
    pictures: NDArray[np.uint8],
    components: list[int],
    nodes: list[int],
    most: int,
) -> Found:
    """What is expected for one probe: by component the nearest picture, then the nearest components."""
    best: dict[int, tuple[int, int]] = {}
    for picture, component, node in zip(pictures, components, nodes, strict=True):
        distance = sum((int(a) - int(b)) ** 2 for a, b in zip(probe, picture, strict=True))
        best[component] = min(best.get(component, (distance, node)), (distance, node))
    ranked = sorted((distance, node, component) for component, (distance, node) in best.items())
    return [(owner, component, node, distance) for distance, node, component in ranked[:most]]


def _made(seed: int, count: int, values: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, values, (count, PROBE_VALUES), dtype=np.uint8)


@pytest.mark.parametrize(("values", "most"), [(256, 3), (2, 4), (1, 2), (256, 50)])
def test_the_nearest_distinct_components_are_found_exactly(values: int, most: int) -> None:
    """With few values many distances are equal: then the smaller node is first."""
    rng = np.random.default_rng(values)
    probes, pictures = _made(1, 9, values), _made(2, 40, values)
    pictures[5] = probes[0]
    components = rng.integers(0, 12, 40).astype(np.uint64)
    nodes = (np.int64(7) << 32) | rng.permutation(40).astype(np.int64)
    owners = rng.permutation(9).astype(np.uint64) + np.uint64(2**63)
    found = nearest_components(probes, owners, pictures, components, nodes, most)
    expected: Found = []
    for at in np.argsort(owners):
        expected += _plain(probes[at], int(owners[at]), pictures, components.tolist(), nodes.tolist(), most)
    assert found.tolist() == expected


def test_black_and_white_are_the_farthest_apart() -> None:
    probes, pictures = np.zeros((1, 256), np.uint8), np.full((1, 256), 255, np.uint8)
    found = nearest_components(
        probes, np.ones(1, np.uint64), pictures, np.ones(1, np.uint64), np.ones(1, np.int64), 4
    )
    assert found["rank"].tolist() == [256 * 255 * 255]


def test_many_probes_are_searched_in_parts() -> None:
    probes, pictures = _made(3, 700, 256), _made(4, 30, 256)
    owners, components = np.arange(700, dtype=np.uint64), np.arange(30, dtype=np.uint64)
    found = nearest_components(probes, owners, pictures, components, np.arange(30, dtype=np.int64), 1)
    wide = probes.astype(np.int64)[:, None] - pictures.astype(np.int64)
    assert found["owner"].tolist() == list(range(700))
    assert found["node"].tolist() == (wide**2).sum(axis=2).argmin(axis=1).tolist()


def test_nothing_to_search_finds_nothing() -> None:
    none = np.empty((0, 256), np.uint8)
    owners, nodes = np.empty(0, np.uint64), np.empty(0, np.int64)
    assert not len(nearest_components(none, owners, _made(1, 1, 9), owners[:0], nodes, 2))
    assert not len(best_components(np.empty(0, NEAR), 3))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_blocks_do_not_depend_on_their_grouping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    records = np.empty(400, dtype=NEAR)
    records["owner"] = rng.integers(0, 5, 400)
    records["component"] = rng.integers(0, 20, 400)
    records["node"] = rng.permutation(400)
    records["rank"] = rng.integers(-3, 3, 400)
    whole = best_components(records, 3)
    blocks = np.array_split(rng.permutation(records), 7)
    merged = np.empty(0, dtype=NEAR)
    for block in blocks:
        merged = best_components(np.concatenate([best_components(block, 3), merged]), 3)
    assert merged.tolist() == whole.tolist()
    for owner in range(5):
        own = sorted((r, n, c) for o, c, n, r in records.tolist() if o == owner)
        expected: list[tuple[int, int, int]] = []
        for rank, node, component in own:
            if component not in [c for _, _, c in expected] and len(expected) < 3:
                expected.append((rank, node, component))
        mine = whole[whole["owner"] == owner]
        assert [(int(r["rank"]), int(r["node"]), int(r["component"])) for r in mine] == expected


def test_a_probe_is_the_mean_of_sixteen_pixels() -> None:
    thumbs = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
    probes = probes_of(thumbs)
    assert probes.shape == (3, 256)
    for picture, row, column in ((0, 0, 0), (1, 3, 15), (2, 15, 7)):
        tile = thumbs[picture, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert probes[picture, 16 * row + column] == int(tile.mean() + 0.5)
