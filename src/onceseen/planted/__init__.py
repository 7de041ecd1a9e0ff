"""Planted duplicates: known copies of real photographs, in shards, with the truth beside them.

`transforms` and `composites` make a copy of a picture, `pages` the pictures that must not match, `shards`
writes samples as img2dataset does, `demo` puts them together. Everything is a function of its arguments and a
seed.
"""

from onceseen.planted.composites import COMPOSITES
from onceseen.planted.imaging import EncodedImage
from onceseen.planted.shards import (
    PlantedSample,
    sample_key,
    write_folder,
    write_parquet_shard,
    write_tar_shard,
)
from onceseen.planted.transforms import TRANSFORMS, apply_transform

__all__ = [
    "COMPOSITES",
    "TRANSFORMS",
    "EncodedImage",
    "PlantedSample",
    "apply_transform",
    "sample_key",
    "write_folder",
    "write_parquet_shard",
    "write_tar_shard",
]
