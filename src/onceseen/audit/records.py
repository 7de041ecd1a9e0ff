"""What goes into the judgement of a prompt, and what comes out."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onceseen.audit.cliques import Clique
from onceseen.audit.thresholds import distance_ratio
from onceseen.core.config import AUDIT_EDGES
from onceseen.detect import Finding

EDGES = AUDIT_EDGES
"""Which pairs of generations are near-identical: by one signal, by both, or by one of the two."""


class PromptOutcome(enum.StrEnum):
    """What is said of a prompt."""

    MEMORISED = "memorised"
    """A clique of generations shows a training picture."""
    COLLAPSED = "collapsed"
    """A clique of generations, but of no training picture: the model has little to say, which is no memorisation."""
    TEMPLATE = "template"
    """Generations share a part of the picture, which is that part of a training picture."""
    VARIED = "varied"
    TOO_FEW = "too_few"
    """Fewer usable generations than a clique needs: not counted in rates."""


class MatchedBy(enum.StrEnum):
    """Which evidence says that a generation shows a training picture."""

    NONE = ""
    PIXELS = "pixels"
    DETECTOR = "detector"
    BOTH = "both"
    """Pixels and detector name pictures of one component."""
    TEMPLATE = "template"
    """Pixels of a part; of a prompt only."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts; every value as it is applied (nothing left to be calibrated).

    Attributes:
        match_distance: Largest tiled distance of a generation and the training picture that it shows.
        match_ratio: Largest distance / distance of the second-nearest distinct training picture.
        edge_distance: Largest tiled distance of two near-identical generations.
        edge_cosine: Least cosine of two near-identical generations.
        min_clique: Least generations that are all near-identical to each other.
        edges: Whose pairs make the graph that decides (`EDGES`).
        clique_steps: Most steps of a clique search.
        template_tiles: Least tiles of a template, of 16.
        template_contrast: Least contrast of a tile of a template (`tile_contrasts`).
    """

    match_distance: float
    match_ratio: float
    edge_distance: float
    edge_cosine: float
    min_clique: int = 10
    edges: str = "pixels"
    clique_steps: int = 100_000
    template_tiles: int = 6
    template_contrast: float = 0.03

    def __post_init__(self) -> None:
        """Checks the values that nothing else would notice."""
        if self.edges not in EDGES:
            raise ValueError(f"edges is {self.edges!r}; expected one of {', '.join(EDGES)} (audit.edges)")
        if self.min_clique < 2:
            raise ValueError(f"min_clique is {self.min_clique}; expected at least 2 (audit.min_clique)")
        if not 1 <= self.template_tiles <= 16:
            raise ValueError(
                f"template_tiles is {self.template_tiles}; expected 1 to 16 (audit.template_tiles)"
            )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A training picture whose pixels were looked at.

    Attributes:
        node: Its node, by which `judge_prompt` asks for its pixels.
        component: Its component: pictures of one show the same.
    """

    node: int
    component: str


@dataclass(frozen=True, slots=True)
class Nearest:
    """The training picture nearest to a generation, by pixels.

    Attributes:
        node: Its node.
        component: Its component.
        distance: Tiled distance, in [0, 1].
        l2: Normalised L2 of the whole pictures, in [0, 1].
        second: Tiled distance of the nearest picture of another component; inf if there is none.
        candidates: A picture of each component that was looked at, nearest first, this one included. A template is
            looked for among these.
    """

    node: int
    component: str
    distance: float
    l2: float
    second: float = math.inf
    candidates: tuple[Candidate, ...] = ()

    @property
    def ratio(self) -> float:
        """Distance / second, in [0, 1]; 0 without a second, 1 where both are 0."""
        return float(distance_ratio(np.array([self.distance]), np.array([self.second]))[0])


@dataclass(frozen=True, slots=True, eq=False)
class GenerationInput:
    """A generated picture.

    Attributes:
        sample_id: Its id.
        node: Its node.
        seed: As given; empty if unknown.
        pixels: (side, side, 3) uint8, of the one side of all generations (`to_square`).
        embedding: (d,) float; None if there is none.
        blank: Whether it is flat, as what a safety filter puts in place of a picture: excluded.
        resized: Whether its longer side was another than the others'. It takes part all the same.
        nearest: Nearest training picture by pixels; None if none could be read.
        detector: What the detector says of it.
        detector_node: Node of the picture that the detector names.
        detector_component: Its component.
    """

    sample_id: str
    node: int
    seed: str
    pixels: NDArray[np.uint8]
    embedding: NDArray[np.floating] | None = None
    blank: bool = False
    resized: bool = False
    nearest: Nearest | None = None
    detector: Finding = Finding.CLEAR
    detector_node: int | None = None
    detector_component: str = ""


@dataclass(frozen=True, slots=True)
class GenerationVerdict:
    """What is said of a generation.

    Attributes:
        sample_id: Its id.
        excluded: Whether it is blank; then all else is false or empty.
        in_clique: Whether it is a member of the clique that decided, or of a template's.
        matched: Whether it shows a training picture.
        matched_by: By which evidence (`MatchedBy`).
        nearest: Nearest training picture by pixels, matching or not.
    """

    sample_id: str
    excluded: bool
    in_clique: bool
    matched: bool
    matched_by: MatchedBy
    nearest: Nearest | None


@dataclass(frozen=True, slots=True)
class TrainingMatch:
    """The training picture that a prompt's representative shows.

    Attributes:
        node: Its node.
        component: Its component.
        by: By which evidence.
        distance: Tiled distance of the representative (of a template: over its tiles); None if by the detector alone.
        second: The same of the nearest distinct picture, inf if there is none; None if by the detector alone.
    """

    node: int
    component: str
    by: MatchedBy
    distance: float | None
    second: float | None


@dataclass(frozen=True, slots=True)
class PromptVerdict:
    """What is said of a prompt. Indices are into the generations that were given.

    Attributes:
        verdict: What is said.
        generations: All of them.
        excluded: Blank ones; the rest is usable.
        resized: Usable ones of another size.
        clique: Largest clique of the graph that decides; a template's is not given here.
        clique_pixels: Largest clique by pixels alone.
        clique_embedding: Largest clique by embeddings alone.
        component_size: Largest connected component of the graph that decides: what a wrong audit would count.
        mean_distance: Mean tiled distance of two members of `clique`; None under two members.
        representative: Medoid of the clique, of a template's clique if the verdict is that; None without a usable one.
        match: Training picture that the representative shows, also where the clique is too small; None if none.
        matched: Generations that show a training picture.
        template_tiles: Tiles of the template; 0 for other verdicts.
        paper_l2_matches: Whether the representative's nearest picture is within the paper's normalised L2 of .15.
    """

    verdict: PromptOutcome
    generations: int
    excluded: int
    resized: int
    clique: Clique
    clique_pixels: Clique
    clique_embedding: Clique
    component_size: int
    mean_distance: float | None
    representative: int | None
    match: TrainingMatch | None
    matched: int
    template_tiles: int
    paper_l2_matches: bool

    @property
    def usable(self) -> int:
        """Generations that took part."""
        return self.generations - self.excluded
