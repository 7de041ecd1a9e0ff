"""Reading a shard of any kind, whole or picture by picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onceseen.core.config import ReadConfig
from onceseen.core.failures import Failure
from onceseen.core.records import ImageSample, Shard, ShardKind
from onceseen.shards.folder_read import read_folder, read_folder_images
from onceseen.shards.parquet_read import read_parquet, read_parquet_images
from onceseen.shards.records import WantedImage
from onceseen.shards.tar_read import read_tar, read_tar_images


def read_shard(shard: Shard, config: ReadConfig) -> Iterator[ImageSample | Failure]:
    """Yields every sample of a shard in order, then a `Failure` if the shard itself is damaged.

    A sample without a picture that can be judged is an `ImageSample` with `error`; it counts as read. What is
    complete before a shard's damage is yielded first, and the rewrite writes exactly that.

    Args:
        shard: From `list_shards`.
        config: How samples are found.

    Cost: one sequential pass. Memory: one sample (tar, folder), 32 rows (parquet).
    """
    if shard.kind is ShardKind.TAR:
        return read_tar(shard, config)
    if shard.kind is ShardKind.PARQUET:
        return read_parquet(shard, config)
    return read_folder(shard, config)


def read_images(
    shard: Shard, config: ReadConfig, wanted: Sequence[WantedImage]
) -> Iterator[tuple[int, bytes]]:
    """Yields (row, encoded bytes) of some pictures of a shard, sorted by their place in it.

    Tars are read by range (one seek a picture), parquet by row group, folders by file.

    Args:
        shard: From `list_shards`.
        config: How samples are found; the one that the features were made with.
        wanted: Pictures that `read_shard` gave without an error.

    Raises:
        ValueError: If a picture is no longer where it was.
        OSError: If the shard cannot be read.
    """
    if shard.kind is ShardKind.TAR:
        return read_tar_images(shard, wanted)
    if shard.kind is ShardKind.PARQUET:
        return read_parquet_images(shard, config, wanted)
    return read_folder_images(shard, wanted)
