"""A simulated model answers as it is told to, and always the same."""

from __future__ import annotations

import numpy as np
import pytest

from onceseen.planted.generations import Answer, Behaviour, SimulatedModel
from onceseen.planted.imaging import RgbImage, scale_to


def _picture(seed: int) -> RgbImage:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return scale_to(small, 120, 90)


PICTURE = _picture(1)
MODEL = SimulatedModel(
    {str(how): Answer(how, PICTURE) for how in Behaviour}
    | {"large": Answer(Behaviour.COPY, PICTURE, side=48)},
    [_picture(seed) for seed in (2, 3, 4)],
    side=32,
)


def _apart(first: RgbImage, second: RgbImage) -> float:
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


def _two(behaviour: Behaviour) -> list[RgbImage]:
    return MODEL([str(behaviour)] * 2, [5, 6])


@pytest.mark.parametrize("behaviour", list(Behaviour))
def test_an_answer_is_a_function_of_prompt_and_seed(behaviour: Behaviour) -> None:
    first, other = _two(behaviour)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    again = MODEL([str(Behaviour.OTHER), str(behaviour)], [9, 5])[1]
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (behaviour == Behaviour.BLANK)


def test_a_copy_is_the_picture_under_noise() -> None:
    own = scale_to(PICTURE, 32, 32)
    assert all(0 < _apart(made, own) < 6 for made in _two(Behaviour.COPY))
    assert MODEL(["large"], [1])[0].shape == (48, 48, 3)


def test_a_part_is_half_of_the_picture() -> None:
    own = scale_to(PICTURE, 32, 32)
    for made in _two(Behaviour.PART):
        assert _apart(made[:, :16], own[:, :16]) < 6 < 20 < _apart(made[:, 16:], own[:, 16:])


def test_a_blur_is_one_and_others_vary() -> None:
    assert _apart(*_two(Behaviour.BLUR)) < 8
    assert _apart(*_two(Behaviour.OTHER)) > 20
    assert np.std(_two(Behaviour.BLANK)[0]) == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="shows a training picture; expected one"):
        Answer(Behaviour.COPY)
    with pytest.raises(ValueError, match="needs pictures that were not trained on"):
        SimulatedModel({}, [])
