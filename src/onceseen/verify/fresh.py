"""The side of a picture that was fingerprinted just now, as its stored features would give it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onceseen.fingerprint import Fingerprint, View
from onceseen.verify.sides import WHOLE_BOX, Region, Side


def fresh_side(found: Fingerprint, vectors: Sequence[NDArray[np.float32]]) -> Side:
    """A side out of a fingerprint and the embeddings of its regions.

    Args:
        found: The picture's fingerprint.
        vectors: (d,) float32 each, of the whole picture and of its views, in values that float16 holds, as they would
            be stored; empty without a model.
    """
    view = found.views[0] if found.views else None
    whole, trimmed = (vectors[k] if k < len(vectors) else None for k in (0, 1))
    return Side(
        found.width,
        found.height,
        found.blank,
        float(np.float32(found.sharpness)),
        _region(WHOLE_BOX, found, whole),
        None if view is None else _region(_stored_box(view), view, trimmed),
    )


def _stored_box(view: View) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(np.float32(share)) for share in view.box)
    return x0, y0, x1, y1


def _region(
    box: tuple[float, float, float, float], found: Fingerprint | View, vector: NDArray[np.float32] | None
) -> Region:
    bits, mirrored = (np.frombuffer(value, np.uint8) for value in (found.pdq, found.pdq_mirrored))
    return Region(box, bits, mirrored, found.pdq_quality, found.thumb, vector)
