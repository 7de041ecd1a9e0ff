"""From generations to the tables: every finished model judged, compared, written down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig
from onceseen.embed import Embedder, load_embedder

from .analysis import PictureResult, difference, memorised, permutation_test, rates, share
from .arms import COMPARED, MAIN_ARMS
from .audited import audit_model
from .dedup import sample_rows
from .experiment import read_generations
from .judges import (
    SETTINGS,
    Gallery,
    ModelGallery,
    gallery,
    judge_by_model,
    judge_pixels,
    model_gallery,
)
from .model import CaptionModel
from .pictures import Pictures, read_pictures, shrink
from .table import read_table, write_table
from .work import MAIN, VARIANTS, Size, Task, finished, plan_directory, plan_of, prompts_of, rows_of


@dataclass(frozen=True, slots=True)
class ToJudge:
    """What is judged, and by whom.

    Attributes:
        tasks: Models; those that are not finished are left out.
        size: Of the experiment.
        photos: Directory of photographs.
        output: Where models and results lie.
        sscd: File of SSCD; empty: the second judge is not asked.
        audited: Seeds whose arms A and B `onceseen audit` judges too.
        merge: pictures.csv files of other machines.
    """

    tasks: tuple[Task, ...]
    size: Size
    photos: Path
    output: Path
    sscd: str = ""
    audited: tuple[int, ...] = ()
    merge: tuple[Path, ...] = ()


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


def write_results(asked: ToJudge) -> Found:
    """Judges all finished models, and writes OUTPUT/results/results.json and pictures.csv.

    Raises:
        ValueError: If no model is finished, or the file of SSCD cannot be used.
    """
    pictures = read_pictures(asked.photos)
    known = gallery(pictures)
    sscd = _SecondJudge(_open_sscd(asked.sscd), pictures, known) if asked.sscd else None
    judges = _Judges(asked, pictures, known, sscd)
    done = finished(asked.tasks, asked.output)
    results: list[PictureResult] = []
    generations: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for task in done:
        made = read_generations(task.directory(asked.output))
        rows = judges.judge(task, made)
        results += rows
        if (task.part, task.seed) == (MAIN, 0) and task.arm in COMPARED:
            generations |= {(task.arm, row.picture): made[i] for i, row in enumerate(rows)}
    own = {(r.part, r.seed, r.arm) for r in results}
    others = [r for path in asked.merge for r in read_table(path)]
    results += [r for r in others if (r.part, r.seed, r.arm) not in own]
    if not results:
        raise ValueError(
            f"{asked.output} holds no finished model; run without --judge-only, or --merge a pictures.csv"
        )
    summary = summarise(results, known) | {"made": _provenance(done, asked, pictures)}
    directory = asked.output / "results"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_table(results, directory / "pictures.csv")
    return Found(summary, tuple(results), {p.name: shrink(p.data) for p in pictures.audited}, generations)


@dataclass(frozen=True)
class _SecondJudge:
    """SSCD; the gallery is embedded when first asked for, half a minute: not where all verdicts are kept already."""

    model: Embedder
    pictures: Pictures
    known: Gallery

    @cached_property
    def gallery(self) -> ModelGallery:
        """The gallery as it sees it."""
        return model_gallery(self.pictures, self.known, self.model)


@dataclass(frozen=True, slots=True)
class _Judges:
    """The three judges, and what they hold pictures against."""

    asked: ToJudge
    pictures: Pictures
    known: Gallery
    sscd: _SecondJudge | None

    def judge(self, task: Task, made: NDArray[np.uint8]) -> list[PictureResult]:
        """One row for each prompt of a model."""
        asked, prompts = self.asked, _asked_prompts(task, self.asked)
        plan = plan_of(asked.size, asked.photos, task.part, task.seed)
        owners = [name for name, _, _ in prompts]
        seen = rows_of(task, asked.size, asked.photos, asked.output).presentations(asked.size.training.batch)
        judged = judge_pixels(made, owners, self.known)
        rows = [
            PictureResult(
                part=task.part,
                seed=task.seed,
                arm=task.arm,
                picture=name,
                cell=plan.cells[name],
                copies=plan.copies[name],
                prompt=kind,
                presentations=round(seen.get(name, 0.0), 1),
                generations=made.shape[1],
                matched=int(judged.matched[i].sum()),
                others=int(judged.others[i].sum()),
                clique=int(judged.clique[i]),
                memorised=bool(judged.memorised[i]),
                median_distance=round(float(np.median(judged.distance[i])), 4),
            )
            for i, (name, kind, _) in enumerate(prompts)
        ]
        if task.part != MAIN or task.arm not in COMPARED:
            return rows
        if self.sscd is not None:
            shown = self._by_sscd(task, made, owners, self.sscd)
            rows = [
                replace(row, sscd=int(s.sum()), sscd_both=int((s & m).sum()))
                for row, s, m in zip(rows, shown, judged.matched, strict=True)
            ]
        if task.seed in asked.audited:
            rows = self._by_audit(task, made, [text for _, _, text in prompts], rows, judged.matched)
        return rows

    def _by_sscd(
        self, task: Task, made: NDArray[np.uint8], owners: Sequence[str], by: _SecondJudge
    ) -> NDArray[np.bool_]:
        """The second judge's (prompts, per_prompt) bool; kept beside the model, since it takes a minute."""
        directory = task.directory(self.asked.output)
        trained = json.loads((directory / "training.json").read_text())["fingerprint"]
        path = directory / f"sscd-{by.model.spec.weights_hash[:12]}-{trained[:12]}.npz"
        if not path.exists():
            shown = judge_by_model(made, owners, self.known, by.gallery)
            np.savez_compressed(path, shown=shown, threshold=by.gallery.threshold)
        with np.load(path) as stored:
            kept: NDArray[np.bool_] = stored["shown"]
        return kept

    def _by_audit(
        self,
        task: Task,
        made: NDArray[np.uint8],
        prompts: Sequence[str],
        rows: Sequence[PictureResult],
        matched: NDArray[np.bool_],
    ) -> list[PictureResult]:
        """Rows with what `onceseen audit` said."""
        asked = self.asked
        run = plan_directory(asked.output, task.part, task.seed) / "run"
        said = audit_model(prompts, made, self.pictures.held_out, run, task.directory(asked.output))
        plan = plan_of(asked.size, asked.photos, task.part, task.seed)
        shows = {sample_id: plan.rows[i].picture for sample_id, i in sample_rows(plan).items()}
        found = []
        for row, prompt, mine in zip(rows, said, matched, strict=True):
            own = np.array([shows.get(name) == row.picture for name in prompt.references]) & prompt.detector
            both = int((own & mine).sum())
            found.append(replace(row, detector=int(own.sum()), detector_both=both, audit=prompt.verdict))
        return found


