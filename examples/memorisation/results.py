"""From generations to the tables: every finished model judged, compared, written down."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.embed import Embedder, load_embedder

from .analysis import PictureResult, difference, memorised, permutation_test, rates, share
from .arms import MAIN_ARMS
from .experiment import read_generations
from .judges import Gallery, gallery, judge_by_model, judge_pixels
from .pictures import Pictures, read_pictures, shrink
from .work import MAIN, VARIANTS, Size, Task, finished, plan_directory, plan_of, prompts_of, rows_of, tasks_of


@dataclass(frozen=True, slots=True)
class Found:
    """What came out.

    Attributes:
        summary: Content of results.json.
        results: One row a prompt of a model.
        examples: Pictures of seed 0 as they were trained on, by name.
        generations: By (arm, picture): (per_prompt, 32, 32, 3) uint8, of seed 0 of arms A and B.
    """

    summary: dict[str, Any]
    results: tuple[PictureResult, ...]
    examples: dict[str, NDArray[np.uint8]]
    generations: dict[tuple[str, str], NDArray[np.uint8]]


def write_results(size: Size, photos: Path, output: Path, sscd: str = "") -> Found:
    """Judges all finished models, and writes OUTPUT/results/results.json and pictures.csv.

    Raises:
        ValueError: If no model is finished, or the file of SSCD cannot be used.
    """
    results, known, pictures = judge_all(size, photos, output)
    if not results:
        raise ValueError(f"{output} holds no finished model; run without --judge-only")
    summary = summarise(size, results, known, output)
    if sscd:
        summary["second_judge"] = judge_by_other_model(
            size, photos, output, known, pictures, _open_sscd(sscd)
        )
    directory = output / "results"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_pictures(results, directory / "pictures.csv")
    generations = {}
    for task in finished(tasks_of(size), output):
        if (task.part, task.seed) == (MAIN, 0) and task.arm in ("A", "B"):
            made = read_generations(task.directory(output))
            names = [name for name, _ in _asked(task, size, photos, output)]
            generations |= {(task.arm, name): made[i] for i, name in enumerate(names)}
    examples = {p.name: shrink(p.data) for p in pictures.audited}
    return Found(summary, tuple(results), examples, generations)


def _open_sscd(path: str) -> Embedder:
    """SSCD as its authors run it: squeezed to 288 pixels, ImageNet's mean and deviation, unless the file says."""
    kind = "onnx" if path.endswith(".onnx") else "torchscript"
    model = load_embedder(
        EmbedConfig(
            model=f"{kind}:{path}",
            image_size=288,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            device="cpu",
            precision="fp32",
        )
    )
    if model is None:
        raise ValueError(f"--sscd {path}: no model")
    return model


def judge_all(size: Size, photos: Path, output: Path) -> tuple[list[PictureResult], Gallery, Pictures]:
    """Judges every finished model by pixels."""
    pictures = read_pictures(photos)
    known = gallery(pictures)
    results = []
    for task in finished(tasks_of(size), output):
        results += judge_task(task, size, photos, output, known)
    return results, known, pictures


def judge_task(task: Task, size: Size, photos: Path, output: Path, known: Gallery) -> list[PictureResult]:
    """One row for each prompt of a model."""
    plan = plan_of(size, photos, task.part, task.seed)
    asked = _asked(task, size, photos, output)
    seen = rows_of(task, size, photos, output).presentations(size.training.batch)
    generations = read_generations(task.directory(output))
    judged = judge_pixels(generations, [name for name, _ in asked], known)
    return [
        PictureResult(
            task.part,
            task.seed,
            task.arm,
            name,
            plan.cells[name],
            plan.copies[name],
            prompt,
            round(seen.get(name, 0.0), 1),
            generations.shape[1],
            int(judged.matched[i].sum()),
            int(judged.others[i].sum()),
            int(judged.clique[i]),
            bool(judged.memorised[i]),
            round(float(np.median(judged.distance[i])), 4),
        )
        for i, (name, prompt) in enumerate(asked)
    ]


def _asked(task: Task, size: Size, photos: Path, output: Path) -> list[tuple[str, str]]:
    """(picture, `kept` or `dropped`) of each prompt, in the order of the generations."""
    prompts = prompts_of(task, size, photos, output)
    return [
        (name, kind)
        for name, own in prompts.items()
        for kind, _ in zip(("kept", "dropped"), own, strict=False)
    ]


