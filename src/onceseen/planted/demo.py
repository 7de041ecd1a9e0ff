"""Makes the demo: real photographs with planted copies and hard negatives, as LAION-style shards with truth.

    python -m onceseen.planted.demo --photos examples/photos --output DIR

DIR/shards holds the set, to be given to `onceseen dedup`; DIR/manifest.csv the truth, to be given to
`onceseen evaluate`: header file,source_id,transform, `file` being the sample_id, one row for each source of
a sample. Every photograph is there once as it is (two may show the same scene: different photographs, so
different source_ids), some with up to 39 copies. The bytes depend on the photographs, the seed and the
releases of OpenCV and pyarrow alone.
"""

from __future__ import annotations

import argparse
import csv
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onceseen.planted.composites import COMPOSITES, apply_composite
from onceseen.planted.imaging import EncodedImage, decode_rgb, encode_jpeg
from onceseen.planted.pages import blank_picture, broken_files, template_page
from onceseen.planted.plan import (
    ORIGINAL,
    RECAPTIONED,
    UNTOUCHED,
    DemoConfig,
    Photo,
    PlannedImage,
    plan_images,
    read_photos,
    seeded,
)
from onceseen.planted.shards import (
    PlantedSample,
    sample_key,
    shard_name,
    write_folder,
    write_parquet_shard,
    write_tar_shard,
)
from onceseen.planted.transforms import apply_transform

_LOG = logging.getLogger(__name__)
_WRITERS: dict[str, Callable[[Path, int, Sequence[PlantedSample]], Path]] = {
    "tar": write_tar_shard,
    "parquet": write_parquet_shard,
    "folder": write_folder,
}
_CAPTIONS = (
    "{title}",
    "{title} by {author}",
    "Photo: {title}",
    "{title} - stock photo",
    "{title} | free wallpaper",
    "Download {title} (high resolution)",
)
_ERRORS = ("HTTP Error 404: Not Found", "HTTP Error 403: Forbidden", "<urlopen error timed out>")


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """A sample and what the manifest says of it; no labels for a failed download."""

    sample: PlantedSample
    transform: str
    source_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What was written: samples (failed downloads not counted), sources and manifest rows, and where."""

    shards: Path
    manifest: Path
    samples: int
    sources: int
    rows: int


def build_demo(
    photos: Path, output: Path, config: DemoConfig | None = None, layout: str = "tar", overwrite: bool = False
) -> DemoSummary:
    """Write the demo's shards and manifest; about 15 s and 300 MB of memory for the default config.

    Args:
        photos: Directory with the photographs and LICENSES.csv.
        output: Gets `shards/` and `manifest.csv`.
        config: What to plant; the default makes about 840 samples in 8 shards.
        layout: `tar`, `parquet` or `folder`.
        overwrite: Whether an `output/shards` that is there is replaced.

    Raises:
        ValueError: unknown layout, photographs missing, or `output/shards` is there and overwrite is not set.
    """
    config = config or DemoConfig()
    if layout not in _WRITERS:
        raise ValueError(f"layout: expected one of {', '.join(_WRITERS)}, got {layout!r}")
    shards = output / "shards"
    table = read_photos(photos)
    planned = plan_images(table, config)
    if shards.exists():
        if not overwrite:
            raise ValueError(f"--output {output}: {shards} is there already; give --overwrite to replace it")
        shutil.rmtree(shards)
    shards.mkdir(parents=True)
    samples = [_make_sample(image, photos, config.seed) for image in planned]
    samples += _broken_samples(photos / table[0].file) if config.broken else []
    samples += [_failed_download(i) for i in range(config.failed_downloads)]
    order = seeded(config.seed, "shards").permutation(len(samples))
    rows: list[tuple[str, str, str]] = []
    for shard_id, places in enumerate(np.array_split(order, config.num_shards)):
        members = [samples[int(place)] for place in places]
        _WRITERS[layout](shards, shard_id, [member.sample for member in members])
        rows.extend(_manifest_rows(members, shard_id, layout))
    manifest = _write_manifest(output / "manifest.csv", rows)
    made = sum(member.sample.image is not None for member in samples)
    return DemoSummary(shards, manifest, made, len({source for _, source, _ in rows}), len(rows))


def _make_sample(image: PlannedImage, photos: Path, seed: int) -> LabelledSample:
    """Make one planned picture, with its caption and address."""
    encoded = _render(image, photos, seed)
    height, width = decode_rgb(encoded.data).shape[:2]
    name = image.source_ids[0].replace("#", "-")
    host = seeded(seed, "host", name, image.transform, image.number).integers(1, 9)
    url = f"https://images{int(host)}.example.com/{image.transform}/{image.number}/{name}.{encoded.extension}"
    sample = PlantedSample(_caption(image, seed), url, encoded.data, encoded.extension, width, height)
    return LabelledSample(sample, image.transform, image.source_ids)


def _render(image: PlannedImage, photos: Path, seed: int) -> EncodedImage:
    """The bytes of a planned picture; the Generator is its own, so no picture depends on another."""
    rng = seeded(seed, image.transform, image.number, *image.source_ids)
    if image.transform == "blank":
        return encode_jpeg(blank_picture(image.number), 92)
    if image.transform == "page":
        return encode_jpeg(template_page(rng), 90)
    contents = [(photos / photo.file).read_bytes() for photo in image.sources]
    if image.transform in UNTOUCHED:
        return EncodedImage(contents[0], "jpg")
    pictures = [decode_rgb(content) for content in contents]
    if image.transform in COMPOSITES:
        return apply_composite(image.transform, pictures, rng)
    return apply_transform(image.transform, pictures[0], rng)


def _caption(image: PlannedImage, seed: int) -> str:
    """The photograph's title; for copies often, and for `recaptioned` always, in other words."""
    if not image.sources:
        return f"Statement page {image.number + 1}" if image.transform == "page" else "image"
    if len(image.sources) > 1:
        return " and ".join(photo.title for photo in image.sources[:2])
    rng = seeded(seed, "caption", image.source_ids[0], image.transform, image.number)
    templates: Sequence[str] = _CAPTIONS
    if image.transform == ORIGINAL or (image.transform != RECAPTIONED and rng.random() < 0.6):
        templates = _CAPTIONS[:1]
    elif image.transform == RECAPTIONED:
        templates = _CAPTIONS[1:]
    return _fill(str(rng.choice(templates)), image.sources[0])


