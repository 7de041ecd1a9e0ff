"""What a pair is judged by, and the judgement: plain records without any image library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THUMB_SIDE = 64
WHOLE_BOX = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Region:
    """The whole of a picture, or its view without uniform borders.

    Attributes:
        box: x0, y0, x1, y1 as shares of the picture's width and height.
        pdq: (32,) uint8, the 256 bits of PDQ.
        pdq_mirrored: (32,) uint8, PDQ of the mirror image.
        pdq_quality: PDQ's own quality, 0..100.
        thumb: (64, 64) uint8 grey, the region squeezed to a square.
        embedding: (d,) float32, unit L2; None without a model.
    """

    box: tuple[float, float, float, float]
    pdq: NDArray[np.uint8]
    pdq_mirrored: NDArray[np.uint8]
    pdq_quality: int
    thumb: NDArray[np.uint8]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One picture of a pair, by its stored features.

    Attributes:
        width: Pixels.
        height: Pixels.
        blank: Whether the picture is flat: such a picture is never verified here.
        sharpness: Effective resolution, pixels of real detail along the diagonal.
        whole: The whole picture.
        trimmed: Its view without uniform borders; None if it has none.
    """

    width: int
    height: int
    blank: bool
    sharpness: float
    whole: Region
    trimmed: Region | None = None

    def regions(self) -> tuple[Region, ...]:
        """The whole and, where there is one, the trimmed view."""
        return (self.whole,) if self.trimmed is None else (self.whole, self.trimmed)

    def content_box(self) -> tuple[float, float, float, float]:
        """Box of the content: uniform borders are not content."""
        return self.whole.box if self.trimmed is None else self.trimmed.box

    def order(self) -> tuple[bytes, bytes, int, int, float, bytes]:
        """A total order of sides by content, so that a pair is judged in one order whichever way it is given."""
        inner = b"" if self.trimmed is None else self.trimmed.thumb.tobytes()
        vector = b"" if self.whole.embedding is None else self.whole.embedding.tobytes()
        return self.whole.thumb.tobytes(), inner, self.width, self.height, self.sharpness, vector


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is known of a pair.

    Attributes:
        verified: Whether both show the same picture, by two independent signals.
        score: Calibrated probability of that, in [0, 1], rounded to 1e-6.
        kind: `perceptual` where PDQ agrees, else `embedding`.
        cosine: Largest cosine over the regions; None without embeddings.
        pdq_distance: Smallest Hamming distance over regions and mirror, 0..256.
        coverage_a: Share of a's content that is found in b.
        coverage_b: Share of b's content that is found in a.
        foreign_a: Share of a's area that is not in b: borders, overlays, interface, other pictures.
        foreign_b: The same of b.
        transform: How b comes from a, in one word (see `onceseen.verify.outcome`).
        doubtful: Whether reading the pictures again could change the answer.
    """

    verified: bool
    score: float
    kind: str
    cosine: float | None
    pdq_distance: int
    coverage_a: float
    coverage_b: float
    foreign_a: float
    foreign_b: float
    transform: str
    doubtful: bool

    def swapped(self) -> Judgement:
        """The same judgement with a and b exchanged."""
        return Judgement(
            self.verified,
            self.score,
            self.kind,
            self.cosine,
            self.pdq_distance,
            self.coverage_b,
            self.coverage_a,
            self.foreign_b,
            self.foreign_a,
            self.transform,
            self.doubtful,
        )