def _asked_prompts(task: Task, asked: ToJudge) -> list[tuple[str, str, str]]:
    """(picture, `kept` or `dropped`, prompt), in the order of the generations."""
    prompts = prompts_of(task, asked.size, asked.photos, asked.output)
    return [
        (name, kind, text)
        for name, own in prompts.items()
        for kind, text in zip(("kept", "dropped"), own, strict=False)
    ]


def _open_sscd(path: str) -> Embedder:
    """SSCD, the picture squeezed to 288 pixels; ImageNet's mean and deviation, where the file does not normalise."""
    kind = "onnx" if path.endswith(".onnx") else "torchscript"
    normal: dict[str, Any] = {}
    if kind == "torchscript":
        normal = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    model = load_embedder(
        EmbedConfig(model=f"{kind}:{path}", image_size=288, device="cpu", precision="fp32", **normal)
    )
    if model is None:
        raise ValueError(f"--sscd {path}: no model")
    return model


def summarise(results: Sequence[PictureResult], known: Gallery) -> dict[str, Any]:
    """All tables, as results.json has them; a function of pictures.csv and the calibration."""
    main = [r for r in results if r.part == MAIN]
    variants = [r for r in results if r.part == VARIANTS]
    found: dict[str, Any] = {
        "models": sorted({f"{r.part}-{r.seed}-{r.arm}" for r in results}),
        "threshold": {
            "distance": round(known.distance, 4),
            "held_out": len(known.held_out),
            "held_out_matched": known.held_out_matched,
            "held_out_within_0.15": int((known.held_out <= 0.15).sum()),
        },
    }
    for name, outcome in {"matched": share, "memorised": memorised}.items():
        by_count = rates(main, outcome)
        found[name] = {
            "rates": by_count,
            "differences": {
                f"A-{arm}, {'copies >= 2' if duplicated else 'one copy'}": difference(
                    main, "A", arm, outcome, duplicated=duplicated
                )
                for arm in MAIN_ARMS[1:]
                for duplicated in (True, False)
                if any(r.arm == arm for r in main)
            },
            "permutation_test_in_A": permutation_test(main, "A", outcome),
            "at_equal_presentations": at_equal_presentations(by_count),
            "variants": rates(variants, outcome) if variants else [],
        }
    found["others_matched"] = {
        arm: _others([r for r in main if r.arm == arm]) for arm in sorted({r.arm for r in main})
    }
    found["collapsed"] = {
        arm: _collapsed([r for r in main if r.arm == arm]) for arm in sorted({r.arm for r in main})
    }
    found["second_judge"] = other_judge(main, "sscd")
    found["third_judge"] = other_judge(main, "detector")
    found["audit_verdicts"] = _audit_verdicts(main)
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
            **{name: row[name] for name in ("arm", "cell", "presentations", "mean", "low", "high")},
            "A_interpolated": round(float(np.interp(np.log(row["presentations"]), x, y)), 4),
        }
        for row in rows
        if row["arm"] != "A" and curve[0][0] <= row["presentations"] <= curve[-1][0]
    ]


