"""`onceseen audit` of a simulated model whose memory is known, end to end by its command."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from audit.conftest import PER_PROMPT, Audited, products, run_and_hear
from onceseen.audit import bin_of
from onceseen.cli import main
from onceseen.core.files import read_table
from onceseen.core.layout import RunLayout
from onceseen.core.schemas import AUDIT_GENERATIONS, AUDIT_PROMPTS
from onceseen.generate import prompt_id
from onceseen.jobs.audit import nearest, training
from onceseen.jobs.audit import run as run_module
from onceseen.jobs.lock import run_lock
from onceseen.planted.generations import Behaviour

EXPECTED = {
    Behaviour.COPY: "memorised",
    Behaviour.PART: "template",
    Behaviour.BLUR: "collapsed",
    Behaviour.OTHER: "varied",
    Behaviour.BLANK: "too_few",
}


def test_every_prompt_is_told_for_what_it_is(audited: Audited) -> None:
    rows = audited.prompts()
    assert rows.keys() == audited.answers.keys()
    said = {prompt: row["verdict"] for prompt, row in rows.items()}
    assert said == {prompt: EXPECTED[answer.behaviour] for prompt, answer in audited.answers.items()}
    assert list(rows) == list(audited.answers), "in the order of the generations"
    assert read_table(str(audited.output / "prompts.parquet")).schema.equals(AUDIT_PROMPTS)
    for prompt, row in rows.items():
        assert row["prompt_id"] == prompt_id(prompt)
        assert row["generations"] == PER_PROMPT


def test_what_is_given_back_is_named(audited: Audited) -> None:
    photos = {title: photo for photo, title in audited.trained.titles.items()}
    rows = audited.prompts()
    for prompt in audited.of(Behaviour.COPY):
        row = rows[prompt]
        assert row["reference_id"] in audited.trained.samples[photos[prompt]]
        assert (row["matched_by"], row["matched"], row["clique"]) == ("both", PER_PROMPT, PER_PROMPT)
        assert row["clique_exact"]
        assert row["distance"] < 0.05 < 0.2 < row["second_distance"]
        assert row["ratio"] == pytest.approx(row["distance"] / row["second_distance"], rel=1e-5)
        assert row["paper_match"]
    (part,) = audited.of(Behaviour.PART)
    assert rows[part]["reference_id"] in audited.trained.samples[photos[part]]
    assert rows[part]["template_tiles"] >= 6
    for prompt in audited.of(Behaviour.OTHER) | audited.of(Behaviour.BLUR):
        assert (rows[prompt]["matched_by"], rows[prompt]["matched"]) == ("", 0)


def test_copies_and_occurrences_are_those_of_the_training_set(audited: Audited) -> None:
    photos = {title: photo for photo, title in audited.trained.titles.items()}
    layout = RunLayout(str(audited.trained.run))
    shards = [entry["name"] for entry in json.loads((audited.trained.run / "run.json").read_text())["shards"]]
    captions = Counter(c for s in shards for c in read_table(layout.features(s))["caption"].to_pylist())
    for prompt, row in audited.prompts().items():
        known = photos.get(prompt)
        assert row["copies"] == (len(audited.trained.samples[known]) if known else 0)
        assert row["occurrences"] == captions[prompt]


def test_rates_hold_the_truth(audited: Audited) -> None:
    summary = audited.summary()
    counted = {p for p, a in audited.answers.items() if a.behaviour != Behaviour.BLANK}
    found = summary["rates"]["memorised"]
    assert (found["hits"], found["tried"]) == (len(audited.of(Behaviour.COPY)), len(counted))
    assert found["low"] < len(audited.of(Behaviour.COPY)) / len(counted) < found["high"]
    assert summary["prompts"] == {
        "tried": len(audited.answers),
        "counted": len(counted),
        "too_few": 1,
        "caption_unknown": 1,
    }
    assert (summary["collapsed"], summary["template"], summary["extracted"]) == (1, 1, 4)
    rows = audited.prompts()
    by_bin = Counter(bin_of(rows[p]["copies"]) for p in counted)
    assert {tuple(b["copies"]): b["tried"] for b in summary["by_copies"]} == dict(by_bin)
    assert sum(b["hits"] for b in summary["by_copies"]) == found["hits"]
    assert [point["hits"] for point in summary["clique_curve"]][-1] == 4


def test_scores_are_held_against_the_truth(audited: Audited) -> None:
    truth = audited.summary()["truth"]
    assert truth["verdict"] == {"found": 4, "missed": 0, "false": 0, "right": 6}
    for score in ("matched_clique", "nearest_distance"):
        assert truth[score] == {"auc": 1.0, "tpr_at_1_fpr": 1.0}
    assert truth["clique"]["auc"] < 1, "the blur has as large a clique: alone it tells nothing"
    assert (truth["prompts"], truth["memorised"], truth["too_few"]) == (10, 4, 1)


def test_every_copy_of_what_was_given_back_is_to_be_deleted(audited: Audited) -> None:
    photos = {title: photo for photo, title in audited.trained.titles.items()}
    expected = {
        sample for prompt in audited.of(Behaviour.COPY) for sample in audited.trained.samples[photos[prompt]]
    }
    with (audited.output / "delete_list.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["sample_id"] for row in rows} == expected
    assert len(rows) == len(expected) == audited.summary()["delete"]
    assert {row["reason"] for row in rows} == {"memorised"}
    assert all(f"{PER_PROMPT} of {PER_PROMPT} generations alike" in row["evidence"] for row in rows)


def test_generations_reconcile(audited: Audited) -> None:
    table = read_table(str(audited.output / "generations.parquet"))
    assert table.schema.equals(AUDIT_GENERATIONS)
    rows = {row["sample_id"]: row for row in table.to_pylist()}
    notes = {}
    for path in sorted(audited.generated.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if extension == "json":
                    stream = tar.extractfile(member)
                    assert stream is not None
                    notes[f"{path.stem}/{key}"] = json.loads(stream.read())
    assert rows.keys() == notes.keys()
    for sample_id, note in notes.items():
        row = rows[sample_id]
        assert (row["prompt_id"], row["seed"]) == (note["prompt_id"], str(note["seed"]))
        answer = audited.answers[note["prompt"]]
        assert row["excluded"] == (answer.behaviour == Behaviour.BLANK)
        assert row["matched"] == (answer.behaviour == Behaviour.COPY)
    summary = audited.summary()
    assert summary["read"] == len(rows) == summary["generated"] + summary["excluded"] + summary["failed"]
    assert (summary["excluded"], summary["resized"]) == (PER_PROMPT, PER_PROMPT)
    assert summary["generations_matched"] == 4 * PER_PROMPT == summary["rates"]["matched"]["hits"]


def test_thresholds_are_calibrated_on_what_was_held_out(audited: Audited) -> None:
    summary, held_out = audited.summary(), len(list(audited.held_out.iterdir()))
    assert summary["held_out"] == {"read": held_out, "failed": 0, "blank": 0, "overlapping": 1}
    found = json.loads((audited.output / "thresholds.json").read_text())
    assert found == summary["thresholds"]
    assert (found["calibrated_on"], found["tried"], found["side"]) == ("held-out", held_out - 1, 64)
    assert found["matched"] / found["tried"] <= 0.02
    assert 0.05 < found["match_distance"] == found["edge_distance"] < 0.4
    histogram = summary["histogram"]
    assert sum(histogram["held_out_to_train"]) == held_out - 1
    assert sum(histogram["generation_to_train"]) == summary["generated"]
    assert 2 <= sum(histogram["train_to_train"]) <= 40
    assert len(histogram["edges"]) == len(histogram["train_to_train"]) + 1


def test_the_command_says_what_came_of_it(audited: Audited) -> None:
    read, found, thresholds, truth, delete, report = audited.said.splitlines()
    assert read == (
        "read 132 generations of 11 prompts = judged 120 + excluded 12 + failed 0; 12 of another size, resized"
    )
    assert found.startswith(
        "memorised 4 of 10 prompts (16.8%-68.7%), collapsed 1, template 1, extracted 4; min_clique"
    )
    assert "min_clique 10 of 12 generations a prompt" in found
    assert "calibrated on held-out pictures" in thresholds
    assert truth.startswith("truth: 4 of 4 memorised prompts found, 0 of 6 others said to be; AUC 1.000")
    assert delete == f"to delete: 8 training pictures, {audited.output / 'delete_list.csv'}"
    assert report == f"report: {audited.output / 'report.html'}"


def test_a_finished_audit_is_not_done_again(audited: Audited) -> None:
    before = {p: p.stat().st_mtime_ns for p in audited.output.rglob("*") if p.is_file() and p.name != ".lock"}
    said = run_and_hear(audited.flags(audited.output))
    assert said.splitlines()[0].endswith("done already, with these generations and config; nothing to do")
    assert said.splitlines()[1:] == audited.said.splitlines()
    after = {p: p.stat().st_mtime_ns for p in audited.output.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


def test_results_do_not_depend_on_blocks(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = audited.copy(tmp_path)
    (output / "summary.json").unlink()
    monkeypatch.setattr(training, "PROBE_ROWS", 7)
    monkeypatch.setattr(nearest, "_PORTION", 5)
    monkeypatch.setattr(run_module, "_PARTITION", 20)
    monkeypatch.setattr("onceseen.jobs.shuffles.BLOCK_BYTES", 100)
    run_and_hear(audited.flags(output))
    assert products(output) == products(audited.output)


def test_results_do_not_depend_on_workers(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three workers at once, as threads: processes would take most of a minute to start."""
    output = audited.copy(tmp_path)
    (output / "summary.json").unlink()
    run_pipeline, graphs = FnApiRunner.run_pipeline, []

    def on_three(self: FnApiRunner, pipeline: beam.Pipeline, options: Any) -> Any:
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers, direct.direct_running_mode = 3, "multi_threading"
        graphs.append(options.view_as(GoogleCloudOptions).job_name)
        return run_pipeline(self, pipeline, options)

    monkeypatch.setattr(FnApiRunner, "run_pipeline", on_three)
    run_and_hear(audited.flags(output))
    assert graphs == [f"onceseen-audit-{name}" for name in ("prompts", "training", "pixels", "cliques")]
    assert products(output) == products(audited.output)


