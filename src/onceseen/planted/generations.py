"""A text-to-image model whose memory is known: which prompts it answers with a training picture, and how.

For tests and examples of the audit: `generate_shards` takes it like a real one. What it answers is a function of prompt
and seed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onceseen.planted.imaging import RgbImage, plain, scale_to

_NOISE = 5.0
"""Standard deviation of the noise on a training picture that is given back, of 255."""


class Behaviour(enum.StrEnum):
    """How a prompt is answered."""

    COPY = "copy"
    """The training picture, under noise: memorised."""
    PART = "part"
    """The left half of the training picture; the rest is another picture each time: a template."""
    BLUR = "blur"
    """One blur, under noise: collapsed, and no training picture."""
    OTHER = "other"
    """Another picture each time: varied."""
    BLANK = "blank"
    """A flat picture, as a safety filter puts in place of another."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a prompt is answered with.

    Attributes:
        behaviour: How.
        picture: The training picture, (h, w, 3) uint8 RGB; None where none is shown.
        side: Side of the square answers in pixels; 0: the model's.
    """

    behaviour: Behaviour
    picture: RgbImage | None = None
    side: int = 0

    def __post_init__(self) -> None:
        """Checks that there is a picture where one is shown."""
        shown = self.behaviour in (Behaviour.COPY, Behaviour.PART)
        if shown and self.picture is None:
            raise ValueError(f"the answer {self.behaviour} shows a training picture; expected one")


class SimulatedModel:
    """A `onceseen.generate.Generator` without weights.

    Attributes:
        spec: What it is, for the record beside its shards.
    """

    def __init__(self, answers: Mapping[str, Answer], others: Sequence[RgbImage], side: int = 64) -> None:
        """Takes its memory.

        Args:
            answers: By prompt.
            others: Pictures that are not in the training set, for what varies.
            side: Side of the square answers in pixels.

        Raises:
            ValueError: If something is to vary and there is no other picture.
        """
        if not others:
            raise ValueError(
                "a simulated model needs pictures that were not trained on; expected at least one"
            )
        self._answers = dict(answers)
        self._others = list(others)
        self._side = side
        behaviours = {prompt: str(answer.behaviour) for prompt, answer in self._answers.items()}
        self.spec = {"kind": "simulated", "side": side, "answers": behaviours, "others": len(others)}

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[RgbImage]:
        """One picture a prompt.

        Raises:
            KeyError: On a prompt that it was not made for.
        """
        return [self._answer(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _answer(self, prompt: str, seed: int) -> RgbImage:
        answer = self._answers[prompt]
        side = answer.side or self._side
        rng = np.random.default_rng(seed)
        if answer.behaviour == Behaviour.BLANK:
            return plain(side, side, (16, 16, 16))
        if answer.behaviour == Behaviour.BLUR:
            return _noisy(_blur(side), rng)
        if answer.behaviour == Behaviour.OTHER or answer.picture is None:
            return self._other(side, rng)
        shown = _noisy(scale_to(answer.picture, side, side), rng)
        if answer.behaviour == Behaviour.PART:
            shown[:, side // 2 :] = self._other(side, rng)[:, side // 2 :]
        return shown

    def _other(self, side: int, rng: np.random.Generator) -> RgbImage:
        """A piece of a picture that was not trained on, of another light, mirrored or not."""
        picture = self._others[int(rng.integers(len(self._others)))]
        height, width = (round(length * rng.uniform(0.5, 0.9)) for length in picture.shape[:2])
        top = int(rng.integers(picture.shape[0] - height + 1))
        left = int(rng.integers(picture.shape[1] - width + 1))
        piece = scale_to(picture[top : top + height, left : left + width], side, side)
        piece = piece[:, ::-1] if rng.random() < 0.5 else piece
        lit = piece.astype(np.float64) * rng.uniform(0.8, 1.2) + rng.uniform(-15, 15)
        return np.asarray(np.clip(lit, 0, 255).round(), dtype=np.uint8)


def _noisy(picture: RgbImage, rng: np.random.Generator) -> RgbImage:
    noise = rng.normal(0, _NOISE, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255).round(), dtype=np.uint8)


def _blur(side: int) -> RgbImage:
    """A smooth field of colour without an object."""
    y, x = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    red, green, blue = 90 + 90 * x, 120 + 60 * np.sin(3 * y), 160 - 100 * x * y
    return np.asarray(np.stack([red, green, blue], axis=2).round(), dtype=np.uint8)
