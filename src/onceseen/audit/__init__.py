"""Memorisation of a text-to-image model, after Carlini et al. 2023 (arXiv 2301.13188), section 4.2. Pure numpy.

    judge_prompt(generations, thresholds, training) -> (PromptVerdict, [GenerationVerdict, ...])

Distances by tiles, cliques (not components) of near-identical generations, thresholds calibrated on pictures that
cannot have been memorised, and rates with intervals. The wires are in `jobs`.
"""

from onceseen.audit.cliques import Clique, largest_clique, largest_component, medoid
from onceseen.audit.distances import (
    GRID,
    cosines,
    largest_tile,
    tile_contrasts,
    tile_distances,
    to_square,
    whole_l2,
)
from onceseen.audit.judge import PAPER_L2, judge_prompt
from onceseen.audit.rates import (
    Interval,
    Rate,
    auc,
    bin_of,
    clique_curve,
    rate,
    rates_by_copies,
    tpr_at_fpr,
    wilson,
)
from onceseen.audit.records import (
    EDGES,
    Candidate,
    GenerationInput,
    GenerationVerdict,
    MatchedBy,
    Nearest,
    PromptOutcome,
    PromptVerdict,
    Thresholds,
    TrainingMatch,
)
from onceseen.audit.templates import TrainingPixels
from onceseen.audit.thresholds import MatchThreshold, calibrate_cosine, calibrate_distance, distance_ratio

__all__ = [
    "EDGES",
    "GRID",
    "PAPER_L2",
    "Candidate",
    "Clique",
    "GenerationInput",
    "GenerationVerdict",
    "Interval",
    "MatchThreshold",
    "MatchedBy",
    "Nearest",
    "PromptOutcome",
    "PromptVerdict",
    "Rate",
    "Thresholds",
    "TrainingMatch",
    "TrainingPixels",
    "auc",
    "bin_of",
    "calibrate_cosine",
    "calibrate_distance",
    "clique_curve",
    "cosines",
    "distance_ratio",
    "judge_prompt",
    "largest_clique",
    "largest_component",
    "largest_tile",
    "medoid",
    "rate",
    "rates_by_copies",
    "tile_contrasts",
    "tile_distances",
    "to_square",
    "tpr_at_fpr",
    "whole_l2",
    "wilson",
]
