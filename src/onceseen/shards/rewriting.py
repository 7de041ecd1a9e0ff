"""Writing a shard of any kind again without its dropped samples."""

from __future__ import annotations

from collections.abc import Mapping

from onceseen.core.config import ReadConfig, WriteConfig
from onceseen.core.files import join
from onceseen.core.records import Shard, ShardKind
from onceseen.shards.folder_write import rewrite_folder
from onceseen.shards.ledger import Ledger
from onceseen.shards.parquet_write import rewrite_parquet
from onceseen.shards.records import RewriteSummary, VerdictRow
from onceseen.shards.sidecar import rewrite_sidecars
from onceseen.shards.tar_write import rewrite_tar


def rewrite_shard(
    shard: Shard,
    verdicts: Mapping[str, VerdictRow],
    output_dir: str,
    read: ReadConfig,
    write: WriteConfig,
) -> RewriteSummary:
    """Writes a shard again, in its own format and under its own name, without its dropped samples.

    Members of kept samples are copied byte for byte, in order. Failed samples are written too (with what is
    known of them) unless `read.on_failure` is `drop`. The output appears under its name only when it is
    whole, and is a function of the input and the verdicts: a retry writes the same bytes.

    Args:
        shard: From `list_shards`.
        verdicts: By key, for every sample that `read_shard` gave, failed ones included.
        output_dir: Directory of the output: `<name>.tar` with its sidecars, `<name>.parquet`, or a folder's
            paths.
        read: The config that the shard was read with.
        write: How it is written.

    Returns:
        Counts that add up: read = kept + dropped + failed.

    Raises:
        ValueError: If samples and verdicts do not match one to one: the shard has changed since it was read.
        OSError: If the input cannot be read (any more) or the output cannot be written: try again.
    """
    ledger = Ledger(shard, verdicts, read)
    if shard.kind is ShardKind.TAR:
        target = join(output_dir, f"{shard.name}.tar")
        met = rewrite_tar(shard, verdicts, target, write, ledger)
        rewrite_sidecars(shard, met, target, write, ledger)
    elif shard.kind is ShardKind.PARQUET:
        rewrite_parquet(shard, verdicts, join(output_dir, f"{shard.name}.parquet"), read, write, ledger)
    else:
        rewrite_folder(shard, verdicts, output_dir, write, ledger)
    ledger.check()
    return ledger.summary()