def summarise(size: Size, results: Sequence[PictureResult], known: Gallery, output: Path) -> dict[str, Any]:
    """All tables, as they are written to results.json."""
    main = [r for r in results if r.part == MAIN]
    variants = [r for r in results if r.part == VARIANTS]
    outcomes = {"matched": share, "memorised": memorised}
    seeds = sorted({r.seed for r in main})
    found: dict[str, Any] = {
        "models": sorted({f"{r.part}-{r.seed}-{r.arm}" for r in results}),
        "parameters": _parameters(size, output),
        "threshold": {
            "distance": round(known.distance, 4),
            "held_out": len(known.held_out),
            "held_out_matched": known.held_out_matched,
            "held_out_within_paper_0.15": int((known.held_out <= 0.15).sum()),
        },
        "deduplication": {
            f"{part}-{seed}": json.loads((plan_directory(output, part, seed) / "kept.json").read_text())[
                "result"
            ]
            for part, seed in sorted({(r.part, r.seed) for r in results})
        },
        "others_matched": {
            arm: _others([r for r in main if r.arm == arm])
            for arm in MAIN_ARMS
            if any(r.arm == arm for r in main)
        },
    }
    for name, outcome in outcomes.items():
        found_rates = rates(main, outcome)
        found[name] = {
            "rates": found_rates,
            "differences": {
                f"A-{arm}, {'copies >= 2' if duplicated else 'one copy'}": difference(
                    main, "A", arm, outcome, duplicated=duplicated
                )
                for arm in MAIN_ARMS[1:]
                for duplicated in (True, False)
                if any(r.arm == arm for r in main)
            },
            "permutation_test_in_A": permutation_test(main, "A", outcome) if seeds else None,
            "variants": rates(variants, outcome) if variants else [],
            "at_equal_presentations": at_equal_presentations(found_rates),
        }
    return found


def at_equal_presentations(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each other arm's rate beside A's at as many presentations, interpolated on their logarithm.

    Where memorisation follows how often a picture is seen, whatever the reason, the two agree.
    """
    curve = sorted((row["presentations"], row["mean"]) for row in rows if row["arm"] == "A")
    if len(curve) < 2:
        return []
    x, y = np.log([p for p, _ in curve]), [rate for _, rate in curve]
    return [
        {
            **{name: row[name] for name in ("arm", "cell", "presentations", "mean")},
            "A_interpolated": round(float(np.interp(np.log(row["presentations"]), x, y)), 4),
        }
        for row in rows
        if row["arm"] != "A" and curve[0][0] <= row["presentations"] <= curve[-1][0]
    ]


def judge_by_other_model(
    size: Size, photos: Path, output: Path, known: Gallery, pictures: Pictures, model: Embedder
) -> dict[str, Any]:
    """The second judge on arms A and B: rates by count, and its agreement with the pixels."""
    rows: dict[str, Any] = {"model": model.spec.name, "tasks": []}
    for task in finished(tasks_of(size), output):
        if task.part != MAIN or task.arm not in ("A", "B"):
            continue
        owners = [name for name, _ in _asked(task, size, photos, output)]
        generations = read_generations(task.directory(output))
        matched, threshold = judge_by_model(generations, owners, known, pictures, model)
        pixels = judge_pixels(generations, owners, known).matched
        cells = plan_of(size, photos, task.part, task.seed).cells
        rows["threshold"] = round(threshold, 4)
        rows["tasks"].append(
            {
                "seed": task.seed,
                "arm": task.arm,
                "rates": {
                    cell: round(float(matched[[cells[n] == cell for n in owners]].mean()), 4)
                    for cell in sorted(set(cells.values()), key=int)
                },
                **agreement(pixels, matched),
            }
        )
    return rows


def agreement(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> dict[str, float]:
    """Counts of a two-by-two table, and Cohen's kappa."""
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    one, other, total = int((first & ~second).sum()), int((~first & second).sum()), first.size
    seen = (both + neither) / total
    chance = ((both + one) * (both + other) + (neither + one) * (neither + other)) / total**2
    kappa = (seen - chance) / (1 - chance) if chance < 1 else 1.0
    return {
        "both": both,
        "pixels_only": one,
        "other_only": other,
        "neither": neither,
        "kappa": round(kappa, 3),
    }


def write_pictures(results: Sequence[PictureResult], path: Path) -> None:
    """One row a picture, arm and seed."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        out = csv.DictWriter(stream, [f.name for f in fields(PictureResult)], lineterminator="\n")
        out.writeheader()
        out.writerows(asdict(result) for result in results)


def _others(results: Sequence[PictureResult]) -> float:
    return round(sum(r.others for r in results) / max(1, sum(r.generations for r in results)), 4)


def _parameters(size: Size, output: Path) -> dict[str, int]:
    """Weights of each finished model: they differ by the words of its captions."""
    return {
        f"{task.part}-{task.seed}-{task.arm}": json.loads(
            (task.directory(output) / "training.json").read_text()
        )["parameters"]
        for task in finished(tasks_of(size), output)
    }
