"""What differs between two aligned pictures: drawn over one of them, or a part of the scene that has moved.

Text, logos and watermarks are few colours, flat or blended at one opacity, and all on one side. A person who walked on
is many colours, and where he was the *other* picture has the detail. So every connected region that differs is given to
the side that has the stronger edge along its border, and that side's pixels are explained by up to three layers, each
a flat colour or a blend s = g t + o of the other side (the compositing equation of Porter and Duff 1984).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from onceseen.verify.align import Grey
from onceseen.verify.tiles import TileMap

_DIFFERENT = 18.0  # grey levels
_NEAR = 18.0  # levels of any channel: coding noise
_LAYERS = 3
_BIN = 24
_LITTLE = 0.01
_INSET_SIDE = 0.15  # of the width, and of the height
_INSET_FILLED = 0.88  # a disc fills 0.79 of its box
_SIZEABLE = 0.15
_THICK = 3  # pixels
_FIT_PIXELS = 4096


@dataclass(frozen=True, slots=True)
class Difference:
    """Shares of the compared area.

    Attributes:
        lost: What differs.
        own_p: Part of it that is the first side's.
        own_q: Part of it that is the second side's.
        natural: Part of it that no layer explains and that is thicker than the seams of letters.
        inset: Whether part of it fills a large upright rectangle: a picture in the picture.
        faint_p: Marks of the first side where the tiles agree (see `onceseen.verify.faint`); no part of `lost`.
        faint_q: Marks of the second side.
    """

    lost: float
    own_p: float
    own_q: float
    natural: float
    inset: bool = False
    faint_p: float = 0.0
    faint_q: float = 0.0

    def natural_share(self) -> float:
        """Share of what differs that no layer explains; little where little differs."""
        return self.natural / max(self.lost, _LITTLE)

    def mixed_share(self) -> float:
        """Share of the smaller side's part: text is on one side alone, what moved is on both."""
        return min(self.own_p, self.own_q) / max(self.lost, _LITTLE)


NO_DIFFERENCE = Difference(0.0, 0.0, 0.0, 0.0)


