"""Records of this room: what is asked of a shard, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WantedImage:
    """A picture to be read again.

    Attributes:
        row: Its place in the shard.
        key: Its key.
        member: Name of its member, as the features file has it.
        member_offset: Offset of its bytes in the shard's file; -1 for parquet and folders.
        member_size: Length of its bytes.
    """

    row: int
    key: str
    member: str
    member_offset: int
    member_size: int


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """A sample's row of verdicts/<shard>.parquet, as far as the rewrite needs it.

    Attributes:
        sample_id: The sample.
        verdict: `keep`, `drop` or `failed`.
        representative_id: The kept sample that stands for it (itself, if kept).
        copies: Pictures that the representative stands for, itself included.
        component_id: Id of the connected component.
        component_size: Samples in it.
        weight: Weight in training.
        kind: Strongest kind of evidence, empty if none.
        score: Score of that evidence.
    """

    sample_id: str
    verdict: str
    representative_id: str
    copies: int
    component_id: str
    component_size: int
    weight: float
    kind: str
    score: float


@dataclass(frozen=True, slots=True)
class RewriteSummary:
    """What the rewrite of one shard did: under 1 KB, and `read == kept + dropped + failed`.

    Attributes:
        shard: Name of the shard.
        read: Samples met.
        kept: Samples written because their verdict is `keep`.
        dropped: Samples left out because their verdict is `drop`.
        failed: Samples that could not be judged; written or not by `read.on_failure`.
        written: Samples in the output: kept, and failed ones if those are kept.
        bytes_read: Bytes read from the input, sidecars included.
        bytes_written: Bytes of the output, sidecars included.
        members_copied: Tar members (folder: files) of written samples, copied byte for byte.
        members_added: `.onceseen.json` members (folder: files) added.
        members_passed: Tar members that belong to no sample (directories, links, names without extension),
            copied.
        sidecar_rows: Rows of the sidecar parquet in the output.
        damaged: Where the shard itself is damaged: `<reason>: <detail>`, and the output holds what came
            before.
        warnings: What was carried along as it was because it could not be filtered.
    """

    shard: str
    read: int
    kept: int
    dropped: int
    failed: int
    written: int
    bytes_read: int
    bytes_written: int
    members_copied: int = 0
    members_added: int = 0
    members_passed: int = 0
    sidecar_rows: int = 0
    damaged: str = ""
    warnings: tuple[str, ...] = ()
