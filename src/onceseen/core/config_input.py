"""Configuration of what is read, fingerprinted and embedded: the sections that the extract job depends on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WINDOW = re.compile(r"pixels|file|[+-]?\d+(\.\d+)?/(?!0+(\.0+)?$)\d+(\.\d+)?")


def require(holds: bool, name: str, value: object, expected: str) -> None:
    """Refuses a value.

    Raises:
        ValueError: Naming the key, the value and what is expected, unless it holds.
    """
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
        require(self.max_pixels > 0, "read.max_pixels", self.max_pixels, "a positive number of pixels")
        require(self.max_bytes > 0, "read.max_bytes", self.max_bytes, "a positive number of bytes")
        require(
            0 <= self.max_failed_fraction <= 1,
            "read.max_failed_fraction",
            self.max_failed_fraction,
            "a share in [0, 1]",
        )
        require(self.on_failure in ("keep", "drop"), "read.on_failure", self.on_failure, "'keep' or 'drop'")
        require(self.folder_split > 0, "read.folder_split", self.folder_split, "a positive number of files")
        require(
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
        require(self.blank_std >= 0, "fingerprint.blank_std", self.blank_std, "a number >= 0")
        require(
            0 <= self.min_pdq_quality <= 100,
            "fingerprint.min_pdq_quality",
            self.min_pdq_quality,
            "a quality in [0, 100]",
        )
        require(
            1 <= self.minhash_permutations <= 256,
            "fingerprint.minhash_permutations",
            self.minhash_permutations,
            "1 to 256",
        )
        require(self.threads >= 0, "fingerprint.threads", self.threads, "0 or more")


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
        require(
            known, "embed.model", self.model, "one of " + ", ".join((*kinds, *(p + "..." for p in prefixes)))
        )
        require(self.device in ("auto", "cpu", "cuda"), "embed.device", self.device, "auto, cpu or cuda")
        require(
            self.precision in ("auto", "fp32", "fp16", "bf16"),
            "embed.precision",
            self.precision,
            "auto, fp32, fp16 or bf16",
        )
        require(self.batch_size > 0, "embed.batch_size", self.batch_size, "a positive number of pictures")
        require(self.image_size >= 0, "embed.image_size", self.image_size, "0 or a side in pixels")
        require(len(self.mean) == 3, "embed.mean", self.mean, "three channel means")
        require(
            len(self.std) == 3 and all(s > 0 for s in self.std),
            "embed.std",
            self.std,
            "three positive numbers",
        )
        require(self.threads >= 0, "embed.threads", self.threads, "0 or more")
