"""Finding, reading and rewriting shards: img2dataset tars, parquet files with images, folders of images.

Pure functions, one shard at a time, without a Beam pipeline: what the extract and rewrite jobs call.
"""

from onceseen.shards.listing import list_shards
from onceseen.shards.reading import read_images, read_shard
from onceseen.shards.records import RewriteSummary, VerdictRow, WantedImage
from onceseen.shards.rewriting import rewrite_shard

__all__ = [
    "RewriteSummary",
    "VerdictRow",
    "WantedImage",
    "list_shards",
    "read_images",
    "read_shard",
    "rewrite_shard",
]
