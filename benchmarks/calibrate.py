"""Learn the coefficients of verify's score from labelled pairs, and measure the verdicts on sources not learned from.

    python benchmarks/calibrate.py --output src/onceseen/verify/calibration.json
    python benchmarks/calibrate.py --scenes DIR        # further negatives: one folder a scene, its frames in it

Positives are copies of the photographs in examples/photos by the transforms of `onceseen.planted`. Negatives are of
two kinds. *Other*: pairs of different photographs, other frames of a scene (the table's `scene` column, --scenes, and
smooth warps of a photograph as a moved camera gives), the two halves of one, pages of one form with other text, skies,
blanks. *Added*: the same photograph with a natural thing added or moved (a textured part pasted with soft edges, a
picture in the picture): what is below agrees, and dropping one of the two would lose something.

The sources are dealt into two halves; each half is judged by coefficients learned on the other, and all that is
reported is from there. The shipped coefficients are then learned on all. Without arguments nothing is written but the
report, as JSON, to standard output. Takes some 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import platform
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
from labelled_pairs import REQUIRED, LabelledPair, PairMaker, seeded
from numpy.typing import NDArray

from onceseen.core.config import VerifyConfig
from onceseen.verify.calibration import FORMAT, Calibration, Logistic, Model
from onceseen.verify.pixels import decide_second
from onceseen.verify.sides import Judgement
from onceseen.verify.thumbs import decide_first

ROOT = Path(__file__).resolve().parents[1]
SAME = ("correlation", "median", "low", "rest", "agree", "still", "calm", "unmoved", "detail", "pdq")
DRAWN = ("natural", "graphic", "one_sided", "agree")
THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of the score: what verify.min_score is chosen by
_LOG = logging.getLogger("calibrate")


# Learning


def learn(
    rows: NDArray[np.float64], truth: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Logistic regression with no negative coefficient: Newton steps on the free ones, ridge 1 on standardised rows.

    Returns:
        (d + 1,) coefficients, the intercept last.
    """
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = np.concatenate([(rows - mean) / spread, np.ones((len(rows), 1))], axis=1)
    ridge = np.append(np.ones(rows.shape[1]), 1e-6)
    theta = np.zeros(rows.shape[1] + 1)

    def loss(t: NDArray[np.float64]) -> float:
        s = design @ t
        return float(weights @ (np.logaddexp(0, s) - truth * s)) + 0.5 * float(ridge @ (t * t))

    best = loss(theta)
    for _ in range(200):
        p = 1 / (1 + np.exp(-(design @ theta)))
        slope = design.T @ (weights * (p - truth)) + ridge * theta
        curve = (design * (weights * p * (1 - p))[:, None]).T @ design + np.diag(ridge)
        free = np.append((theta[:-1] > 0) | (slope[:-1] < 0), True)
        step = np.zeros_like(theta)
        step[free] = -np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        size = 1.0
        while size > 1e-7:
            tried = theta + size * step
            tried[:-1] = np.maximum(tried[:-1], 0)
            value = loss(tried)
            if value < best - 1e-10:
                break
            size /= 2
        else:
            break
        theta, best = tried, value
    found = theta[:-1] / spread
    return np.append(found, theta[-1] - found @ mean)


def learn_calibration(pairs: list[LabelledPair]) -> Calibration:
    """Both models from labelled pairs."""
    models = []
    for look, extra in (("first", ()), ("second", ("inliers",))):
        known = [(p, getattr(p, look).features) for p in pairs if p.label]
        known = [(p, f) for p, f in known if f is not None]
        parts = []
        for names, negative in (((*SAME, *extra), "other"), (DRAWN, "added")):
            taken = [(p, f) for p, f in known if p.label in ("copy", negative)]
            rows = np.array([[f[n] for n in names] for _, f in taken])
            truth = np.array([p.label == "copy" for p, _ in taken])
            found = learn(rows, truth, _balance([p for p, _ in taken]))
            parts.append(
                Logistic(
                    tuple(names), tuple(round(float(w), 6) for w in found[:-1]), round(float(found[-1]), 6)
                )
            )
        models.append(Model(*parts))
    return Calibration(models[0], models[1], {})


def _balance(pairs: list[LabelledPair]) -> NDArray[np.float64]:
    """Copies weigh as much as negatives, the kinds of negatives the same (fewer than 20 of a kind less)."""
    kinds = ["copy" if p.label == "copy" else p.kind for p in pairs]
    counts = Counter(kinds)
    share = {k: min(n / 20, 1.0) for k, n in counts.items() if k != "copy"}
    total = sum(share.values())
    half = len(pairs) / 2
    return np.array([half / counts[k] if k == "copy" else half * share[k] / total / counts[k] for k in kinds])


# Measuring


def verdict(pair: LabelledPair, config: VerifyConfig, calibration: Calibration, again: bool) -> Judgement:
    """What `judge` and, in doubt, `judge_pixels` say, the copy as a."""
    judged = decide_first(pair.first, config, calibration)
    if again and judged.doubtful:
        judged = decide_second(pair.second, config, calibration)
    return judged.swapped() if pair.flipped else judged


def droppable(judged: Judgement, config: VerifyConfig) -> tuple[bool, bool]:
    """Whether a may be dropped for b, and b for a."""
    a, b = judged.coverage_a, judged.coverage_b
    return (
        judged.verified and a >= config.min_coverage and b >= config.min_kept_coverage,
        judged.verified and b >= config.min_coverage and a >= config.min_kept_coverage,
    )


