"""Simulated generators whose truth is known, at the level of a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from audit_pictures import (
    FIRST_NODE,
    SIDE,
    component_of,
    generation,
    held_out,
    noisy,
    thresholds,
    training,
    training_pixels,
)
from onceseen.audit import (
    Clique,
    GenerationInput,
    MatchedBy,
    Nearest,
    PromptOutcome,
    PromptVerdict,
    judge_prompt,
    wilson,
)
from onceseen.detect import Finding

GENERATIONS = 16
Picture = NDArray[np.uint8]


def _prompt(
    draw: Callable[[np.random.Generator], Picture], seed: int, count: int = GENERATIONS
) -> list[GenerationInput]:
    rng = np.random.default_rng(seed)
    return [generation(i, draw(rng)) for i in range(count)]


def _never(node: int) -> Picture:
    raise AssertionError(f"the pixels of {node} were asked for")


def _varied(rng: np.random.Generator) -> Picture:
    """A picture that is not in training, never twice the same: shifted, and lighter or darker."""
    picture = held_out()[rng.integers(len(held_out()))]
    shifted = np.roll(picture, rng.integers(SIDE, size=2), axis=(0, 1))
    return np.clip(shifted * rng.uniform(0.7, 1.3), 0, 255).astype(np.uint8)


def _copier(index: int, share: float) -> Callable[[np.random.Generator], Picture]:
    return lambda rng: noisy(training()[index], rng) if rng.random() < share else _varied(rng)


def test_a_generator_that_returns_a_training_picture_is_memorised() -> None:
    made = _prompt(_copier(5, 1.0), 0)
    verdict, generations = judge_prompt(made, thresholds(), _never)
    assert verdict.verdict == PromptOutcome.MEMORISED
    assert verdict.clique == verdict.clique_pixels == Clique(tuple(range(16)), True, 16)
    assert verdict.clique_embedding == Clique((), True, 0)
    assert (verdict.generations, verdict.usable, verdict.matched, verdict.component_size) == (16, 16, 16, 16)
    assert verdict.match is not None
    assert (verdict.match.node, verdict.match.component) == (FIRST_NODE + 5, component_of(5))
    assert verdict.match.by == MatchedBy.PIXELS
    assert verdict.match.distance is not None
    assert 0.02 < verdict.match.distance < 0.05
    assert verdict.paper_l2_matches
    assert verdict.mean_distance == pytest.approx(8 * math.sqrt(2) / 255, abs=0.01)
    assert all(g.in_clique and g.matched and g.matched_by == "pixels" and not g.excluded for g in generations)
    among = [g.pixels.astype(np.float64) for g in made]
    sums = [sum(_largest_tile(a, b) for b in among) for a in among]
    assert verdict.representative == int(np.argmin(sums)) != 0
    assert [g.sample_id for g in generations] == [f"gen/{i:04d}" for i in range(16)]


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75])
def test_rates_over_many_prompts_are_those_of_the_generator(share: float) -> None:
    prompts, needed, seed = 60, 10, 11
    given_back = memorised = wrong = 0
    for prompt in range(prompts):
        made = _prompt(_copier(prompt, share), seed * 1000 + prompt)
        verdict, generations = judge_prompt(made, thresholds(needed), training_pixels)
        matches = [g.nearest for g in generations if g.matched and g.nearest is not None]
        copies = sum(nearest.component == component_of(prompt) for nearest in matches)
        # Without ten copies there is no verdict, however many generations match something.
        assert verdict.verdict == (PromptOutcome.MEMORISED if copies >= needed else PromptOutcome.VARIED), (
            prompt
        )
        memorised += verdict.verdict == PromptOutcome.MEMORISED
        given_back += copies
        wrong += len(matches) - copies
    expected = sum(
        math.comb(GENERATIONS, k) * share**k * (1 - share) ** (GENERATIONS - k)
        for k in range(needed, GENERATIONS + 1)
    )
    low, high = wilson(memorised, prompts)
    assert low <= expected <= high
    low, high = wilson(given_back, prompts * GENERATIONS)
    assert low <= share <= high
    # Calibrated at 1% of pictures that are not in training.
    assert wilson(wrong, prompts * GENERATIONS - given_back).low <= 0.01


def test_a_generator_that_collapsed_to_a_blur_memorised_nothing() -> None:
    mean = cv2.GaussianBlur(training().mean(axis=0).astype(np.uint8), (0, 0), 3)
    for seed in range(10):
        verdict, generations = judge_prompt(_prompt(lambda rng: noisy(mean, rng), seed), thresholds(), _never)
        assert verdict.verdict == PromptOutcome.COLLAPSED
        assert len(verdict.clique.members) == GENERATIONS
        assert verdict.match is None
        assert verdict.matched == 0
        assert all(g.in_clique and not g.matched for g in generations)


def _part(index: int) -> Callable[[np.random.Generator], Picture]:
    """The upper half of a training picture over the lower half of anything."""

    def draw(rng: np.random.Generator) -> Picture:
        picture = _varied(rng)
        picture[: SIDE // 2] = training()[index][: SIDE // 2]
        return noisy(picture, rng, 4)

    return draw


def test_a_generator_that_copies_a_part_gives_a_template() -> None:
    verdict, generations = judge_prompt(_prompt(_part(3), 1), thresholds(), training_pixels)
    assert verdict.verdict == PromptOutcome.TEMPLATE
    assert len(verdict.clique.members) < 10
    assert verdict.match is not None
    assert (verdict.match.node, verdict.match.by) == (FIRST_NODE + 3, MatchedBy.TEMPLATE)
    assert verdict.match.distance is not None
    assert verdict.match.second is not None
    assert verdict.match.distance < 0.05 < verdict.match.second
    assert 6 <= verdict.template_tiles <= 8
    assert sum(g.in_clique for g in generations) >= 10
    # What a part shows is no copy of the whole.
    assert verdict.matched == 0


def test_a_shared_part_of_no_training_picture_is_no_template() -> None:
    half = held_out()[8][: SIDE // 2]

    def draw(rng: np.random.Generator) -> Picture:
        picture = _varied(rng)
        picture[: SIDE // 2] = half
        return noisy(picture, rng, 4)

    verdict, generations = judge_prompt(_prompt(draw, 2), thresholds(), training_pixels)
    assert verdict.verdict == PromptOutcome.VARIED
    assert verdict.template_tiles == 0
    assert sum(g.in_clique for g in generations) == len(verdict.clique.members)


def test_a_shared_plain_ground_is_no_template() -> None:
    def draw(rng: np.random.Generator) -> Picture:
        picture = np.full((SIDE, SIDE, 3), 235, dtype=np.uint8)
        picture[8:24, 8:24] = _varied(rng)[8:24, 8:24]
        return noisy(picture, rng, 2)

    verdict, _ = judge_prompt(_prompt(draw, 3), thresholds(), _never)
    assert verdict.verdict == PromptOutcome.VARIED


def test_a_generator_that_varies_is_varied() -> None:
    verdict, generations = judge_prompt(_prompt(_varied, 4), thresholds(), training_pixels)
    assert verdict.verdict == PromptOutcome.VARIED
    assert verdict.matched == 0
    assert len(verdict.clique.members) < 4
    assert verdict.representative in verdict.clique.members
    assert sum(g.in_clique for g in generations) == len(verdict.clique.members)


def test_a_slow_fade_is_a_component_and_no_clique() -> None:
    first, last = (held_out()[i].astype(np.float64) for i in (4, 30))
    made = [generation(i, np.rint(first + (last - first) * i / 39).astype(np.uint8)) for i in range(40)]
    verdict, _ = judge_prompt(made, thresholds(12), training_pixels)
    assert verdict.component_size == 40
    assert len(verdict.clique.members) < 12
    assert verdict.verdict == PromptOutcome.VARIED


def test_constant_pictures_are_left_out_and_counted() -> None:
    black = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    # Training has a black picture too: to give it back is no memorisation.
    shown = {"nearest": Nearest(1, "black", 0.0, 0.0), "detector": Finding.DUPLICATE, "detector_node": 1}
    made = [*_prompt(_copier(7, 1.0), 5, 11), *(generation(11 + i, black, **shown) for i in range(30))]
    made = [made[i] for i in np.random.default_rng(1).permutation(len(made))]
    verdict, generations = judge_prompt(made, thresholds(), _never)
    assert verdict.verdict == PromptOutcome.MEMORISED
    assert (verdict.generations, verdict.excluded, verdict.usable) == (41, 30, 11)
    assert {made[i].node for i in verdict.clique.members} == set(range(11))
    assert verdict.representative in verdict.clique.members
    for one, said in zip(made, generations, strict=True):
        assert said.excluded == one.blank == (one.node >= 11)
        assert said.in_clique == said.matched == (not one.blank)
    alone, said = judge_prompt([g for g in made if g.blank], thresholds(), _never)
    assert (alone.verdict, alone.excluded, alone.representative) == (PromptOutcome.TOO_FEW, 30, None)
    assert alone.clique == Clique((), True, 0)
    assert not any(g.in_clique or g.matched for g in said)


def test_too_few_usable_generations_are_not_judged() -> None:
    nine = _prompt(_copier(7, 1.0), 6, 9)
    verdict, _ = judge_prompt(nine, thresholds(), _never)
    assert (verdict.verdict, verdict.matched, len(verdict.clique.members)) == (PromptOutcome.TOO_FEW, 9, 9)
    blank = replace(nine[0], sample_id="blank", blank=True)
    assert judge_prompt([*nine, blank], thresholds(), _never)[0].verdict == PromptOutcome.TOO_FEW
    assert judge_prompt(nine, thresholds(9), _never)[0].verdict == PromptOutcome.MEMORISED
    assert judge_prompt([], thresholds(), _never)[0].verdict == PromptOutcome.TOO_FEW


def _alike(nearest: Nearest | None, **changes: object) -> list[GenerationInput]:
    """Twelve generations of one picture, with what is said of their nearest training picture given."""
    rng = np.random.default_rng(0)
    return [generation(i, noisy(held_out()[9], rng), nearest=nearest, **changes) for i in range(12)]


@pytest.mark.parametrize(
    ("distance", "second", "expected"),
    [
        (0.05, 0.4, PromptOutcome.MEMORISED),
        (0.05, math.inf, PromptOutcome.MEMORISED),
        (0.05, 0.06, PromptOutcome.COLLAPSED),  # a common motif: another training picture is as near
        (0.2, 0.4, PromptOutcome.COLLAPSED),
        (0.0, 0.0, PromptOutcome.COLLAPSED),
    ],
)
def test_a_match_is_near_and_clearly_nearer_than_the_next(
    distance: float, second: float, expected: PromptOutcome
) -> None:
    made = _alike(Nearest(1, "c", distance, distance, second))
    assert judge_prompt(made, thresholds(), _never)[0].verdict == expected


def _said(made: list[GenerationInput]) -> tuple[PromptVerdict, set[MatchedBy]]:
    verdict, generations = judge_prompt(made, thresholds(), _never)
    return verdict, {g.matched_by for g in generations}


def test_the_detector_is_a_second_witness() -> None:
    far, near = Nearest(1, "c", 0.2, 0.1, 0.4), Nearest(1, "c", 0.05, 0.05, 0.4)
    duplicate = {"detector": Finding.DUPLICATE, "detector_node": 4, "detector_component": "d"}
    verdict, by = _said(_alike(far, **duplicate))
    assert verdict.verdict == PromptOutcome.MEMORISED
    assert verdict.match is not None
    assert (verdict.match.node, verdict.match.component, verdict.match.by) == (4, "d", MatchedBy.DETECTOR)
    assert (verdict.match.distance, verdict.paper_l2_matches, by) == (None, True, {MatchedBy.DETECTOR})
    assert _said(_alike(None, **duplicate))[1] == {MatchedBy.DETECTOR}
    assert _said(_alike(near, **{**duplicate, "detector_component": "c"}))[1] == {MatchedBy.BOTH}
    assert _said(_alike(near, **duplicate))[1] == {MatchedBy.PIXELS}
    assert _said(_alike(far, **{**duplicate, "detector": Finding.NEAR}))[0].verdict == PromptOutcome.COLLAPSED
    assert _said(_alike(None))[0].verdict == PromptOutcome.COLLAPSED


def _with_embeddings(edges: str) -> PromptVerdict:
    """Twelve of one picture by pixels, eleven others of one embedding, one of each without any."""
    rng = np.random.default_rng(0)
    made = [generation(i, noisy(held_out()[9], rng), embedding=rng.normal(size=64)) for i in range(12)]
    same = rng.normal(size=64)
    made += [generation(12 + i, _varied(rng), embedding=same * (i + 1)) for i in range(11)]
    made.append(replace(generation(23, _varied(rng)), embedding=None))
    return judge_prompt(made, thresholds(edges=edges), training_pixels)[0]


@pytest.mark.parametrize(
    ("edges", "members"),
    [("pixels", range(12)), ("embedding", range(12, 23)), ("either", range(12)), ("both", None)],
)
def test_pixels_and_embeddings_are_two_graphs(edges: str, members: range | None) -> None:
    verdict = _with_embeddings(edges)
    assert verdict.clique_pixels.members == tuple(range(12))
    assert verdict.clique_embedding.members == tuple(range(12, 23))
    if members is None:
        assert len(verdict.clique.members) == 1
        assert verdict.verdict == PromptOutcome.VARIED
    else:
        assert verdict.clique.members == tuple(members)
        assert verdict.verdict == PromptOutcome.COLLAPSED


def test_resized_generations_take_part_and_are_counted() -> None:
    made = [replace(g, resized=g.node % 3 == 0) for g in _prompt(_copier(5, 1.0), 0)]
    verdict, _ = judge_prompt(made, thresholds(), _never)
    assert (verdict.resized, len(verdict.clique.members)) == (6, 16)


def test_a_search_cut_short_still_counts_only_cliques() -> None:
    rng = np.random.default_rng(3)
    made = [generation(i, noisy(training()[5], rng, 20)) for i in range(60)]
    among = [g.pixels.astype(np.float64) for g in made]
    tiles = [[_largest_tile(a, b) for b in among] for a in among]
    middling = float(np.median(tiles))
    limits = replace(thresholds(), edge_distance=middling, clique_steps=1)
    verdict, _ = judge_prompt(made, limits, training_pixels)
    assert not verdict.clique.exact
    assert verdict.clique.bound > len(verdict.clique.members)
    assert all(tiles[a][b] <= middling + 1e-6 for a in verdict.clique.members for b in verdict.clique.members)


def _largest_tile(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    squares = ((a - b) / 255) ** 2
    return float(np.sqrt(squares.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3, 4)).max()))


def test_mistakes_of_the_caller_are_refused() -> None:
    two = [
        generation(0, training()[0]),
        replace(generation(1, training()[1]), pixels=np.zeros((8, 8, 3), np.uint8)),
    ]
    with pytest.raises(ValueError, match=r"generations of shapes .* to_square"):
        judge_prompt(two, thresholds(), _never)
    with pytest.raises(ValueError, match=r"none of 1 generations has an embedding.*audit\.edges=pixels"):
        judge_prompt(two[:1], thresholds(edges="both"), _never)
    with pytest.raises(
        ValueError, match="edges is 'colour'; expected one of pixels, embedding, both, either"
    ):
        thresholds(edges="colour")
    with pytest.raises(ValueError, match="min_clique is 1"):
        thresholds(1)
    with pytest.raises(ValueError, match="template_tiles is 17"):
        thresholds(template_tiles=17)