def test_a_killed_audit_is_resumed_to_the_same(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own steps; the scans have tests of their own. Then with another setting, which starts those steps again."""
    output = audited.copy(tmp_path)
    (output / "summary.json").unlink()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "find_thresholds", stop)
        assert main(audited.flags(output)) == 1
    assert "run the same command again to resume" in capsys.readouterr().err
    run_and_hear(audited.flags(output))
    assert products(output) == products(audited.output)
    assert not (output / ".state" / "match").exists()
    other = [*audited.flags(output), "--set", "audit.min_clique=13"]
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "find_thresholds", stop)
        assert main(other) == 1
    assert not (output / "prompts.parquet").exists(), "nothing that another audit wrote is left"
    said = run_and_hear(other)
    assert "memorised 0 of 0 prompts (0.0%-100.0%)" in said, "no prompt has 13 generations"
    assert "11 prompts have too few and are not counted" in said


def test_one_audit_at_a_time(audited: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "audit"
    with run_lock(RunLayout(str(output))):
        assert main(audited.flags(output)) == 1
    assert "is held by process" in capsys.readouterr().err


def test_another_directory_is_refused(
    audited: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory of another kind, and an audit of other generations."""
    assert main(audited.flags(audited.output / "scan")) == 2
    assert "is the output of `onceseen scan`, not of `onceseen audit`" in capsys.readouterr().err
    other = tmp_path / "generated"
    other.mkdir()
    (other / "00000.tar").write_bytes((audited.generated / "00000.tar").read_bytes())
    flags = audited.flags(audited.output)
    assert main(["audit", str(other), *flags[2:]]) == 2
    error = capsys.readouterr().err
    assert "holds a scan of something else: " in error
    assert "--overwrite to start again" in error


def test_truth_of_other_prompts_is_refused(
    audited: Audited, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, truth = audited.copy(tmp_path), tmp_path / "truth.csv"
    truth.write_text("prompt,memorised\na cat that nobody asked for,yes\n")
    flags = audited.flags(output)
    flags[flags.index("--truth") + 1] = str(truth)
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert f"--truth {truth} names 1 prompt(s) that none of {audited.generated} answers" in error
    assert "'a cat that nobody asked for'" in error