def differing(p: Grey, q: Grey, valid: NDArray[np.bool_], tiles: TileMap) -> NDArray[np.bool_]:
    """(h, w) pixels that differ, within and around the tiles that do not agree."""
    near = np.zeros(p.shape, dtype=np.uint8)
    for row, column in zip(tiles.rows[tiles.bad], tiles.columns[tiles.bad], strict=True):
        near[row : row + tiles.side, column : column + tiles.side] = 1
    near = np.asarray(cv2.dilate(near, np.ones((tiles.side + 1, tiles.side + 1), np.uint8)), dtype=np.uint8)
    gap = (np.abs(p - q) > _DIFFERENT) & (near > 0) & valid
    closed = cv2.morphologyEx(gap.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return (np.asarray(closed) > 0) & valid


def explain(
    p: NDArray[np.float32], q: NDArray[np.float32], mask: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> tuple[Difference, NDArray[np.bool_]]:
    """Gives what differs to its sides and explains it; also (h, w) what was drawn over either picture.

    Args:
        p: (h, w, 3) float32, the first picture.
        q: (h, w, 3) float32, the second on the first one's grid.
        mask: (h, w) what differs.
        valid: (h, w) what is compared.
    """
    total = float(valid.sum())
    count = int(mask.sum())
    if count < 16:
        return Difference(count / max(total, 1.0), 0.0, 0.0, 0.0), np.zeros(mask.shape, dtype=bool)
    owner_p = _owned_by_first(p, q, mask)
    drawn = np.zeros(mask.shape, dtype=bool)
    for s, t, owned in ((p, q, mask & owner_p), (q, p, mask & ~owner_p)):
        if owned.any():
            layer = np.zeros(mask.shape, dtype=np.uint8)
            layer[owned] = _explained(s[owned], t[owned])
            # soft edges of letters are a mixture: a pixel beside a drawn one is drawn
            drawn |= owned & (np.asarray(cv2.dilate(layer, np.ones((3, 3), np.uint8))) > 0)
    own_p = float((mask & owner_p).sum())
    natural = float(_thick(mask & ~drawn).sum())
    other = count - own_p
    return Difference(count / total, own_p / total, other / total, natural / total, _has_inset(mask)), drawn


def _has_inset(mask: NDArray[np.bool_]) -> bool:
    """Whether a part of the mask, its holes filled, fills an upright rectangle of 0.15 of both sides or more."""
    height, width = mask.shape
    reach = max(3, max(height, width) // 32)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    outlines, _ = cv2.findContours(
        np.asarray(closed, dtype=np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    for outline in outlines:
        _, _, wide, high = cv2.boundingRect(outline)
        large = min(wide / width, high / height) >= _INSET_SIDE
        if large and cv2.contourArea(outline) >= _INSET_FILLED * (wide - 1) * (high - 1):
            return True
    return False


def _thick(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts of a mask that hold 3 x 3 pixels: things, not the seams of letters."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((_THICK, _THICK), np.uint8))
    return np.asarray(opened) > 0


def drawn_tiles(tiles: TileMap, drawn: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) tiles at what was drawn, unless more of them is unexplained: they say nothing about what is below."""
    around = np.asarray(cv2.dilate(drawn.astype(np.uint8), np.ones((7, 7), np.uint8))) > 0
    near, covered, natural = (_counts(tiles, m) for m in (around, drawn, mask & ~drawn))
    hidden: NDArray[np.bool_] = (near > 0) & (covered >= natural)
    return hidden


def touched_tiles(tiles: TileMap, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) tiles that hold a pixel of `marks`."""
    touched: NDArray[np.bool_] = _counts(tiles, marks) > 0
    return touched


def _counts(tiles: TileMap, picture: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) pixels of each tile that are set."""
    total = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = picture.cumsum(axis=0).cumsum(axis=1)
    r, c, n = tiles.rows, tiles.columns, tiles.side
    counts: NDArray[np.int64] = total[r + n, c + n] - total[r, c + n] - total[r + n, c] + total[r, c]
    return counts


def _owned_by_first(
    p: NDArray[np.float32], q: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(h, w) whether the part of `mask` that holds a pixel has its stronger border in p.

    Parts are connected and of one sign, so that a word replaced by another is as much the one side's as the other's.
    """
    grey_p, grey_q = (np.asarray(m.mean(axis=2), dtype=np.float32) for m in (p, q))
    slopes = [
        np.hypot(cv2.Sobel(g, cv2.CV_32F, 1, 0), cv2.Sobel(g, cv2.CV_32F, 0, 1)) for g in (grey_p, grey_q)
    ]
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    chosen = np.zeros(mask.shape, dtype=bool)
    for part in (mask & (grey_p > grey_q), mask & (grey_p <= grey_q)):
        number, labels = cv2.connectedComponents(part.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        grown = np.asarray(cv2.dilate(labels.astype(np.float32), cross)).astype(np.int64)
        border = (grown > 0) & (np.asarray(cv2.erode(part.astype(np.uint8), cross)) == 0)
        first, second = (
            np.bincount(grown[border], weights=s[border].astype(np.float64), minlength=number) for s in slopes
        )
        chosen |= part & (first > second)[labels]
    return chosen


def _explained(s: NDArray[np.float32], t: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pixels s (n, 3) up to three layers over t (n, 3) explain."""
    left = np.ones(len(s), dtype=bool)
    colours = []
    for _ in range(_LAYERS):
        if int(left.sum()) < 16:
            break
        colour = _common_colour(s[left])
        flat, mixed = np.abs(s - colour).max(axis=1) < _NEAR, _blend(s, t, left)
        if int((flat & left).sum()) >= int((mixed & left).sum()):
            if float((flat & left).mean()) > _SIZEABLE:
                colours.append(colour)
            left &= ~flat
        else:
            left &= ~mixed
    if len(colours) > 1:  # letters and their outline: the soft edges between them are mixtures of the two
        left &= ~_between(s, colours[0], colours[1])
    return ~left


def _common_colour(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The most frequent colour."""
    bins = (np.clip(pixels, 0, 255) // _BIN).astype(np.int64)
    codes = (bins[:, 0] * 32 + bins[:, 1]) * 32 + bins[:, 2]
    common = codes == np.bincount(codes).argmax()
    return np.asarray(np.median(pixels[common], axis=0), dtype=np.float32)


def _between(
    s: NDArray[np.float32], one: NDArray[np.float32], other: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Pixels near the straight line from one colour to another."""
    way = other - one
    place = np.clip((s - one) @ way / (float(way @ way) + 1e-6), 0, 1)
    near: NDArray[np.bool_] = np.abs(s - one - place[:, None] * way).max(axis=1) < _NEAR
    return near


def _blend(s: NDArray[np.float32], t: NDArray[np.float32], left: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that are a blend of the other side with one colour at one opacity; none where the fit is no blend."""
    step = 1 + int(left.sum()) // _FIT_PIXELS
    x, y = t[left][::step].astype(np.float64), s[left][::step].astype(np.float64)
    weight = np.ones(len(x))
    slope, offset = 0.0, np.zeros(3)
    for _ in range(4):
        mean_x, mean_y = np.average(x, axis=0, weights=weight), np.average(y, axis=0, weights=weight)
        variance = float((weight[:, None] * (x - mean_x) ** 2).sum())
        slope = float((weight[:, None] * (x - mean_x) * (y - mean_y)).sum()) / (variance + 1e-6)
        offset = mean_y - slope * mean_x
        gap = np.abs(y - slope * x - offset).max(axis=1)
        weight = 1.0 / (1.0 + (gap / (_NEAR / 2)) ** 2) + 1e-9
    if not 0.05 < slope < 0.95:
        return np.zeros(len(s), dtype=bool)
    near: NDArray[np.bool_] = np.abs(s - slope * t - offset).max(axis=1) < _NEAR
    return near
