"""What `onceseen audit` takes and refuses: a folder with a table, damaged and odd pictures, missing parts."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from audit.conftest import Audited, Trained, run_and_hear
from onceseen.cli import main
from onceseen.core.files import read_table
from onceseen.planted.generations import Answer, Behaviour, SimulatedModel

EACH = 6


@dataclass(frozen=True)
class Folder:
    """A folder of generations whose prompts a table has, and its audit without held-out pictures."""

    pictures: Path
    table: Path
    output: Path
    said: str
    logged: str
    copied: str


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("folder")
    pictures = root / "images"
    photo = trained.by_copies(4)[0]
    model = SimulatedModel(
        {"copied": Answer(Behaviour.COPY, trained.picture(photo)), "other": Answer(Behaviour.OTHER)},
        trained.varied(),
        side=48,
    )
    rows = [("file", "prompt", "seed")]
    for directory, prompt, count in (("a", "copied", EACH), ("b", "other", EACH), ("c", "copied", 1)):
        (pictures / directory).mkdir(parents=True)
        for number in range(count):
            (picture,) = model([prompt], [number])
            name = f"{directory}/{number}.png"
            cv2.imwrite(str(pictures / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            rows.append((name, {"copied": " A   copied PROMPT", "other": "another one"}[prompt], str(number)))
    rows[-1] = (rows[-1][0], "too few", "9")
    (pictures / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    rows.append(("b/broken.png", "another one", "7"))
    shutil.copy(pictures / "b" / "0.png", pictures / "b" / "unasked.png")
    rows.append(("b/gone.png", "another one", "8"))
    with (root / "prompts.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    output = root / "audit"
    heard = _Heard()
    logger = logging.getLogger("onceseen.jobs.audit")
    logger.addHandler(heard)
    try:
        said = run_and_hear(
            [
                *(
                    "audit",
                    str(pictures),
                    "--reference",
                    str(trained.run),
                    "--output",
                    str(output),
                    "--quiet",
                ),
                *("--table", str(root / "prompts.csv"), "--set", f"audit.min_clique={EACH - 1}"),
            ]
        )
    finally:
        logger.removeHandler(heard)
    return Folder(pictures, root / "prompts.csv", output, said, "\n".join(heard.lines), photo)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_prompts_of_a_folder_come_from_the_table(folder: Folder, trained: Trained) -> None:
    rows = {row["prompt"]: row for row in read_table(str(folder.output / "prompts.parquet")).to_pylist()}
    assert {prompt: row["verdict"] for prompt, row in rows.items()} == {
        "A   copied PROMPT": "memorised",
        "another one": "varied",
        "too few": "too_few",
    }
    assert rows["A   copied PROMPT"]["reference_id"] in trained.samples[folder.copied]
    assert rows["A   copied PROMPT"]["copies"] == 0, "no caption of the run is this prompt"
    generations = read_table(str(folder.output / "generations.parquet")).to_pylist()
    seeds = {row["sample_id"]: row["seed"] for row in generations}
    assert seeds["a/3.png"] == "3"
    assert seeds["c/0.png"] == "9"


def test_what_cannot_be_judged_is_counted_and_listed(folder: Folder) -> None:
    summary = json.loads((folder.output / "summary.json").read_text())
    judged = 2 * EACH + 1
    assert (summary["read"], summary["generated"]) == (judged + 2, judged)
    assert (summary["failed"], summary["without_prompt"]) == (1, 1)
    assert summary["without_prompt_examples"] == ["b/unasked.png"]
    assert folder.said.splitlines()[0] == (
        f"read {judged + 2} generations of 3 prompts = judged {judged} + excluded 0 + failed 1 + without a prompt 1"
    )
    rows = read_table(str(folder.output / "generations.parquet")).to_pylist()
    assert [row["sample_id"] for row in rows if row["prompt_id"] is None] == ["b/unasked.png"]
    failures = [
        row
        for path in (folder.output / "scan" / "failures").rglob("*.parquet")
        for row in read_table(str(path)).to_pylist()
    ]
    assert [row["subject"] for row in failures] == ["b/broken.png"]


def test_the_user_is_told_what_to_know(folder: Folder) -> None:
    assert (
        "1 generations have no prompt and are not judged, for example b/unasked.png: the json"
        in folder.logged
    )
    assert f"2 rows of --table {folder.table} name no generation that was read" in folder.logged
    note = next(line for line in folder.said.splitlines() if line.startswith("note: "))
    assert "training pictures, fewer than 1 / audit.max_rate = 100: none of them may match" in note
    assert "calibrated on training pictures" in folder.said


def _refused(capsys: pytest.CaptureFixture[str], output: Path, *flags: str) -> str:
    """The message of a usage error that nothing was done on."""
    assert main(["audit", *flags, "--output", str(output), "--quiet"]) == 2
    assert not (output / "scan").exists(), "nothing was done"
    return capsys.readouterr().err


def test_generations_without_prompts_are_refused_before_any_work(
    folder: Folder, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (str(folder.pictures), "--reference", str(trained.run))
    error = _refused(capsys, tmp_path / "out", *flags)
    assert f"none of 15 generations has a prompt, for example a/0.png in {folder.pictures}" in error
    assert "a .txt beside a picture as its caption, or --table FILE names it" in error
    table = tmp_path / "table.csv"
    table.write_text("file,prompt\nimages/a/0.png,a prompt\n")
    error = _refused(capsys, tmp_path / "out", *flags, "--table", str(table))
    assert f"--table {table} names other files, such as 'images/a/0.png'" in error


def test_a_reference_that_is_none_is_refused(
    folder: Folder, trained: Trained, audited: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(reference: Path) -> str:
        return _refused(capsys, tmp_path / "out", str(folder.pictures), "--reference", str(reference))

    assert "is no run: it has no run.json" in refused(tmp_path)
    assert "is the output of `onceseen audit`, not of `onceseen dedup`" in refused(audited.output)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    content = json.loads((trained.run / "run.json").read_text())
    content["jobs"]["match"]["state"] = "running"
    (unfinished / "run.json").write_text(json.dumps(content))
    assert "is not finished: its match job is 'running'" in refused(unfinished)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("images",), "--reference is missing; expected GENERATIONS --reference RUN --output OUT"),
        (("images", "--per-bin", "3"), "--per-bin belongs to --prompts RUN"),
        (("--prompts", "run"), "--prompts needs --per-bin N"),
        (("images", "--prompts", "run", "--per-bin", "3"), "audits nothing: leave GENERATIONS out"),
        (("--prompts", "run", "--per-bin", "3", "--held-out", "x"), "audits nothing: leave --held-out out"),
    ],
)
def test_flags_that_say_nothing_together_are_refused(
    flags: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in _refused(capsys, tmp_path / "out", *flags)


def test_a_graph_of_embeddings_needs_embeddings(
    folder: Folder, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = tmp_path / "hashes"
    hashes.mkdir()
    content = json.loads((trained.run / "run.json").read_text())
    content["model"], content["config"]["embed"]["model"] = None, "none"
    content["config"]["cells"]["enabled"] = False
    (hashes / "run.json").write_text(json.dumps(content))
    flags = (str(folder.pictures), "--reference", str(hashes), "--set", "audit.edges=both")
    assert "audit.edges is 'both', and the reference has no embeddings" in _refused(
        capsys, tmp_path / "out", *flags
    )


def test_the_list_of_prompts_is_written(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.csv"
    assert main(["audit", "--prompts", str(trained.run), "--per-bin", "2", "--output", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["bin"] for row in rows} == {"1", "2", "3-4"}
    known = [trained.titles[photo] for photo in trained.by_copies(4)]
    four = [row["prompt"] for row in rows if row["bin"] == "3-4"]
    assert four
    assert all(any(title in prompt for title in known) for prompt in four)
