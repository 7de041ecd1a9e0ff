"""The score: logistic regressions on the evidence, learned by benchmarks/calibrate.py, never by hand.

Two models, `thumbs` for the stored features and `pixels` for the pictures read again. Each is a product of two
logistic regressions, since both must hold: that what lies on each other is the same (against other pictures, other
frames, other texts), and that what differs was drawn on top (against a thing added or moved). Every feature is oriented
so that more of it speaks for the same picture, and no coefficient is negative: better evidence never lowers a score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("calibration.json")
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Logistic:
    """One logistic regression.

    Attributes:
        names: Names of the features, in order.
        weights: Their coefficients, none negative.
        bias: Intercept.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float

    def probability(self, features: Mapping[str, float]) -> float:
        """In (0, 1).

        Raises:
            ValueError: If a feature is missing.
        """
        missing = [n for n in self.names if n not in features]
        if missing:
            raise ValueError(f"calibration: features {missing} are not known to this version; learn it again")
        total = self.bias + math.fsum(w * features[n] for n, w in zip(self.names, self.weights, strict=True))
        return 1.0 / (1.0 + math.exp(-max(min(total, 60.0), -60.0)))


@dataclass(frozen=True, slots=True)
class Model:
    """The product of two logistic regressions.

    Attributes:
        same: That what lies on each other is the same.
        drawn: That what differs was drawn on top.
    """

    same: Logistic
    drawn: Logistic

    def score(self, features: Mapping[str, float]) -> float:
        """Probability, in [0, 1], rounded to 1e-6."""
        return round(self.same.probability(features) * self.drawn.probability(features), 6)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Both models, and what they were learned from.

    Attributes:
        thumbs: For stored features.
        pixels: For pictures read again.
        provenance: Pairs, split, metrics, versions, as the file has them.
    """

    thumbs: Model
    pixels: Model
    provenance: Mapping[str, Any]


def load_calibration(path: str) -> Calibration:
    """Reads a calibration file; the empty path is the one that the package ships.

    Raises:
        ValueError: If the file is not a calibration, or of another format.
    """
    source = path or str(SHIPPED)
    try:
        data = _read(path)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']!r}")
        return Calibration(_model(data["thumbs"]), _model(data["pixels"]), data["provenance"])
    except (KeyError, TypeError, ValueError, OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"verify.calibration is {source!r}, which cannot be read as a calibration of format {FORMAT}: {error}; "
            "expected a file written by benchmarks/calibrate.py, or '' for the shipped one"
        ) from error


def _read(path: str) -> Any:  # noqa: ANN401 - whatever the file holds
    if not path:
        return json.loads(SHIPPED.read_bytes())
    # only here, since it brings Beam's filesystems along
    from onceseen.core.files import read_json

    return read_json(path)


def _model(data: Mapping[str, Any]) -> Model:
    return Model(_logistic(data["same"]), _logistic(data["drawn"]))


def _logistic(data: Mapping[str, Any]) -> Logistic:
    names, weights, bias = (
        tuple(map(str, data["names"])),
        tuple(map(float, data["weights"])),
        float(data["bias"]),
    )
    if len(names) != len(weights) or any(not w >= 0 for w in weights) or not math.isfinite(bias):
        raise ValueError(f"{len(names)} names, {len(weights)} weights (none may be negative), bias {bias!r}")
    return Logistic(names, weights, bias)
