"""Configuration: one frozen dataclass a section; here and in `config_input` is where defaults live.

A section's fields are validated when it is built, so a caller's mistake is a `ValueError` before any worker
starts. YAML files and ``--set section.key=value`` flags become these classes in `onceseen.core.config_io`.

Which job depends on which keys is fixed in `onceseen.jobs.state`: a job is done again only when one that it depends on
has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onceseen.core.accelerator import check_accelerator, find_accelerator
from onceseen.core.config_input import EmbedConfig, FingerprintConfig, ReadConfig, require

__all__ = [
    "AUDIT_EDGES",
    "EXTRACT",
    "AuditConfig",
    "BandsConfig",
    "CellsConfig",
    "EmbedConfig",
    "FingerprintConfig",
    "KeepConfig",
    "PipelineConfig",
    "ReadConfig",
    "RunnerConfig",
    "ScanConfig",
    "VerifyConfig",
    "WriteConfig",
]

EXTRACT = "extract"
"""The name of the job that `runner.extract_options` are for."""


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
        require(1 <= self.bands <= 256, "bands.bands", self.bands, "1 to 256")
        require(4 <= self.bits <= 32, "bands.bits", self.bits, "4 to 32")
        require(0 <= self.max_distance <= 127, "bands.max_distance", self.max_distance, "0 to 127")
        require(self.max_bucket >= 2, "bands.max_bucket", self.max_bucket, "2 or more")


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
        require(self.device in ("auto", "cpu", "cuda"), "cells.device", self.device, "auto, cpu or cuda")
        for name in ("cell_size", "coarse_probes", "fine_probes", "neighbors", "train_samples", "iterations"):
            require(getattr(self, name) >= 1, f"cells.{name}", getattr(self, name), "1 or more")
        require(self.max_cell >= self.cell_size, "cells.max_cell", self.max_cell, "at least cells.cell_size")
        require(-1 <= self.min_cosine <= 1, "cells.min_cosine", self.min_cosine, "a cosine in [-1, 1]")
        require(self.passes >= 0, "cells.passes", self.passes, "0 or more")
        require(self.recall_samples >= 0, "cells.recall_samples", self.recall_samples, "0 or more")


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
            require(
                0 <= getattr(self, name) <= 1, f"verify.{name}", getattr(self, name), "a number in [0, 1]"
            )
        require(
            self.doubt_score <= self.min_score <= self.certain_score,
            "verify.min_score",
            self.min_score,
            "verify.doubt_score <= verify.min_score <= verify.certain_score",
        )
        require(self.max_side >= 64, "verify.max_side", self.max_side, "64 pixels or more")
        require(self.rounds >= 0, "verify.rounds", self.rounds, "0 or more")
        require(self.max_unverified >= 0, "verify.max_unverified", self.max_unverified, "0 or more")


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
        require(self.max_copies >= 1, "keep.max_copies", self.max_copies, "1 or more")
        require(0 <= self.alpha <= 1, "keep.alpha", self.alpha, "a number in [0, 1]")


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
        require(self.policy in ("flag", "decontaminate"), "scan.policy", self.policy, "flag or decontaminate")
        for name in ("near_score", "decontaminate_score"):
            require(0 <= getattr(self, name) <= 1, f"scan.{name}", getattr(self, name), "a number in [0, 1]")
        for name in ("looks", "neighbors", "probes"):
            require(getattr(self, name) >= 1, f"scan.{name}", getattr(self, name), "1 or more")

    @property
    def least_score(self) -> float:
        """The score from which a pair is near, by policy."""
        return self.near_score if self.policy == "flag" else self.decontaminate_score


AUDIT_EDGES = ("pixels", "embedding", "both", "either")
"""Which pairs of generations are near-identical: by one signal, by both, or by one of the two."""


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """When a prompt's generations show that a training picture was memorised.

    Attributes:
        min_clique: So many generations of a prompt must all be near-identical to each other.
        side: Side, in pixels, of the squares that pictures are compared at; 0: the commonest longer side of the
            generations, at most `max_side`.
        max_side: Largest side that is chosen.
        match_distance: Largest tiled distance, in [0, 1], of a generation and the training picture that it shows; 0:
            calibrated.
        match_ratio: Largest distance to the nearest training picture / distance to the second-nearest distinct one.
        edge_distance: Largest tiled distance of two near-identical generations; 0: the match distance.
        edge_cosine: Least cosine of two near-identical generations; 0: calibrated.
        edges: Whose clique decides (`AUDIT_EDGES`); the other is a column.
        max_rate: Largest share of pictures that cannot have been memorised which a calibrated threshold lets pass.
        clique_steps: Most steps of a clique search; where they do not suffice, a bound is given.
        template_tiles: Tiles, of 16, that generations must share where they share but a part.
        template_contrast: Least contrast of such a tile: standard deviation of its values, in [0, 1].
        candidates: Distinct training pictures whose pixels are compared with a generation: the nearest by thumbs.
        train_samples: Training pictures whose distance to the others is measured, for comparison or to calibrate by.
    """

    min_clique: int = 10
    side: int = 0
    max_side: int = 256
    match_distance: float = 0.0
    match_ratio: float = 0.75
    edge_distance: float = 0.0
    edge_cosine: float = 0.0
    edges: str = "pixels"
    max_rate: float = 0.01
    clique_steps: int = 100_000
    template_tiles: int = 6
    template_contrast: float = 0.03
    candidates: int = 4
    train_samples: int = 2_000

    def __post_init__(self) -> None:
        require(self.min_clique >= 2, "audit.min_clique", self.min_clique, "2 generations or more")
        require(self.side == 0 or self.side >= 8, "audit.side", self.side, "0, or 8 pixels or more")
        require(self.max_side >= 8, "audit.max_side", self.max_side, "8 pixels or more")
        for name in ("match_distance", "edge_distance", "template_contrast"):
            require(0 <= getattr(self, name) <= 1, f"audit.{name}", getattr(self, name), "a number in [0, 1]")
        require(0 < self.match_ratio <= 1, "audit.match_ratio", self.match_ratio, "a number in (0, 1]")
        require(-1 <= self.edge_cosine <= 1, "audit.edge_cosine", self.edge_cosine, "a cosine in [-1, 1]")
        require(self.edges in AUDIT_EDGES, "audit.edges", self.edges, f"one of {', '.join(AUDIT_EDGES)}")
        require(0 < self.max_rate < 1, "audit.max_rate", self.max_rate, "a share over 0 and under 1")
        require(self.clique_steps >= 1, "audit.clique_steps", self.clique_steps, "1 or more")
        require(1 <= self.template_tiles <= 16, "audit.template_tiles", self.template_tiles, "1 to 16 tiles")
        require(self.candidates >= 2, "audit.candidates", self.candidates, "2 or more: the ratio is of two")
        require(self.train_samples >= 2, "audit.train_samples", self.train_samples, "2 pictures or more")


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
        require(bool(self.runner), "runner.runner", self.runner, "the name of a Beam runner")
        require(self.workers >= 0, "runner.workers", self.workers, "0 or more")
        require(self.attempts >= 1, "runner.attempts", self.attempts, "1 or more")
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
    audit: AuditConfig = field(default_factory=AuditConfig)
    runner: RunnerConfig = field(default_factory=RunnerConfig)

    def __post_init__(self) -> None:
        name = self.keep.prefer.removeprefix("-")
        require(
            name in ("", "old") or name in self.read.meta_columns,
            "keep.prefer",
            self.keep.prefer,
            f"a field of read.meta_columns {list(self.read.meta_columns)}: add it there, since extract must keep it",
        )
        require(
            self.bands.enabled or self.cells.enabled,
            "bands.enabled and cells.enabled",
            False,
            "at least one of the two, or no candidate pair is ever proposed",
        )
        require(
            self.embed.device == "cuda" or find_accelerator(self.runner.extract_options) is None,
            "embed.device",
            self.embed.device,
            "'cuda' where runner.extract_options asks for a GPU, or a worker without a driver would pass unseen",
        )
