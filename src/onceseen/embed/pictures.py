"""From a decoded picture to its fingerprint and the model's inputs: the same for a training picture and a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from onceseen.core.config import FingerprintConfig
from onceseen.embed.spec import Embedder
from onceseen.fingerprint import Fingerprint, Picture, fingerprint_image, view_pixels


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is kept of a decoded picture.

    Attributes:
        fingerprint: Hashes and measures.
        inputs: Model inputs: of the whole picture, then of each of `fingerprint.views`; empty without a model.
    """

    fingerprint: Fingerprint
    inputs: list[NDArray[Any]]


def prepare_picture(
    data: bytes,
    picture: Picture,
    config: FingerprintConfig,
    embedder: Embedder | None,
    sha256: bytes | None = None,
) -> Prepared:
    """Fingerprints a picture and preprocesses its regions; thread-safe, mostly outside the interpreter lock.

    Args:
        data: The encoded bytes that `picture` was decoded from.
        picture: The decoded picture.
        config: How pictures are hashed.
        embedder: The model, or None for hashes only.
        sha256: SHA-256 of `data`, where the caller has it already.
    """
    found = fingerprint_image(data, picture, config, sha256)
    if embedder is None:
        return Prepared(found, [])
    inputs = [embedder.preprocess(picture.rgb)]
    inputs += [embedder.preprocess(view_pixels(picture, view)) for view in found.views]
    return Prepared(found, inputs)
