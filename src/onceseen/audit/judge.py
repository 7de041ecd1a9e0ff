"""From the generations of a prompt to what is said of it: memorised, collapsed, template, varied or too few.

Generations agree with each other and with a training picture, or it is no memorisation: a model that always draws one
blur makes cliques, and a common motif has training pictures nearby (Carlini et al. 2023, 4.2; the two steps in one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onceseen.audit.cliques import Clique, largest_clique, largest_component, medoid
from onceseen.audit.distances import cosines, largest_tile, tile_contrasts, tile_distances
from onceseen.audit.records import (
    GenerationInput,
    GenerationVerdict,
    MatchedBy,
    PromptOutcome,
    PromptVerdict,
    Thresholds,
    TrainingMatch,
)
from onceseen.audit.templates import TrainingPixels, find_template, match_template
from onceseen.detect import Finding

PAPER_L2 = 0.15
"""Carlini et al. 2023, definition 1 as used in 4.2.2: the (l2, 0.15) of 512-pixel pictures."""


def judge_prompt(
    generations: Sequence[GenerationInput], thresholds: Thresholds, training: TrainingPixels
) -> tuple[PromptVerdict, list[GenerationVerdict]]:
    """Judges the generations of one prompt.

    Args:
        generations: All of them, in an order that does not depend on the run (by sample id): of cliques of one size the
            one that is taken depends on it.
        thresholds: What counts.
        training: Gives the pixels of a training picture by node, of the generations' side; asked for the candidates of
            one generation, and only where a template is found.

    Returns:
        What is said of the prompt, and of each generation in the order given. Cost for n generations of side s:
        6 n^2 s^2 float operations, some 300 n^2 bytes, and two to four clique searches.

    Raises:
        ValueError: If pictures differ in size, or edges ask for embeddings and no generation has one.
    """
    usable = [i for i, generation in enumerate(generations) if not generation.blank]
    chosen = [generations[i] for i in usable]
    graphs = _graphs(chosen, thresholds)
    reasons = [_matched_by(generation, thresholds) for generation in generations]
    found = _decide(chosen, graphs, thresholds, training)
    verdict = PromptVerdict(
        verdict=found.outcome,
        generations=len(generations),
        excluded=len(generations) - len(chosen),
        resized=sum(generation.resized for generation in chosen),
        clique=_renumbered(graphs.clique, usable),
        clique_pixels=_renumbered(graphs.by_pixels, usable),
        clique_embedding=_renumbered(graphs.by_embedding, usable),
        component_size=graphs.component_size,
        mean_distance=_mean_distance(graphs.distances, graphs.clique.members),
        representative=None if found.representative is None else usable[found.representative],
        match=found.match,
        matched=sum(reason != MatchedBy.NONE for reason in reasons),
        template_tiles=found.tiles,
        paper_l2_matches=_within_paper_l2(chosen, found.representative),
    )
    members = {usable[member] for member in found.members}
    return verdict, [
        GenerationVerdict(
            sample_id=generation.sample_id,
            excluded=generation.blank,
            in_clique=i in members,
            matched=reason != MatchedBy.NONE,
            matched_by=reason,
            nearest=generation.nearest,
        )
        for i, (generation, reason) in enumerate(zip(generations, reasons, strict=True))
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Graphs:
    """Distances of the usable generations, and the cliques of the graphs over them."""

    pictures: NDArray[np.uint8]
    tiles: NDArray[np.float32]
    distances: NDArray[np.float32]
    clique: Clique
    by_pixels: Clique
    by_embedding: Clique
    component_size: int


@dataclass(frozen=True, slots=True)
class _Decision:
    """What is said, by which generations (numbered among the usable ones)."""

    outcome: PromptOutcome
    members: tuple[int, ...]
    representative: int | None
    match: TrainingMatch | None = None
    tiles: int = 0


def _graphs(chosen: list[GenerationInput], thresholds: Thresholds) -> _Graphs:
    pictures = _stack(chosen)
    tiles = tile_distances(pictures, pictures)
    distances = largest_tile(tiles)
    near = distances <= thresholds.edge_distance
    alike = _alike(chosen, thresholds)
    graph = {"pixels": near, "embedding": alike, "both": near & alike, "either": near | alike}[
        thresholds.edges
    ]
    by_pixels = largest_clique(near, thresholds.clique_steps)
    embedded = any(generation.embedding is not None for generation in chosen)
    by_embedding = largest_clique(alike, thresholds.clique_steps) if embedded else Clique((), True, 0)
    known = {"pixels": by_pixels, "embedding": by_embedding}
    clique = known.get(thresholds.edges) or largest_clique(graph, thresholds.clique_steps)
    component_size = len(largest_component(graph))
    return _Graphs(pictures, tiles, distances, clique, by_pixels, by_embedding, component_size)


def _stack(chosen: list[GenerationInput]) -> NDArray[np.uint8]:
    """(n, side, side, 3) uint8."""
    shapes = {generation.pixels.shape for generation in chosen}
    if len(shapes) > 1:
        raise ValueError(f"generations of shapes {sorted(shapes)}; bring all to one side by to_square")
    if not chosen:
        return np.empty((0, 4, 4, 3), dtype=np.uint8)
    return np.stack([generation.pixels for generation in chosen])


def _alike(chosen: list[GenerationInput], thresholds: Thresholds) -> NDArray[np.bool_]:
    """(n, n) bool: which have near embeddings. One without an embedding is near to none."""
    embeddings = [(i, g.embedding) for i, g in enumerate(chosen) if g.embedding is not None]
    found = np.zeros((len(chosen), len(chosen)), dtype=np.bool_)
    if embeddings:
        rows = np.array([i for i, _ in embeddings], dtype=np.int64)
        vectors = np.stack([vector for _, vector in embeddings])
        near = cosines(vectors, vectors) >= thresholds.edge_cosine
        # A product of floats need not be symmetric in its last bit.
        found[np.ix_(rows, rows)] = near | near.T
    elif chosen and thresholds.edges != "pixels":
        raise ValueError(
            f"edges is {thresholds.edges!r} and none of {len(chosen)} generations has an embedding, "
            f"{chosen[0].sample_id} among them; scan them with a model, or set audit.edges=pixels"
        )
    return found


def _decide(
    chosen: list[GenerationInput], graphs: _Graphs, thresholds: Thresholds, training: TrainingPixels
) -> _Decision:
    if not chosen:
        return _Decision(PromptOutcome.TOO_FEW, (), None)
    members = graphs.clique.members
    middle = medoid(graphs.distances, members)
    match = _training_match(chosen[middle], thresholds)
    if len(chosen) < thresholds.min_clique:
        return _Decision(PromptOutcome.TOO_FEW, members, middle, match)
    if len(members) >= thresholds.min_clique:
        outcome = PromptOutcome.COLLAPSED if match is None else PromptOutcome.MEMORISED
        return _Decision(outcome, members, middle, match)
    shared = _template(chosen, graphs, thresholds, training)
    return shared or _Decision(PromptOutcome.VARIED, members, middle, match)


def _template(
    chosen: list[GenerationInput], graphs: _Graphs, thresholds: Thresholds, training: TrainingPixels
) -> _Decision | None:
    template = find_template(graphs.tiles, tile_contrasts(graphs.pictures), thresholds)
    if template is None:
        return None
    nearest = chosen[template.representative].nearest
    candidates = () if nearest is None else nearest.candidates
    picture = graphs.pictures[template.representative]
    found = match_template(picture, template.tiles, candidates, training, thresholds)
    if found is None:
        return None
    match, tiles = found
    return _Decision(PromptOutcome.TEMPLATE, template.clique.members, template.representative, match, tiles)


def _matched_by(generation: GenerationInput, thresholds: Thresholds) -> MatchedBy:
    if generation.blank:
        return MatchedBy.NONE
    nearest = generation.nearest
    by_pixels = (
        nearest is not None
        and nearest.distance <= thresholds.match_distance
        and nearest.ratio <= thresholds.match_ratio
    )
    by_detector = generation.detector == Finding.DUPLICATE and generation.detector_node is not None
    if nearest is not None and by_pixels:
        same = by_detector and generation.detector_component == nearest.component
        return MatchedBy.BOTH if same else MatchedBy.PIXELS
    return MatchedBy.DETECTOR if by_detector else MatchedBy.NONE


def _training_match(generation: GenerationInput, thresholds: Thresholds) -> TrainingMatch | None:
    by = _matched_by(generation, thresholds)
    nearest = generation.nearest
    if nearest is not None and by in (MatchedBy.PIXELS, MatchedBy.BOTH):
        return TrainingMatch(nearest.node, nearest.component, by, nearest.distance, nearest.second)
    if by == MatchedBy.DETECTOR and generation.detector_node is not None:
        return TrainingMatch(generation.detector_node, generation.detector_component, by, None, None)
    return None


def _mean_distance(distances: NDArray[np.float32], members: tuple[int, ...]) -> float | None:
    if len(members) < 2:
        return None
    among = distances[np.ix_(members, members)]
    return float(among[np.triu_indices(len(members), 1)].mean(dtype=np.float64))


def _within_paper_l2(chosen: list[GenerationInput], representative: int | None) -> bool:
    nearest = None if representative is None else chosen[representative].nearest
    return nearest is not None and nearest.l2 <= PAPER_L2


def _renumbered(clique: Clique, usable: list[int]) -> Clique:
    """Members as indices into all generations."""
    return replace(clique, members=tuple(usable[member] for member in clique.members))