def _fill(template: str, photo: Photo) -> str:
    return template.format(title=photo.title, author=photo.author)


def _broken_samples(photo: Path) -> list[LabelledSample]:
    """Samples that cannot be judged, each a source of its own: nobody can say what they are copies of."""
    made = []
    for number, (transform, data) in enumerate(broken_files(photo.read_bytes())):
        url = f"https://images1.example.com/{transform}/{number}.jpg"
        sample = PlantedSample(f"Broken file {number + 1}", url, data, "jpg", 512, 384)
        made.append(LabelledSample(sample, transform, (f"broken-{number}",)))
    return made


def _failed_download(number: int) -> LabelledSample:
    url = f"https://images1.example.com/gone/{number}.jpg"
    sample = PlantedSample(f"Gone {number + 1}", url, None, error_message=_ERRORS[number % len(_ERRORS)])
    return LabelledSample(sample, "", ())


def _manifest_rows(
    members: Sequence[LabelledSample], shard_id: int, layout: str
) -> list[tuple[str, str, str]]:
    """Rows (file, source_id, transform); in a folder, `file` is the path with its extension."""
    rows: list[tuple[str, str, str]] = []
    for index, member in enumerate(members):
        suffix = f".{member.sample.extension}" if layout == "folder" else ""
        file = f"{shard_name(shard_id)}/{sample_key(shard_id, index)}{suffix}"
        rows.extend((file, source_id, member.transform) for source_id in member.source_ids)
    return rows


def _write_manifest(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("file", "source_id", "transform"))
        writer.writerows(rows)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; exit code 0 done, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m onceseen.planted.demo", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--photos", type=Path, required=True, help="directory of photographs with LICENSES.csv"
    )
    parser.add_argument("--output", type=Path, required=True, help="gets shards/ and manifest.csv")
    parser.add_argument("--seed", type=int, default=DemoConfig().seed)
    parser.add_argument("--layout", choices=sorted(_WRITERS), default="tar")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT/shards if it is there")
    args = parser.parse_args(argv)
    try:
        summary = build_demo(
            args.photos, args.output, DemoConfig(seed=args.seed), args.layout, args.overwrite
        )
    except ValueError as error:
        parser.error(str(error))
    print(
        f"{summary.samples} samples of {summary.sources} sources in {summary.shards}; "
        f"truth in {summary.manifest}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
