"""One small finished run of real photographs, a simulated model with a known memory, and its audit."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onceseen.cli import main
from onceseen.core.files import read_table
from onceseen.generate import generate_shards
from onceseen.planted.generations import Answer, Behaviour, SimulatedModel
from onceseen.planted.imaging import RgbImage, decode_rgb
from onceseen.planted.plan import DemoConfig
from planted_demo import PHOTOS, plant_demo

PER_PROMPT = 12
SETTINGS = ("--set", "audit.min_clique=10", "--set", "audit.max_rate=0.02", "--set", "audit.train_samples=40")
_CONFIG = DemoConfig(
    num_shards=2, counts=((4, 2), (2, 3)), blanks=2, blank_copies=1, pages=1, halves=(), composites=()
)
_FAST = ("--set", "verify.local_features=false", "--set", "cells.recall_samples=0")
"""Of this set, thumbs alone tell the same copies; looks at pixels would take most of the time."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A training set, deduplicated, and pictures that are not in it.

    Attributes:
        run: The finished run; tests write nothing into it.
        samples: Sample ids of the run by the photograph that they show.
        titles: Captions by photograph.
        others: Photographs that it does not hold: those that a model varies, then those that are held out.
    """

    run: Path
    samples: Mapping[str, set[str]]
    titles: Mapping[str, str]
    others: tuple[Path, ...]

    def picture(self, photo: str) -> RgbImage:
        """A photograph."""
        return decode_rgb((PHOTOS / f"{photo}.jpg").read_bytes())

    def varied(self) -> list[RgbImage]:
        """Pictures for what a model varies."""
        return [decode_rgb(path.read_bytes()) for path in self.others[:20]]

    def by_copies(self, copies: int) -> list[str]:
        """Photographs with so many samples in the run."""
        return sorted(photo for photo, samples in self.samples.items() if len(samples) == copies)


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit of a simulated model.

    Attributes:
        trained: What it was trained on.
        answers: What it does, by prompt.
        generated: Its generations.
        held_out: Folder of held-out photographs.
        truth: Known answers, for --truth.
        output: The audit; tests copy it before they change it.
        said: What the command printed.
    """

    trained: Trained
    answers: Mapping[str, Answer]
    generated: Path
    held_out: Path
    truth: Path
    output: Path
    said: str

    def flags(self, output: Path) -> list[str]:
        """The command line that made it."""
        return [
            *("audit", str(self.generated), "--reference", str(self.trained.run), "--output", str(output)),
            *("--held-out", str(self.held_out), "--truth", str(self.truth), "--quiet", *SETTINGS),
        ]

    def prompts(self) -> dict[str, dict[str, Any]]:
        """Rows of prompts.parquet by prompt."""
        rows = read_table(str(self.output / "prompts.parquet")).to_pylist()
        return {row["prompt"]: row for row in rows}

    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return dict(json.loads((self.output / "summary.json").read_text()))

    def of(self, behaviour: Behaviour) -> set[str]:
        """Prompts that are answered in one way."""
        return {prompt for prompt, answer in self.answers.items() if answer.behaviour == behaviour}

    def copy(self, directory: Path) -> Path:
        """The audit in another place, to be changed."""
        return Path(shutil.copytree(self.output, directory / "audit"))


def products(output: Path) -> dict[str, bytes]:
    """What must be the same however an audit was run."""
    names = ("prompts.parquet", "generations.parquet", "summary.json", "delete_list.csv", "thresholds.json")
    return {name: (output / name).read_bytes() for name in names}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    demo = plant_demo(tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("demo"), _CONFIG, 24)
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["dedup", str(demo / "shards"), "--output", str(run), "--quiet", "--dry-run", *_FAST]) == 0
    samples: dict[str, set[str]] = {}
    with (demo / "manifest.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            samples.setdefault(row["source_id"], set()).add(row["file"])
    with (PHOTOS / "LICENSES.csv").open(newline="") as stream:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(stream)}
    held = {rows[photo]["scene"] for photo in samples if photo in rows} - {""}
    others = [
        p for p in sorted(PHOTOS.glob("*.jpg")) if p.stem not in samples and rows[p.stem]["scene"] not in held
    ]
    titles = {photo: rows[photo]["title"] for photo in samples if photo in rows}
    known = {photo: ids for photo, ids in samples.items() if photo in titles}
    return Trained(run, known, titles, tuple(others[::3] + others[1::3] + others[2::3]))


def _answers(trained: Trained) -> dict[str, Answer]:
    """A memory of all kinds: of pictures with four copies, two and one."""
    four, two, one = (trained.by_copies(n) for n in (4, 2, 1))
    said = [
        *((photo, Behaviour.COPY) for photo in (four[0], two[0], one[0])),
        *((photo, Behaviour.OTHER) for photo in (four[1], two[1], one[1])),
        *((photo, Behaviour.PART) for photo in (one[2],)),
        *((photo, Behaviour.BLUR) for photo in (one[3],)),
        *((photo, Behaviour.BLANK) for photo in (one[4],)),
    ]
    answers = {trained.titles[p]: Answer(how, trained.picture(p)) for p, how in said}
    answers[trained.titles[one[5]]] = Answer(Behaviour.COPY, trained.picture(one[5]), side=96)
    answers["a prompt that no training picture has"] = Answer(Behaviour.OTHER)
    return answers


@pytest.fixture(scope="session")
def audited(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    root = tmp_path_factory.mktemp("audited")
    answers = _answers(trained)
    generated = root / "generated"
    model = SimulatedModel(answers, trained.varied())
    generate_shards(model, list(answers), str(generated), per_prompt=PER_PROMPT, shard_size=40, quiet=True)
    held_out = root / "validation"
    held_out.mkdir()
    for path in trained.others[20:80]:
        shutil.copy(path, held_out)
    overlapping = trained.by_copies(2)[0]
    shutil.copy(PHOTOS / f"{overlapping}.jpg", held_out)
    truth = root / "truth.csv"
    with truth.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("prompt", "memorised"))
        writer.writerows((p, "yes" if a.behaviour == Behaviour.COPY else "no") for p, a in answers.items())
    made = Audited(trained, answers, generated, held_out, truth, root / "audit", "")
    said = run_and_hear(made.flags(made.output))
    return Audited(trained, answers, generated, held_out, truth, root / "audit", said)


def run_and_hear(flags: Sequence[str], code: int = 0) -> str:
    """Runs a command; what it printed on standard output."""
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        assert main(list(flags)) == code
    return heard.getvalue()
