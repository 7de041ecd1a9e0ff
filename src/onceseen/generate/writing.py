"""Writes a model's pictures as WebDataset shards, a batch at a time, resumable shard by shard.

The generations of a prompt lie one after the other, prompts in the order given. A shard holds whole prompts where they
fit. A sample is `<key>.png`, `<key>.txt` (the prompt, which readers take for its caption) and `<key>.json`:

    {"index":17,"prompt":"a red fox","prompt_id":"5d0c...","seed":6128764500813476041}

A tar that is there is whole; `.onceseen-generate.json` beside it says of which prompts, settings and generator.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from onceseen.core.files import (
    atomic_write,
    join,
    list_files,
    plain_path,
    read_json_if_there,
    remove_files,
    remove_temporaries,
    write_json,
)
from onceseen.core.layout import RunLayout
from onceseen.generate.prompts import generation_seed, prompt_id
from onceseen.jobs.lock import run_lock
from onceseen.shards.tar_write import end_of_archive, member_bytes
from onceseen.stats.text import normalise_caption

RECORD = ".onceseen-generate.json"
IMAGE_FORMATS: Mapping[str, Sequence[int]] = {"png": (), "webp": (cv2.IMWRITE_WEBP_QUALITY, 101)}
"""Lossless formats, with OpenCV's parameters; a WebP quality over 100 is lossless."""
_MAX_SHARD, _MAX_SHARDS = 10_000, 100_000


class Generator(Protocol):
    """A text-to-image model: pictures of prompts, each a function of its own prompt and seed.

    It may have an attribute `spec`, a mapping that JSON can hold and that says what it is (weights, settings): shards
    of a generator with another one are not gone on with.
    """

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[NDArray[np.uint8]]:
        """Makes one picture a prompt.

        Args:
            prompts: n prompts; one may come several times.
            seeds: n numbers in [0, 2^63).

        Returns:
            n pictures, (h, w, 3) uint8 RGB; one array (n, h, w, 3) will do.
        """


