"""Two aligned grey rasters, compared tile by tile.

A tile's brightness plane is removed on both sides, so that a sky's gradient is no evidence; what remains is
correlated. A tile is *textured* if either side has detail, and *bad* if it is textured and does not correlate or if
its brightness is far off after gain and offset. The displacement of each tile (Lucas and Kanade) tells another frame
of a scene, whose parts have moved against each other, from a copy, whose parts have not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import Grey, slope

_FAR_MEAN = 28.0  # grey levels between tile means after gain and offset
_GOOD_NCC = 0.65


@dataclass(frozen=True, slots=True)
class TileMap:
    """Tiles of a comparison; every array is (n,).

    Attributes:
        rows: First raster row of each tile.
        columns: First raster column of each tile.
        ncc: Correlation of detail in [-1, 1]; 0 where there is none.
        textured: Whether either side has detail.
        bad: Whether the tile does not agree.
        weight: Detail, root mean square of the stronger side in grey levels.
        energy_p: Variance of detail of the first raster.
        energy_q: Variance of detail of the second, after gain.
        cross: Covariance of detail.
        difference: Variance of what remains between the two after a gain of the tile's own.
        shift: Displacement of the second against the first, in pixels.
        gained: Share of the tile's difference that the displacement explains, in [0, 1].
        around: Displacement of the tile and its neighbours together, in pixels; bad ones do not count.
        clear: Whether nothing is known to be drawn on it or beside it: else `around` tells of that too.
        side: Pixels a tile is wide and high.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    ncc: NDArray[np.float64]
    textured: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    weight: NDArray[np.float64]
    energy_p: NDArray[np.float64]
    energy_q: NDArray[np.float64]
    cross: NDArray[np.float64]
    difference: NDArray[np.float64]
    shift: NDArray[np.float64]
    gained: NDArray[np.float64]
    around: NDArray[np.float64]
    clear: NDArray[np.bool_]
    side: int

    def subset(self, kept: NDArray[np.bool_]) -> TileMap:
        """The tiles where `kept`."""
        spared = self.unclear(~kept)
        arrays = {f.name: getattr(spared, f.name)[kept] for f in fields(self) if f.name != "side"}
        return TileMap(**arrays, side=self.side)

    def unclear(self, drawn: NDArray[np.bool_]) -> TileMap:
        """The same tiles, those where `drawn` and their neighbours no longer clear."""
        if not drawn.any():
            return self
        return replace(self, clear=self.clear & ~self._beside(drawn))

    def _beside(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) whether a tile or one of its eight neighbours is chosen."""
        down, across = ((m - m.min()) // self.side + 1 for m in (self.rows, self.columns))
        raster = np.zeros((int(down.max()) + 2, int(across.max()) + 2), dtype=np.uint8)
        raster[down[chosen], across[chosen]] = 1
        near: NDArray[np.bool_] = np.asarray(cv2.dilate(raster, np.ones((3, 3), np.uint8)))[down, across] > 0
        return near


def compare_tiles(p: Grey, q: Grey, valid: NDArray[np.bool_], side: int, noise: float) -> TileMap:
    """Compares two rasters of equal shape where `valid`.

    Args:
        p: (h, w) float32 grey.
        q: (h, w) float32 grey, gain and offset already applied.
        valid: (h, w) bool, where both pictures are.
        side: Tile side in pixels.
        noise: Grey levels (root mean square) that coding noise alone may reach; detail is what exceeds it.
    """
    grid = _tile_grid(valid, side)
    rows, columns = grid.rows, grid.columns
    tp, tq, gx, gy = (grid.cut(m) for m in (p, q, slope(p, 1, 0), slope(p, 0, 1)))
    mean_gap = np.abs(tp.mean(axis=1) - tq.mean(axis=1))
    basis = _plane_basis(side)
    dp, dq = tp - (tp @ basis.T) @ basis, tq - (tq @ basis.T) @ basis
    area = side * side
    energy_p, energy_q = (dp * dp).sum(axis=1) / area, (dq * dq).sum(axis=1) / area
    cross = (dp * dq).sum(axis=1) / area
    stronger = np.maximum(energy_p, energy_q)
    textured = stronger > noise * noise
    ncc = np.where(textured, cross / np.sqrt(energy_p * energy_q + 0.25 * noise**2 * stronger + 1e-9), 0.0)
    local = np.clip(
        cross / (energy_q + 1e-9), 0.6, 1.6
    )  # clipping and vignettes change the gain from place to place
    difference = energy_p + local**2 * energy_q - 2 * local * cross
    bad = (textured & (ncc < _GOOD_NCC) & (difference > noise * noise)) | (mean_gap > _FAR_MEAN)
    places = (rows - rows.min(initial=0)) // side, (columns - columns.min(initial=0)) // side
    shift, gained, around = _displacements(dp, dq * local[:, None], gx, gy, noise, places, ~bad)
    return TileMap(
        rows=rows,
        columns=columns,
        ncc=ncc,
        textured=textured,
        bad=bad,
        weight=np.sqrt(stronger),
        energy_p=energy_p,
        energy_q=energy_q,
        cross=cross,
        difference=difference,
        shift=shift,
        gained=gained,
        around=around,
        clear=np.ones(rows.size, dtype=bool),
        side=side,
    )


@dataclass(frozen=True, slots=True)
class _TileGrid:
    """Whole tiles inside a mask.

    Attributes:
        rows: (n,) first raster row of each tile.
        columns: (n,) first raster column of each tile.
        box: Top, left, tiles down, tiles across of the raster of tiles that they are taken from.
        kept: (down * across,) which tiles of it are whole.
        side: Pixels a tile is wide and high.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    box: tuple[int, int, int, int]
    kept: NDArray[np.bool_]
    side: int

    def cut(self, image: Grey) -> NDArray[np.float64]:
        """(n, side^2) pixels of each tile."""
        top, left, down, across = self.box
        part = image[top : top + down * self.side, left : left + across * self.side]
        tiles = part.reshape(down, self.side, across, self.side).swapaxes(1, 2)
        return tiles.reshape(down * across, self.side**2)[self.kept].astype(np.float64)


