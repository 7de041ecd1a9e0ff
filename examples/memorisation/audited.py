"""The third judge: `onceseen audit` itself, on a model's pictures against the run that deduplicated its training set.

Pictures are written as shards again, the held-out ones as a folder, and the command does the rest: its detector, and
its own verdict on each prompt, beside which the experiment's are put.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onceseen.cli import main
from onceseen.core.files import read_table
from onceseen.generate import generate_shards, generation_seed, prompt_id
from onceseen.planted.imaging import encode_png

from .pictures import Picture, shrink

_SHARD = 512


@dataclass(frozen=True, slots=True)
class AuditedPrompt:
    """What `onceseen audit` said of a prompt.

    Attributes:
        verdict: memorised, collapsed, template, varied or too_few.
        detector: (per_prompt,) bool, by seed: generations that the detector calls duplicates of a training picture.
        references: (per_prompt,) sample ids that it names, empty where it names none.
    """

    verdict: str
    detector: NDArray[np.bool_]
    references: tuple[str, ...]


class _Replay:
    """A generator that gives back pictures made before."""

    def __init__(self, prompts: Sequence[str], generations: NDArray[np.uint8]) -> None:
        self.spec = {"kind": "replay", "sha256": hashlib.sha256(generations.tobytes()).hexdigest()}
        self._pictures = {
            (prompt, generation_seed(prompt, i)): picture
            for prompt, made in zip(prompts, generations, strict=True)
            for i, picture in enumerate(made)
        }

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [self._pictures[key] for key in zip(prompts, seeds, strict=True)]


def audit_model(
    prompts: Sequence[str],
    generations: NDArray[np.uint8],
    held_out: Sequence[Picture],
    run: Path,
    directory: Path,
) -> list[AuditedPrompt]:
    """Audits one model; a finished audit in `directory` is reused.

    Args:
        prompts: Captions.
        generations: (prompts, per_prompt, 32, 32, 3) uint8 RGB.
        held_out: Pictures that were not trained on.
        run: The finished run over the duplicated set.
        directory: Gets generated/, held-out/ and audit/.

    Returns:
        One an asked prompt.

    Cost: some minutes for 96 prompts of 32, most of it looks at doubtful pairs.
    """
    generated, others, audit = (directory / name for name in ("generated", "held-out", "audit"))
    per_prompt = generations.shape[1]
    generate_shards(
        _Replay(prompts, generations),
        prompts,
        str(generated),
        per_prompt=per_prompt,
        shard_size=_SHARD,
        quiet=True,
    )
    write_pictures(held_out, others)
    arguments = [str(generated), "--reference", str(run), "--held-out", str(others), "--output", str(audit)]
    code = main(["audit", *arguments, "--quiet"])
    if code != 0:
        raise RuntimeError(f"onceseen audit {' '.join(arguments)} ended with {code}")
    return _read(prompts, per_prompt, audit)


def write_pictures(pictures: Sequence[Picture], directory: Path) -> None:
    """Writes them shrunken, as PNG; a file that is there stays: written again, it is another shard to an audit."""
    directory.mkdir(exist_ok=True)
    for picture in pictures:
        path = directory / f"{picture.name}.png"
        if not path.exists():
            path.write_bytes(encode_png(shrink(picture.data)).data)


def _read(prompts: Sequence[str], per_prompt: int, audit: Path) -> list[AuditedPrompt]:
    verdicts = {row["prompt_id"]: row for row in read_table(str(audit / "prompts.parquet")).to_pylist()}
    made = {
        (r["prompt_id"], r["seed"]): r for r in read_table(str(audit / "generations.parquet")).to_pylist()
    }
    found = []
    for prompt in prompts:
        key = prompt_id(prompt)
        rows = [made[key, str(generation_seed(prompt, i))] for i in range(per_prompt)]
        found.append(
            AuditedPrompt(
                verdicts[key]["verdict"],
                np.array([row["detector"] == "duplicate" for row in rows]),
                tuple(row["detector_reference_id"] or "" for row in rows),
            )
        )
    return found
