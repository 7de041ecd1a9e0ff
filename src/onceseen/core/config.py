"""Configuration: one frozen dataclass a section, and the only place where defaults live.

A section's fields are validated when it is built, so a caller's mistake is a `ValueError` before any worker
starts. YAML files and ``--set section.key=value`` flags become these classes in `onceseen.core.config_io`.

Which job depends on which section is fixed in `EXTRACT_SECTIONS`, `MATCH_SECTIONS` and `REWRITE_SECTIONS`:
a job is done again only when a section that it depends on has changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from onceseen.core.accelerator import check_accelerator, find_accelerator

_WINDOW = re.compile(r"pixels|file|[+-]?\d+(\.\d+)?/(?!0+(\.0+)?$)\d+(\.\d+)?")
EXTRACT = "extract"
"""The name of the job that `runner.extract_options` are for."""
EXTRACT_SECTIONS = ("read", "fingerprint", "embed")
MATCH_SECTIONS = ("bands", "cells", "verify", "keep")
REWRITE_SECTIONS = ("write",)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """How samples are found in shards.

    Attributes:
        key_column: Parquet column that holds the key; empty: `key` where it is unique, else the row index.
        image_column: Parquet column that holds the image bytes; empty: the first binary or `{bytes, path}` column.
        caption_column: Parquet column that holds the caption; empty: `caption`, else `text`, where there is one.
        meta_columns: Fields of the sample's json (or parquet row) that the features keep, for `keep.prefer`.
        max_pixels: A picture whose header promises more pixels is refused as a decompression bomb.
        max_bytes: An image member larger than this many bytes is refused unread.
        max_failed_fraction: Above this share of failed samples the run stops before the rewrite.
        on_failure: What the rewrite does with a sample that could not be judged: `keep` or `drop`.
        folder_split: A folder with more files than this is split into shards by a fixed hash.
        window: What of grey with more than 8 bits (DICOM, PNG, TIFF) becomes black and white: `pixels`, by the samples
            themselves; `file`, by the window that a DICOM file names, else by the samples; or CENTRE/WIDTH, in DICOM
            after its rescale, such as 40/400.
    """

    key_column: str = ""
    image_column: str = ""
    caption_column: str = ""
    meta_columns: tuple[str, ...] = ("url",)
    max_pixels: int = 200_000_000
    max_bytes: int = 256 * 1024 * 1024
    max_failed_fraction: float = 0.05
    on_failure: str = "keep"
    folder_split: int = 10_000
    window: str = "pixels"

    def __post_init__(self) -> None:
        _require(self.max_pixels > 0, "read.max_pixels", self.max_pixels, "a positive number of pixels")
        _require(self.max_bytes > 0, "read.max_bytes", self.max_bytes, "a positive number of bytes")
        _require(
            0 <= self.max_failed_fraction <= 1,
            "read.max_failed_fraction",
            self.max_failed_fraction,
            "a share in [0, 1]",
        )
        _require(self.on_failure in ("keep", "drop"), "read.on_failure", self.on_failure, "'keep' or 'drop'")
        _require(self.folder_split > 0, "read.folder_split", self.folder_split, "a positive number of files")
        _require(
            bool(_WINDOW.fullmatch(self.window)),
            "read.window",
            self.window,
            "pixels, file or CENTRE/WIDTH with a positive width, such as 40/400",
        )


@dataclass(frozen=True, slots=True)
class FingerprintConfig:
    """How pictures are hashed.

    Attributes:
        blank_std: A picture whose grey thumb has a standard deviation (0..255) under this is blank: it matches
            on exact pixels alone.
        min_pdq_quality: Under this PDQ quality (0..100) a picture matches on aligned pixels only.
        trim_borders: Whether uniform borders are found and the trimmed picture fingerprinted as a second view.
        minhash_permutations: Permutations of the caption's MinHash.
        threads: Decoding threads in one worker process; 0: the cores at hand.
    """

    blank_std: float = 4.0
    min_pdq_quality: int = 50
    trim_borders: bool = True
    minhash_permutations: int = 32
    threads: int = 0

    def __post_init__(self) -> None:
        _require(self.blank_std >= 0, "fingerprint.blank_std", self.blank_std, "a number >= 0")
        _require(
            0 <= self.min_pdq_quality <= 100,
            "fingerprint.min_pdq_quality",
            self.min_pdq_quality,
            "a quality in [0, 100]",
        )
        _require(
            1 <= self.minhash_permutations <= 256,
            "fingerprint.minhash_permutations",
            self.minhash_permutations,
            "1 to 256",
        )
        _require(self.threads >= 0, "fingerprint.threads", self.threads, "0 or more")


@dataclass(frozen=True, slots=True)
class EmbedConfig:
    """Which model embeds the pictures, and how.

    Attributes:
        model: `efficientnet-lite0` (bundled, CPU, offline), `none` (hashes only), `openclip:ARCH`,
            `torchscript:FILE` or `onnx:FILE`.
        pretrained: For OpenCLIP: the name of a checkpoint on the hub, or the path of a local one.
        device: `auto`, `cpu` or `cuda`; `cuda` fails where there is none, `auto` says what it took.
        precision: `auto`, `fp32`, `fp16` or `bf16`.
        batch_size: Pictures a batch; the last batch of a shard is padded.
        image_size: Side of the model's input for TorchScript and ONNX files, in pixels; 0: the model's own.
        mean: Channel means in [0, 1] for TorchScript and ONNX files.
        std: Channel standard deviations in [0, 1] for TorchScript and ONNX files.
        reduce: File of a PCA (whitening) matrix applied to the embeddings; empty: none.
        threads: Threads of the model on the CPU; 0: the cores at hand.
    """

    model: str = "efficientnet-lite0"
    pretrained: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
    image_size: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    reduce: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        kinds = ("efficientnet-lite0", "none")
        prefixes = ("openclip:", "torchscript:", "onnx:")
        known = self.model in kinds or any(
            self.model.startswith(p) and len(self.model) > len(p) for p in prefixes
        )
        _require(
            known, "embed.model", self.model, "one of " + ", ".join((*kinds, *(p + "..." for p in prefixes)))
        )
        _require(self.device in ("auto", "cpu", "cuda"), "embed.device", self.device, "auto, cpu or cuda")
        _require(
            self.precision in ("auto", "fp32", "fp16", "bf16"),
            "embed.precision",
            self.precision,
            "auto, fp32, fp16 or bf16",
        )
        _require(self.batch_size > 0, "embed.batch_size", self.batch_size, "a positive number of pictures")
        _require(self.image_size >= 0, "embed.image_size", self.image_size, "0 or a side in pixels")
        _require(len(self.mean) == 3, "embed.mean", self.mean, "three channel means")
        _require(
            len(self.std) == 3 and all(s > 0 for s in self.std),
            "embed.std",
            self.std,
            "three positive numbers",
        )
        _require(self.threads >= 0, "embed.threads", self.threads, "0 or more")


@dataclass(frozen=True, slots=True)
class BandsConfig:
    """Locality-sensitive bands over the 256 bits of PDQ.

    Attributes:
        enabled: Whether PDQ bands propose candidate pairs.
        bands: Number of bands.
        bits: Bits a band, sampled without replacement from the 256 by `seed`.
        max_distance: Candidate pairs are those within this Hamming distance.
        mirrored: Whether a picture also meets the mirror images of the others.
        max_bucket: A bucket larger than this is split by further bits.
        seed: Seed of the sampled bits.
    """

    enabled: bool = True
    bands: int = 32
    bits: int = 16
    max_distance: int = 31
    mirrored: bool = True
    max_bucket: int = 2_000
    seed: int = 20_230_130

    def __post_init__(self) -> None:
        _require(1 <= self.bands <= 256, "bands.bands", self.bands, "1 to 256")
        _require(4 <= self.bits <= 32, "bands.bits", self.bits, "4 to 32")
        _require(0 <= self.max_distance <= 127, "bands.max_distance", self.max_distance, "0 to 127")
        _require(self.max_bucket >= 2, "bands.max_bucket", self.max_bucket, "2 or more")


@dataclass(frozen=True, slots=True)
class CellsConfig:
    """Two-level cells over the embeddings.

    Attributes:
        enabled: Whether cells propose candidate pairs.
        cell_size: Aim for the number of vectors in a fine cell.
        coarse_probes: Coarse cells that a vector is sent to.
        fine_probes: Fine cells, within each coarse one, that a vector is sent to.
        max_cell: A fine cell larger than this is split again.
        min_cosine: Candidate pairs have at least this cosine.
        neighbors: At most this many candidate neighbours a vector (the nearest).
        train_samples: Vectors on which the coarse centroids are trained.
        iterations: k-means iterations.
        centroids: File of coarse centroids to reuse; empty: trained.
        passes: Passes over ranges of cells and bands; 0: worked out from the memory at hand.
        recall_samples: Vectors searched exactly to measure the candidates' recall; 0: not measured.
        seed: Seed of the sample and of k-means.
        device: Where cells are trained and searched: `cpu`, `cuda` or `auto`; `cuda` fails where there is none, `auto`
            says what it took. The pairs are the same; centroids trained on a GPU differ in their last bits.
    """

    enabled: bool = True
    cell_size: int = 256
    coarse_probes: int = 3
    fine_probes: int = 2
    max_cell: int = 2_048
    min_cosine: float = 0.6
    neighbors: int = 64
    train_samples: int = 65_536
    iterations: int = 8
    centroids: str = ""
    passes: int = 0
    recall_samples: int = 256
    seed: int = 20_230_130
    device: str = "cpu"

    def __post_init__(self) -> None:
        _require(self.device in ("auto", "cpu", "cuda"), "cells.device", self.device, "auto, cpu or cuda")
        for name in ("cell_size", "coarse_probes", "fine_probes", "neighbors", "train_samples", "iterations"):
            _require(getattr(self, name) >= 1, f"cells.{name}", getattr(self, name), "1 or more")
        _require(self.max_cell >= self.cell_size, "cells.max_cell", self.max_cell, "at least cells.cell_size")
        _require(-1 <= self.min_cosine <= 1, "cells.min_cosine", self.min_cosine, "a cosine in [-1, 1]")
        _require(self.passes >= 0, "cells.passes", self.passes, "0 or more")
        _require(self.recall_samples >= 0, "cells.recall_samples", self.recall_samples, "0 or more")


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """When a candidate pair is an edge.

    Attributes:
        min_score: Calibrated score, in [0, 1], from which a pair is the same picture.
        doubt_score: From this score up to certainty, pictures are read again and compared by local features.
        certain_score: From this score on, the stored features decide alone. 1, the default, is never: a thumb of
            64 x 64 shows neither a thing that moved nor a faint watermark.
        min_coverage: Share of a picture's content that the other must hold before it may be dropped for it.
        min_kept_coverage: Share of the other that the common region must make up: under it the other is a collage.
        local_features: Whether doubtful pairs are read again at all.
        every_doubtful: Whether all doubtful pairs are read again, not only those whose answer decides who is kept:
            for measuring recall by pairs.
        max_side: Longest side, in pixels, at which pictures are compared when read again.
        max_unverified: Unverified candidates a sample that the pairs table keeps.
        rounds: Rounds in which representatives of one component that were never compared are compared.
        calibration: File of the score's coefficients; empty: the one that the package ships.
    """

    min_score: float = 0.5
    doubt_score: float = 0.02
    certain_score: float = 1.0
    min_coverage: float = 0.85
    min_kept_coverage: float = 0.35
    local_features: bool = True
    every_doubtful: bool = False
    max_side: int = 384
    max_unverified: int = 8
    rounds: int = 1
    calibration: str = ""

    def __post_init__(self) -> None:
        for name in ("min_score", "doubt_score", "certain_score", "min_coverage", "min_kept_coverage"):
            _require(
                0 <= getattr(self, name) <= 1, f"verify.{name}", getattr(self, name), "a number in [0, 1]"
            )
        _require(
            self.doubt_score <= self.min_score <= self.certain_score,
            "verify.min_score",
            self.min_score,
            "verify.doubt_score <= verify.min_score <= verify.certain_score",
        )
        _require(self.max_side >= 64, "verify.max_side", self.max_side, "64 pixels or more")
        _require(self.rounds >= 0, "verify.rounds", self.rounds, "0 or more")
        _require(self.max_unverified >= 0, "verify.max_unverified", self.max_unverified, "0 or more")


@dataclass(frozen=True, slots=True)
class KeepConfig:
    """Which pictures of a group stay.

    Attributes:
        max_copies: The best so many samples of a group are kept.
        prefer: A field of `read.meta_columns` that decides before sample_id; empty: none. A leading `-` prefers
            small values. `old`: pictures of an earlier SRC come before those of a later one, and keep among
            themselves what they would have kept without those.
        alpha: A group's kept rows weigh copies^(1 - alpha) in all: 1 counts each picture once, 0 as often as
            it occurred.
    """

    max_copies: int = 1
    prefer: str = ""
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _require(self.max_copies >= 1, "keep.max_copies", self.max_copies, "1 or more")
        _require(0 <= self.alpha <= 1, "keep.alpha", self.alpha, "a number in [0, 1]")


@dataclass(frozen=True, slots=True)
class WriteConfig:
    """How the deduplicated shards are written.

    Attributes:
        member: Whether each kept sample of a tar gains a `<key>.onceseen.json` member.
        sidecar: Whether the sidecar parquet and `_stats.json` of a shard are carried along.
        fsync: Whether a shard is forced to disk before its name appears.
    """

    member: bool = True
    sidecar: bool = True
    fsync: bool = True


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """What a search of a finished run asks and says (`scan`, `serve`, `Reference`).

    Attributes:
        policy: `flag`: queries are flagged, and `--apply` writes the query set without them. `decontaminate`: queries
            are an evaluation set, and whole components of the reference that touch it leave the reference.
        near_score: A pair that is not verified is `near` from this score on; under `verify.min_score`.
        decontaminate_score: The same for the policy `decontaminate`, where a leak missed costs more than a training
            picture lost.
        looks: At most so many doubtful reference pictures a query are read again, the likeliest first.
        neighbors: Reference pictures a query whose thumbs are compared: so many of the nearest by cosine, and by PDQ.
        probes: `serve` and `Reference`: fine cells of the reference that are searched for a query.
    """

    policy: str = "flag"
    near_score: float = 0.2
    decontaminate_score: float = 0.1
    looks: int = 4
    neighbors: int = 16
    probes: int = 128

    def __post_init__(self) -> None:
        _require(
            self.policy in ("flag", "decontaminate"), "scan.policy", self.policy, "flag or decontaminate"
        )
        for name in ("near_score", "decontaminate_score"):
            _require(0 <= getattr(self, name) <= 1, f"scan.{name}", getattr(self, name), "a number in [0, 1]")
        for name in ("looks", "neighbors", "probes"):
            _require(getattr(self, name) >= 1, f"scan.{name}", getattr(self, name), "1 or more")

    @property
    def least_score(self) -> float:
        """The score from which a pair is near, by policy."""
        return self.near_score if self.policy == "flag" else self.decontaminate_score


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """Where the jobs run; never part of a job's fingerprint.

    Attributes:
        runner: Name of the Beam runner; `local` is Beam's in-process portable runner.
        workers: Worker processes of the local runner; 0 or 1: threads of this process, which uses all cores too.
        options: Further Beam options, as flags without the leading dashes. `job_name` becomes the prefix of the
            jobs' names.
        extract_options: Beam options of the extract job alone, after `options`: the accelerator and its image.
        other_options: Beam options of all other jobs, after `options`.
        attempts: How often a job is tried when a remote runner loses its workers (Dataflow tries again by itself).
    """

    runner: str = "local"
    workers: int = 0
    options: tuple[str, ...] = ()
    extract_options: tuple[str, ...] = ()
    other_options: tuple[str, ...] = ()
    attempts: int = 3

    def __post_init__(self) -> None:
        _require(bool(self.runner), "runner.runner", self.runner, "the name of a Beam runner")
        _require(self.workers >= 0, "runner.workers", self.workers, "0 or more")
        _require(self.attempts >= 1, "runner.attempts", self.attempts, "1 or more")
        check_accelerator(self.options, self.extract_options, self.other_options)

    def options_of(self, job: str) -> tuple[str, ...]:
        """The Beam options of one job; where an option is given twice, Beam takes the last."""
        return self.options + (self.extract_options if job == EXTRACT else self.other_options)


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """All sections of one run."""

    read: ReadConfig = field(default_factory=ReadConfig)
    fingerprint: FingerprintConfig = field(default_factory=FingerprintConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    bands: BandsConfig = field(default_factory=BandsConfig)
    cells: CellsConfig = field(default_factory=CellsConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    keep: KeepConfig = field(default_factory=KeepConfig)
    write: WriteConfig = field(default_factory=WriteConfig)
    scan: ScanConfig = field(default_factory=ScanConfig)
    runner: RunnerConfig = field(default_factory=RunnerConfig)

    def __post_init__(self) -> None:
        name = self.keep.prefer.removeprefix("-")
        _require(
            name in ("", "old") or name in self.read.meta_columns,
            "keep.prefer",
            self.keep.prefer,
            f"a field of read.meta_columns {list(self.read.meta_columns)}: add it there, since extract must keep it",
        )
        _require(
            self.bands.enabled or self.cells.enabled,
            "bands.enabled and cells.enabled",
            False,
            "at least one of the two, or no candidate pair is ever proposed",
        )
        _require(
            self.embed.device == "cuda" or find_accelerator(self.runner.extract_options) is None,
            "embed.device",
            self.embed.device,
            "'cuda' where runner.extract_options asks for a GPU, or a worker without a driver would pass unseen",
        )