@dataclass(frozen=True, slots=True)
class Written:
    """What an output directory holds after `generate_shards`.

    Attributes:
        prompts: Prompts.
        generations: Pictures.
        shards: Tars.
        made: Pictures made by this call; the others were there.
    """

    prompts: int
    generations: int
    shards: int
    made: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which generation lies where: number prompt * per_prompt + index, cut into shards of `rows`."""

    prompts: tuple[str, ...]
    per_prompt: int
    batch_size: int
    rows: int
    image_format: str

    @property
    def generations(self) -> int:
        return len(self.prompts) * self.per_prompt

    @property
    def shards(self) -> int:
        return -(-self.generations // self.rows)

    def numbers(self, shard: int) -> range:
        return range(shard * self.rows, min((shard + 1) * self.rows, self.generations))

    def batches(self, shard: int) -> Iterator[range]:
        """Its generations in batches cut from its start, so that they do not depend on what was done before."""
        numbers = self.numbers(shard)
        for start in range(0, len(numbers), self.batch_size):
            yield numbers[start : start + self.batch_size]


def generate_shards(
    generator: Generator,
    prompts: Sequence[str],
    output: str,
    *,
    per_prompt: int = 500,
    batch_size: int = 8,
    shard_size: int = 1_000,
    image_format: str = "png",
    overwrite: bool = False,
    quiet: bool = False,
) -> Written:
    """Makes `per_prompt` pictures of each prompt and writes them to `output` as `00000.tar`, `00001.tar`, ...

    A killed call is gone on with by the same call: shards that are there stay. The bytes are a function of the
    arguments and of what the generator answers, and since batches are cut from a shard's start, a shard is made of the
    same batches however often the work was interrupted.

    Memory: one batch of pictures, and the prompts. Cost: the generator's, and some 10 to 30 ms a picture of 512 pixels
    to encode it.

    Args:
        generator: The model; see `Generator`.
        prompts: Prompts, no two with the same normal form (`read_prompts` merges such).
        output: Directory of the shards, here or in a store.
        per_prompt: Generations of each prompt, with the seeds `generation_seed(prompt, 0 ... per_prompt - 1)`.
        batch_size: Pictures the generator is asked for at once; the last batch of a shard may be smaller.
        shard_size: Pictures a shard at most, 1 to 10,000; fewer where that makes shards of whole prompts.
        image_format: `png` or `webp`, both lossless.
        overwrite: Whether shards of other prompts, settings or another generator in `output` are removed.
        quiet: No progress bar.

    Raises:
        ValueError: If an argument is out of range, prompts repeat, `output` holds something else, or the generator's
            answer is not what it should be.
        LockHeldError: If another call writes to `output`.
    """
    plan = _plan(prompts, per_prompt, batch_size, shard_size, image_format)
    output = plain_path(output).rstrip("/") or "/"
    record = _record(plan, describe(generator))
    with run_lock(RunLayout(output)):
        there = _claim(output, record, overwrite=overwrite)
        missing = [shard for shard in range(plan.shards) if _path(output, shard) not in there]
        waiting = sum(len(plan.numbers(shard)) for shard in missing)
        done = plan.generations - waiting
        with tqdm(
            total=plan.generations,
            initial=done,
            desc="generate",
            unit="picture",
            dynamic_ncols=True,
            disable=quiet or not missing,
        ) as bar:
            for shard in missing:
                _write_shard(generator, plan, shard, output, bar)
    return Written(len(plan.prompts), plan.generations, plan.shards, waiting)


def describe(generator: Generator) -> dict[str, Any]:
    """What a generator is: its `spec`, or else the name of its function or class.

    Raises:
        ValueError: If JSON cannot hold its `spec`.
    """
    named = generator if hasattr(generator, "__qualname__") else type(generator)
    name = f"{named.__module__}:{named.__qualname__}"
    spec = getattr(generator, "spec", None)
    described = {"kind": "callable", "name": name} if spec is None else spec
    try:
        return dict(json.loads(json.dumps(described)))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the generator {name} has a spec that JSON cannot hold ({error}); expected a mapping"
        ) from error


def _plan(
    prompts: Sequence[str], per_prompt: int, batch_size: int, shard_size: int, image_format: str
) -> _Plan:
    for name, value, most in (
        ("per_prompt", per_prompt, None),
        ("batch_size", batch_size, None),
        ("shard_size", shard_size, _MAX_SHARD),
    ):
        if value < 1 or (most is not None and value > most):
            expected = f"1 to {most}" if most else "1 or more"
            raise ValueError(f"generate: {name} is {value}; expected {expected}")
    if image_format not in IMAGE_FORMATS:
        raise ValueError(
            f"generate: the image format is {image_format!r}; expected one of {', '.join(IMAGE_FORMATS)}"
        )
    _check_prompts(prompts)
    rows = shard_size // per_prompt * per_prompt or shard_size
    plan = _Plan(tuple(prompts), per_prompt, batch_size, rows, image_format)
    if plan.shards > _MAX_SHARDS:
        raise ValueError(
            f"generate: {plan.generations:,} pictures are {plan.shards:,} shards; expected at most {_MAX_SHARDS:,}: "
            "raise shard_size, or part the prompts between several outputs"
        )
    return plan


def _check_prompts(prompts: Sequence[str]) -> None:
    if not prompts:
        raise ValueError("generate: there is no prompt; expected at least one")
    first: dict[str, int] = {}
    for number, prompt in enumerate(prompts):
        normal = normalise_caption(prompt)
        if not normal:
            raise ValueError(f"generate: prompt {number} is empty; give it a text, or take it out")
        if first.setdefault(normal, number) != number:
            raise ValueError(
                f"generate: prompts {first[normal]} and {number} are the same but for case and white space: "
                f"{prompt!r}; expected each prompt once"
            )


def _record(plan: _Plan, generator: Mapping[str, Any]) -> dict[str, Any]:
    """All that the bytes of the shards depend on."""
    joined = "\0".join(plan.prompts).encode("utf-8", "surrogateescape")
    return {
        "generator": dict(generator),
        "prompts": {"count": len(plan.prompts), "sha256": hashlib.sha256(joined).hexdigest()},
        "per_prompt": plan.per_prompt,
        "batch_size": plan.batch_size,
        "shard_size": plan.rows,
        "image_format": plan.image_format,
    }


def _path(output: str, shard: int) -> str:
    return join(output, f"{shard:05d}.tar")


def _claim(output: str, record: Mapping[str, Any], *, overwrite: bool) -> set[str]:
    """Makes the directory this call's own; gives the tars in it that count.

    Raises:
        ValueError: If it holds something else.
    """
    path = join(output, RECORD)
    old = read_json_if_there(path)
    shown = {file for file in list_files(output) if not file.rpartition("/")[2].startswith(".")}
    if old is None and shown:
        raise ValueError(
            f"{output} holds files that onceseen generate did not write, such as {min(shown)}; give a new directory "
            "by --output"
        )
    if old is not None:
        remove_temporaries(output)
    tars = {file for file in shown if file.endswith(".tar")}
    if old == record and not overwrite:
        return tars
    if tars and not overwrite:
        raise ValueError(
            f"{output} holds pictures made otherwise: {_differences(old, record)}. Give another --output, or "
            "--overwrite to start again"
        )
    remove_files(sorted(tars))  # before the new record, by which they would count
    write_json(path, record)
    return set()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    before, now = _flat(old), _flat(new)
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r}, is now {now.get(name)!r}" for name in names)


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found.update(
            _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
        )
    return found


def _write_shard(generator: Generator, plan: _Plan, shard: int, output: str, bar: tqdm[Any]) -> None:
    written = row = 0
    with atomic_write(_path(output, shard)) as stream:
        for batch in plan.batches(shard):
            places = [divmod(number, plan.per_prompt) for number in batch]
            prompts = [plan.prompts[which] for which, _ in places]
            seeds = [generation_seed(plan.prompts[which], index) for which, index in places]
            pictures = _checked(generator(prompts, seeds), prompts)
            for (_, index), prompt, seed, picture in zip(places, prompts, seeds, pictures, strict=True):
                key = f"{shard:05d}{row:04d}"
                sample = _sample(key, prompt, index, seed, picture, plan.image_format)
                stream.write(sample)
                written += len(sample)
                row += 1
                bar.update()
        stream.write(end_of_archive(written))


def _checked(pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Sequence[NDArray[np.uint8]]:
    """The generator's answer, if it is what it should be.

    Raises:
        ValueError: Saying what it is instead.
    """
    if len(pictures) != len(prompts):
        raise ValueError(
            f"the generator gave {len(pictures)} pictures for {len(prompts)} prompts; expected one each"
        )
    for picture, prompt in zip(pictures, prompts, strict=True):
        right = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3
        if not right or picture.shape[2] != 3 or not picture.size:
            got = (
                f"{picture.dtype} {picture.shape}"
                if isinstance(picture, np.ndarray)
                else type(picture).__name__
            )
            raise ValueError(
                f"the generator gave {got} for {prompt!r}; expected an array (h, w, 3) of uint8, red first"
            )
    return pictures


def _sample(
    key: str, prompt: str, index: int, seed: int, picture: NDArray[np.uint8], image_format: str
) -> bytes:
    """The members of one sample, by name."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(f".{image_format}", bgr, list(IMAGE_FORMATS[image_format]))
    if not done:
        raise RuntimeError(f"OpenCV cannot encode a picture of {picture.shape} as {image_format}")
    fields = {"index": index, "prompt": prompt, "prompt_id": prompt_id(prompt), "seed": seed}
    note = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    members = {image_format: encoded.tobytes(), "json": note.encode(), "txt": prompt.encode()}
    return b"".join(member_bytes(f"{key}.{name}".encode(), members[name]) for name in sorted(members))
