"""Writes a folder of images again without the files of dropped samples."""

from __future__ import annotations

from collections.abc import Mapping

from onceseen.core.config import WriteConfig
from onceseen.core.files import atomic_write, join, open_read, remove_files
from onceseen.core.records import Shard, Verdict
from onceseen.shards.extensions import OWN_EXTENSION
from onceseen.shards.folder_read import folder_samples
from onceseen.shards.ledger import Ledger, verdict_json
from onceseen.shards.records import VerdictRow

_CHUNK = 1 << 22


def rewrite_folder(
    shard: Shard,
    verdicts: Mapping[str, VerdictRow],
    output_dir: str,
    write: WriteConfig,
    ledger: Ledger,
) -> None:
    """Copies the files of written samples, and captions and json beside them, to the same relative paths.

    `<file name>.onceseen.json` is written beside each. What an earlier rewrite left of samples that are now
    dropped is removed. A failed sample whose file cannot be read, and a caption that is gone or forbidden,
    are left out with a warning.

    Memory: 4 MiB.

    Raises:
        ValueError: If samples and verdicts do not match one to one; nothing is written then.
        OSError: If the file of a kept sample cannot be read, or the output cannot be written.
    """
    keep: dict[str, VerdictRow] = {}
    texts: dict[str, None] = {}
    left_out: list[str] = []
    samples = folder_samples(shard)
    for sample in samples:
        row = ledger.judge(sample.key)
        if row is None:
            left_out += [sample.image, *sample.texts, *sample.jsons]
        else:
            keep[sample.image] = row
            texts.update(dict.fromkeys((*sample.texts, *sample.jsons)))
    ledger.check()
    root = _output_root(shard, output_dir)
    for image, row in keep.items():
        tolerated = OSError if row.verdict == Verdict.FAILED else ()
        if not _copy(shard, root, image, write, ledger, tolerated):
            continue
        if write.member:
            data = verdict_json(row)
            with atomic_write(join(root, _note(image)), fsync=write.fsync) as stream:
                stream.write(data)
            ledger.bytes_written += len(data)
            ledger.members_added += 1
    for text in texts:
        _copy(shard, root, text, write, ledger, (FileNotFoundError, PermissionError))
    stale = [path for path in left_out if path not in keep and path not in texts]
    stale += [_note(sample.image) for sample in samples if not (write.member and sample.image in keep)]
    remove_files([join(root, path) for path in stale])


def _output_root(shard: Shard, output_dir: str) -> str:
    return join(output_dir, shard.id_prefix.rstrip("/")) if shard.id_prefix else output_dir


def _note(image: str) -> str:
    return f"{image}.{OWN_EXTENSION}"


def _copy(
    shard: Shard,
    root: str,
    path: str,
    write: WriteConfig,
    ledger: Ledger,
    tolerated: type[OSError] | tuple[type[OSError], ...],
) -> bool:
    """Copies one file byte for byte; False, with a warning, if it cannot be opened by a tolerated error."""
    source = join(shard.path, path)
    try:
        stream = open_read(source)
    except tolerated as error:
        ledger.warnings.append(f"{source} is left out: {error}")
        return False
    with stream, atomic_write(join(root, path), fsync=write.fsync) as output:
        while chunk := stream.read(_CHUNK):
            output.write(chunk)
            ledger.bytes_read += len(chunk)
            ledger.bytes_written += len(chunk)
    ledger.members_copied += 1
    return True
