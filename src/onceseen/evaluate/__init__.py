"""How good a run is, measured on a set whose copies are known."""

from onceseen.evaluate.evaluation import Evaluation, evaluate_run
from onceseen.evaluate.measures import Rate, average_precision
from onceseen.evaluate.truth import Truth, read_truth

__all__ = ["Evaluation", "Rate", "Truth", "average_precision", "evaluate_run", "read_truth"]
