"""What is to be run, in which order, and where its results lie."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from .arms import COMPARED, MAIN_ARMS, TrainingSet, training_set
from .dedup import Kept, deduplicate, wrong_and_missed
from .experiment import Asked, run_arm
from .model import Training
from .pictures import read_pictures
from .plan import GROUP, GROUPS, OTHERS, Plan, main_plan, variants_plan

MAIN, VARIANTS = "main", "variants"


@dataclass(frozen=True, slots=True)
class Size:
    """How large an experiment is.

    Attributes:
        seeds: Seeds for arms A and B; the other arms are run for the first `other_seeds`.
        other_seeds: As above.
        arms: Which arms.
        variants: Whether crops and captions are tried.
        groups: Copies of the pictures in each group.
        group: Pictures a group.
        others: Other pictures in the duplicated set.
        per_prompt: Generations a prompt.
        training: Steps and batch.
    """

    seeds: int = 5
    other_seeds: int = 1
    arms: tuple[str, ...] = MAIN_ARMS
    variants: bool = True
    groups: tuple[int, ...] = GROUPS
    group: int = GROUP
    others: int = OTHERS
    per_prompt: int = 32
    training: Training = field(default_factory=Training)


SHORT = Size(
    seeds=1,
    arms=COMPARED,
    variants=False,
    groups=(32, 1),
    others=20,
    per_prompt=12,
    training=Training(steps=900, batch=16, rate=3e-3, ema=0.985, widths=(32, 32, 32)),
)
"""24 pictures at 1 and 32 copies: a minute a model. Many small steps: few large ones end in noise."""


@dataclass(frozen=True, slots=True)
class Task:
    """One model.

    Attributes:
        part: `main` or `variants`.
        seed: Of the plan and of the training.
        arm: Which rows.
    """

    part: str
    seed: int
    arm: str

    @property
    def name(self) -> str:
        """Such as `main-0-A`."""
        return f"{self.part}-{self.seed}-{self.arm}"

    def directory(self, output: Path) -> Path:
        """Where its results lie."""
        return plan_directory(output, self.part, self.seed) / self.arm


def plan_directory(output: Path, part: str, seed: int) -> Path:
    """Where a plan's shards, runs and models lie."""
    return output / f"{part}-{seed}"


def tasks_of(size: Size) -> list[Task]:
    """All models, the most telling first."""
    first = [Task(MAIN, seed, arm) for seed in range(size.seeds) for arm in COMPARED if arm in size.arms]
    others = [
        Task(MAIN, seed, arm) for seed in range(size.other_seeds) for arm in size.arms if arm not in COMPARED
    ]
    variants = [Task(VARIANTS, 0, arm) for arm in COMPARED] if size.variants else []
    return [*first[:4], *others, *variants, *first[4:]]


def run_all(tasks: Sequence[Task], size: Size, photos: Path, output: Path, jobs: int) -> None:
    """Deduplicates each plan, then trains and asks the models, `jobs` at a time; what is finished is left as it is."""
    if jobs <= 1:
        for task in tasks:
            run_task(task, size, photos, output)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = []
        for task in tasks:
            prepare(size, photos, output, task.part, task.seed)  # here alone: one run a directory at a time
            running.append(pool.submit(run_task, task, size, photos, output))
        for done in as_completed(running):
            done.result()


@cache
def plan_of(size: Size, photos: Path, part: str, seed: int) -> Plan:
    """A plan, as a function of its seed."""
    pictures = read_pictures(photos)
    if part == VARIANTS:
        return variants_plan(pictures, seed)
    return main_plan(pictures, seed, size.groups, size.group, size.others)


def prepare(size: Size, photos: Path, output: Path, part: str, seed: int) -> dict[str, Kept]:
    """Deduplicates a plan, or reads what that gave before."""
    directory = plan_directory(output, part, seed)
    path = directory / "kept.json"
    plan = plan_of(size, photos, part, seed)
    rows = [[row.picture, row.caption, row.copy] for row in plan.rows]
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["rows"] == rows:
            return {n: Kept(tuple(k["rows"]), tuple(k["weights"])) for n, k in stored["kept"].items()}
    directory.mkdir(parents=True, exist_ok=True)
    ways = {task.arm for task in tasks_of(size) if (task.part, task.seed) == (part, seed)}
    kept = deduplicate(plan, directory, all_ways=bool(ways & {"max_copies", "weights"}))
    content = {
        "rows": rows,
        "kept": {name: asdict(k) for name, k in kept.items()},
        "result": {name: wrong_and_missed(plan, k) for name, k in kept.items()},
    }
    path.write_text(json.dumps(content))
    return kept


def rows_of(task: Task, size: Size, photos: Path, output: Path) -> TrainingSet:
    """The rows of a task."""
    kept = prepare(size, photos, output, task.part, task.seed)
    return training_set(task.arm, plan_of(size, photos, task.part, task.seed), kept, size.training.steps)


def prompts_of(task: Task, size: Size, photos: Path, output: Path) -> dict[str, tuple[str, ...]]:
    """By audited picture: the caption that Onceseen kept; where it had several, one that was dropped as well."""
    plan = plan_of(size, photos, task.part, task.seed)
    kept = {
        plan.rows[i].picture: plan.rows[i].caption
        for i in prepare(size, photos, output, task.part, task.seed)["dedup"].rows
    }
    found = {}
    for name in plan.copies:
        dropped = {row.caption for row in plan.rows if row.picture == name} - {kept[name]}
        found[name] = (kept[name], *sorted(dropped)[:1])
    return found


def run_task(task: Task, size: Size, photos: Path, output: Path) -> Task:
    """Trains and asks one model."""
    rows = rows_of(task, size, photos, output)
    prompts = prompts_of(task, size, photos, output)
    asked = Asked(tuple(p for own in prompts.values() for p in own), size.per_prompt)
    training = replace(size.training, seed=task.seed, steps=rows.steps)
    title = f"{task.part} seed {task.seed} arm {task.arm}"
    run_arm(rows, asked, training, task.directory(output), title)
    return task


def finished(tasks: Sequence[Task], output: Path) -> list[Task]:
    """Those whose generations are there."""
    return [task for task in tasks if (task.directory(output) / "training.json").exists()]