def measure(pairs: list[LabelledPair], verdicts: list[Judgement], config: VerifyConfig) -> dict[str, object]:
    """Recall by transform, wrong pairs by kind, and the scores that a threshold is chosen by."""
    copies: dict[str, list[tuple[Judgement, bool]]] = defaultdict(list)
    wrong: dict[str, list[Judgement]] = defaultdict(list)
    for pair, judged in zip(pairs, verdicts, strict=True):
        if pair.label in ("other", "added"):
            wrong[f"{pair.label}: {pair.kind}"].append(judged)
        else:
            copies[pair.kind].append((judged, droppable(judged, config)[0]))
    recall = {
        kind: {
            "pairs": len(found),
            "verified": round(sum(j.verified for j, _ in found) / len(found), 4),
            "copy droppable": round(sum(d for _, d in found) / len(found), 4),
            "score p10": round(float(np.quantile([j.score for j, _ in found], 0.1)), 4),
        }
        for kind, found in copies.items()
    }
    mistakes = {
        kind: {
            "pairs": len(found),
            "verified": sum(j.verified for j in found),
            "droppable": sum(any(droppable(j, config)) for j in found),
            "highest score": max(j.score for j in found),
        }
        for kind, found in wrong.items()
    }
    required = [pair for kind in REQUIRED for pair in copies[kind]]
    return {
        "by threshold": [_at(threshold, pairs, verdicts, config) for threshold in THRESHOLDS],
        "required: verified": round(sum(j.verified for j, _ in required) / len(required), 4),
        "required: droppable": round(sum(d for _, d in required) / len(required), 4),
        "wrong pairs verified": sum(m["verified"] for m in mistakes.values()),
        "negatives": sum(m["pairs"] for m in mistakes.values()),
        "copies": recall,
        "negatives by kind": mistakes,
    }


def _at(
    threshold: float, pairs: list[LabelledPair], verdicts: list[Judgement], config: VerifyConfig
) -> dict[str, float]:
    """Recall and wrong pairs, were verify.min_score `threshold`."""
    # what else a pair needs shows in the verdict at the configured threshold, not below it
    held = [j.score >= threshold and (j.verified or j.score < config.min_score) for j in verdicts]
    share = {
        name: [h for p, h in zip(pairs, held, strict=True) if chosen(p)]
        for name, chosen in (
            ("required", lambda p: p.kind in REQUIRED),
            ("beyond", lambda p: p.label == "copy" and p.kind not in REQUIRED),
            ("other", lambda p: p.label == "other"),
            ("added", lambda p: p.label == "added"),
        )
    }
    return {
        "min_score": threshold,
        "required: verified": round(sum(share["required"]) / len(share["required"]), 4),
        "further copies: verified": round(sum(share["beyond"]) / len(share["beyond"]), 4),
        "other pictures verified": sum(share["other"]),
        "pictures with something added verified": sum(share["added"]),
    }


def _halves(pairs: list[LabelledPair]) -> dict[str, int]:
    units = sorted({p.unit for p in pairs})
    order = seeded("split").permutation(len(units))
    return {units[k]: place % 2 for place, k in enumerate(order)}


def _as_json(calibration: Calibration) -> dict[str, object]:
    def part(logistic: Logistic) -> dict[str, object]:
        return {"names": list(logistic.names), "weights": list(logistic.weights), "bias": logistic.bias}

    def model(found: Model) -> dict[str, object]:
        return {"same": part(found.same), "drawn": part(found.drawn)}

    return {"format": FORMAT, "thumbs": model(calibration.thumbs), "pixels": model(calibration.pixels)}


def main() -> None:
    """Makes the pairs, learns, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--photos", type=Path, default=ROOT / "examples" / "photos")
    parser.add_argument("--scenes", type=Path, help="folder with one folder a scene, frames of it inside")
    parser.add_argument("--limit", type=int, default=0, help="photographs to use; 0: all")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, help="where the calibration is written")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    started = time.monotonic()
    with (options.photos / "LICENSES.csv").open(newline="", encoding="utf-8") as handle:
        scenes = {Path(row["file"]).stem: row["scene"] for row in csv.DictReader(handle)}
    photos = sorted(options.photos.glob("*.jpg"))
    if options.limit:
        photos = photos[:: max(len(photos) // options.limit, 1)]
    config = VerifyConfig()
    pairs = list(PairMaker(photos, scenes, options.scenes, config.max_side).all_pairs(options.processes))
    half = _halves(pairs)
    learned = [learn_calibration([p for p in pairs if half[p.unit] != side]) for side in (0, 1)]
    report: dict[str, object] = {
        "pairs": len(pairs),
        "labels": dict(sorted(Counter(p.label or "measured alone" for p in pairs).items())),
        "photographs": len(photos),
        "units": len(half),
        "split": "units in two halves, each judged by what was learned on the other",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__},
    }
    for name, again in (("stored features, then pixels", True), ("stored features alone", False)):
        judged = [verdict(p, config, learned[half[p.unit]], again) for p in pairs]
        report[name] = measure(pairs, judged, config)
    doubtful: dict[str, list[bool]] = defaultdict(list)
    for pair in pairs:
        judged_once = decide_first(pair.first, config, learned[half[pair.unit]])
        doubtful[pair.label if pair.label in ("copy", "added") else pair.kind].append(judged_once.doubtful)
    report["share read again"] = {k: round(sum(v) / len(v), 4) for k, v in sorted(doubtful.items())}
    _LOG.info("%.0f s", time.monotonic() - started)
    if options.output:
        shipped = {**_as_json(learn_calibration(pairs)), "provenance": report}
        options.output.write_text(json.dumps(shipped, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
