"""One model of the experiment: trained on an arm's rows, asked for pictures, everything written down."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from onceseen.generate import generation_seed

from .arms import TrainingSet
from .model import CaptionModel, Training, train

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model is asked.

    Attributes:
        prompts: Captions.
        per_prompt: Generations of each; their seeds follow from (prompt, index), so that all arms get the same noise.
    """

    prompts: tuple[str, ...]
    per_prompt: int


def run_arm(rows: TrainingSet, asked: Asked, training: Training, directory: Path, title: str) -> None:
    """Trains and asks one model; a finished one of the same rows and settings is left as it is.

    Writes `generations.npz` (pictures uint8 (prompts, per_prompt, 32, 32, 3)), `training.json` and `model.pt`.
    """
    print_of = fingerprint(rows, asked, training)
    mark = directory / "training.json"
    if mark.exists() and json.loads(mark.read_text())["fingerprint"] == print_of:
        return
    torch.set_num_threads(1)
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    losses: list[tuple[int, float]] = []
    with tqdm(total=training.steps, desc=title, unit="step", mininterval=5) as bar:

        def report(step: int, loss: float) -> None:
            losses.append((step, round(loss, 5)))
            bar.set_postfix(loss=f"{loss:.4f}")
            bar.update(step - bar.n)

        model = train(rows.pictures, rows.captions, rows.weights, training, report)
    trained = time.monotonic()
    model.save(directory / "model.pt")
    np.savez_compressed(directory / "generations.npz", pictures=generate(model, asked, title))
    mark.write_text(
        json.dumps(
            {
                "fingerprint": print_of,
                "training": asdict(training),
                "rows": len(rows.names),
                "parameters": sum(p.numel() for p in model.network.parameters()),
                "losses": losses,
                "train_s": round(trained - started, 1),
                "generate_s": round(time.monotonic() - trained, 1),
            },
            indent=1,
        )
    )


def generate(model: CaptionModel, asked: Asked, title: str) -> NDArray[np.uint8]:
    """All pictures: (prompts, per_prompt, 32, 32, 3) uint8 RGB."""
    jobs = [(prompt, generation_seed(prompt, i)) for prompt in asked.prompts for i in range(asked.per_prompt)]
    made = []
    for start in tqdm(range(0, len(jobs), _AT_ONCE), desc=f"{title}, asking", unit="batch", mininterval=5):
        prompts, seeds = zip(*jobs[start : start + _AT_ONCE], strict=True)
        made.append(model(prompts, seeds))
    pictures = np.concatenate(made)
    return pictures.reshape(len(asked.prompts), asked.per_prompt, *pictures.shape[1:])


def fingerprint(rows: TrainingSet, asked: Asked, training: Training) -> str:
    """What decides about a model's pictures, as a hash."""
    digest = hashlib.sha256(rows.pictures.tobytes())
    digest.update(rows.weights.tobytes())
    digest.update(json.dumps([rows.captions, rows.steps, asdict(asked), asdict(training)]).encode())
    return digest.hexdigest()


def read_generations(directory: Path) -> NDArray[np.uint8]:
    """Pictures of a finished arm.

    Raises:
        FileNotFoundError: If the arm is not finished.
    """
    with np.load(directory / "generations.npz") as stored:
        pictures: NDArray[np.uint8] = stored["pictures"]
    return pictures