def other_judge(results: Sequence[PictureResult], judge: str) -> dict[str, Any] | None:
    """Another judge's rates by arm and count, and its agreement with the pixels, generation by generation."""
    seen = [r for r in results if getattr(r, judge) is not None]
    if not seen:
        return None
    table: dict[str, dict[str, float]] = {}
    for arm, copies in sorted({(r.arm, r.copies) for r in seen}):
        these = [r for r in seen if (r.arm, r.copies) == (arm, copies)]
        table.setdefault(arm, {})[str(copies)] = round(
            sum(getattr(r, judge) for r in these) / sum(r.generations for r in these), 4
        )
    total = sum(r.generations for r in seen)
    pixels, other = sum(r.matched for r in seen), sum(getattr(r, judge) for r in seen)
    both = sum(getattr(r, f"{judge}_both") for r in seen)
    return {
        "models": len({(r.seed, r.arm) for r in seen}),
        "rates": table,
        **agreement(both, pixels, other, total),
    }


def agreement(both: int, first: int, second: int, total: int) -> dict[str, float]:
    """A two-by-two table and Cohen's kappa, from how many the first, the second and both call a match."""
    neither = total - first - second + both
    seen = (both + neither) / total
    chance = (first * second + (total - first) * (total - second)) / total**2
    kappa = (seen - chance) / (1 - chance) if chance < 1 else 1.0
    return {
        "both": both,
        "pixels_only": first - both,
        "other_only": second - both,
        "neither": neither,
        "kappa": round(kappa, 3),
    }


def _audit_verdicts(results: Sequence[PictureResult]) -> list[dict[str, Any]]:
    """What `onceseen audit` said, beside the experiment's own second outcome."""
    counts = Counter((r.arm, r.audit, r.memorised) for r in results if r.audit is not None)
    return [
        {"arm": arm, "audit": said, "memorised_here": here, "prompts": number}
        for (arm, said, here), number in sorted(counts.items())
    ]


def _others(results: Sequence[PictureResult]) -> float:
    """Share of generations that show a picture which is not the prompt's."""
    return round(sum(r.others for r in results) / sum(r.generations for r in results), 4)


def _collapsed(results: Sequence[PictureResult]) -> float:
    """Share of prompts with a clique that does not show the picture."""
    least = SETTINGS.min_clique
    return round(float(np.mean([r.clique >= least and not r.memorised for r in results])), 4)


def _provenance(done: Sequence[Task], asked: ToJudge, pictures: Pictures) -> dict[str, Any]:
    """How the models of this machine were made, their loss on held-out pictures, and what their deduplication did."""
    found: dict[str, Any] = {"models": {}, "deduplication": {}}
    held_out = np.stack([shrink(p.data) for p in pictures.held_out])
    captions = [p.caption for p in pictures.held_out]
    for task in done:
        told = json.loads((task.directory(asked.output) / "training.json").read_text())
        name = f"{task.part}-{task.seed}"
        found["models"][f"{name}-{task.arm}"] = {
            "parameters": told["parameters"],
            "rows": told["rows"],
            "steps": told["training"]["steps"],
            "training_loss": told["losses"][-1][1],
            "held_out_loss": round(
                CaptionModel.load(task.directory(asked.output) / "model.pt").loss(held_out, captions), 4
            ),
        }
        kept = json.loads((plan_directory(asked.output, task.part, task.seed) / "kept.json").read_text())
        found["deduplication"][name] = kept["result"]
    return found