def _tile_grid(valid: NDArray[np.bool_], side: int) -> _TileGrid:
    """Whole tiles inside `valid`, the raster of tiles anchored at the corner of its bounding box."""
    ys, xs = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    if not ys.size or min(ys[-1] + 1 - ys[0], xs[-1] + 1 - xs[0]) < side:
        none = np.zeros(0, np.int64)
        return _TileGrid(none, none, (0, 0, 0, 0), np.zeros(0, dtype=bool), side)
    top, left = int(ys[0]), int(xs[0])
    down, across = (int(ys[-1]) + 1 - top) // side, (int(xs[-1]) + 1 - left) // side
    part = valid[top : top + down * side, left : left + across * side]
    kept = part.reshape(down, side, across, side).all(axis=(1, 3)).ravel()
    r, c = (m.ravel()[kept] for m in np.divmod(np.arange(down * across), across))
    return _TileGrid(top + side * r, left + side * c, (top, left, down, across), kept, side)


def _plane_basis(side: int) -> NDArray[np.float64]:
    """(3, side^2) orthonormal constant, x and y."""
    ramp = np.arange(side) - (side - 1) / 2
    ones = np.ones((side, side))
    basis = np.stack([ones, ones * ramp[None, :], ones * ramp[:, None]]).reshape(3, -1)
    return np.asarray(basis / np.linalg.norm(basis, axis=1, keepdims=True), dtype=np.float64)


def _displacements(
    dp: NDArray[np.float64],
    dq: NDArray[np.float64],
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    noise: float,
    grid: tuple[NDArray[np.int64], NDArray[np.int64]],
    fair: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Length of each tile's displacement, the share of its difference that it explains, and the length over 3 x 3.

    Coding noise displaces each tile its own way and averages out over nine; what moved in the scene does not.
    """
    area = dp.shape[1]
    difference = dq - dp
    ridge = 0.0625 * noise * noise * area
    normal = np.stack(
        [
            (gx * gx).sum(axis=1),
            (gx * gy).sum(axis=1),
            (gy * gy).sum(axis=1),
            (gx * difference).sum(axis=1),
            (gy * difference).sum(axis=1),
        ]
    )
    sx, sy = _solve(normal, ridge)
    before = (difference * difference).sum(axis=1)
    explained = np.clip(sx * normal[3] + sy * normal[4], 0, None)
    gained = np.clip(explained / (before + 4 * ridge), 0, 1)
    return np.hypot(sx, sy), gained, np.hypot(*_solve(_over_neighbours(normal * fair, *grid), 4 * ridge))


def _solve(normal: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b, c, e, f = normal
    a, c = a + ridge, c + ridge
    determinant = a * c - b * b
    return (c * e - b * f) / determinant, (a * f - b * e) / determinant


def _over_neighbours(
    normal: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(5, n) sums over each tile and its eight neighbours; missing tiles count as nothing."""
    if not rows.size:
        return normal
    raster = np.zeros((5, int(rows.max()) + 3, int(columns.max()) + 3))
    raster[:, rows + 1, columns + 1] = normal
    tall = raster[:, :-2] + raster[:, 1:-1] + raster[:, 2:]
    wide: NDArray[np.float64] = tall[:, :, :-2] + tall[:, :, 1:-1] + tall[:, :, 2:]
    return np.ascontiguousarray(wide[:, rows, columns])
