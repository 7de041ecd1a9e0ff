"""report.html of an audit: what was given back beside what was trained on, nothing loaded, everything escaped."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from tests.unit.stats.small_run import Planted, SmallRun, dropped, jpeg, picture
from tests.unit.stats.test_report import HOSTILE, Page

from onceseen.audit import Thresholds
from onceseen.core.config import PipelineConfig
from onceseen.core.files import read_bytes, write_table
from onceseen.core.layout import RunLayout
from onceseen.core.schemas import AUDIT_GENERATIONS, AUDIT_PROMPTS
from onceseen.jobs.audit.facts import Counts, Facts
from onceseen.jobs.audit.finish import extracted_groups
from onceseen.jobs.audit.given import Truth
from onceseen.jobs.audit.summary import Judged, summarise_audit
from onceseen.jobs.audit.thresholds import AuditThresholds
from onceseen.stats.report.audit import AuditReport, write_audit_report
from onceseen.stats.report.audit_charts import distances, rate_by_clique, rate_by_copies
from onceseen.stats.report.audit_gather import MORE, SHOWN
from onceseen.stats.text import hash64

SIDE = 32
PER_PROMPT = 8


@dataclass
class SmallAudit:
    """An audit made by hand: a training run of two tars, and a scan of generations that are shrunk pictures of it.

    Attributes:
        root: Where to write.
        prompts: Rows of prompts.parquet; `prompt_id` and ids of generations follow from their order.
        failed: Generations that could not be read.
        truth: What is known, by prompt.
        held_out: Distances of held-out pictures; None without any.
    """

    root: Path
    prompts: Sequence[dict[str, Any]]
    failed: int = 0
    truth: dict[str, bool] | None = None
    held_out: Sequence[float] | None = (0.3, 0.4)
    warnings: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)

    def write(self) -> AuditReport:
        """Writes everything but the report."""
        training = self._training()
        layout = RunLayout(str(self.root / "audit"))
        self._generations(layout)
        self.rows = [self._row(i, given) for i, given in enumerate(self.prompts)]
        write_table(layout.audit_prompts(), pa.Table.from_pylist(self.rows, schema=AUDIT_PROMPTS))
        members = [row for i in range(len(self.prompts)) for row in self._members(i)]
        write_table(layout.audit_generations(), pa.Table.from_pylist(members, schema=AUDIT_GENERATIONS))
        extracted = extracted_groups(self.rows)
        summary = self._summary(len(extracted))
        return AuditReport(layout, training, PipelineConfig(), summary, extracted)

    def _training(self) -> RunLayout:
        samples = [
            Planted("train/a", jpeg(picture(1)), "first"),
            Planted("train/b", jpeg(picture(2)), "second"),
        ]
        copies = [dropped(f"train/c{i}", jpeg(picture(1), 80 + i), "train/a") for i in range(4)]
        return SmallRun(self.root / "training", samples + copies).write()

    def _generations(self, layout: RunLayout) -> None:
        """OUT/scan: generations of prompt i are picture 1, shrunk, at their own quality."""
        small = cv2.resize(picture(1), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        ids = [generation(i, j) for i in range(len(self.prompts)) for j in range(PER_PROMPT)]
        made = SmallRun(
            self.root / "generated", [Planted(one, jpeg(small, 95)) for one in ids or ["made/none"]]
        )
        shutil.copytree(made.write().root, layout.audit_scan().root)
        shutil.copy(layout.audit_scan().run_json(), layout.run_json())

    def _row(self, i: int, given: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "prompt": f"prompt {i}", "verdict": "memorised", "generations": PER_PROMPT, "excluded": 0, "resized": 0,
            "clique": PER_PROMPT, "clique_exact": True, "clique_bound": PER_PROMPT, "clique_pixels": PER_PROMPT,
            "clique_embedding": 1, "component_size": PER_PROMPT, "mean_distance": 0.01,
            "representative_id": generation(i, 2), "reference_id": "train/a", "reference_component": "train/a",
            "reference_group": "train/a", "matched_by": "both", "distance": 0.0123, "second_distance": 0.4567,
            "ratio": 0.027, "l2": 0.0111, "paper_match": True, "matched": PER_PROMPT, "template_tiles": 0,
            "copies": 5, "occurrences": 3, "nearest_distance": 0.0120, **given,
        }  # fmt: skip
        return {**row, "prompt_id": f"{hash64(row['prompt']):016x}"}

    def _members(self, i: int) -> list[dict[str, Any]]:
        shared: dict[str, Any] = {
            "prompt_id": self.rows[i]["prompt_id"], "excluded": False, "matched": True, "matched_by": "both",
            "detector": "duplicate", "detector_reference_id": "train/a", "reference_id": "train/a",
            "distance": 0.0123, "second_distance": 0.4567, "ratio": 0.027, "l2": 0.0111,
        }  # fmt: skip
        return [
            {**shared, "sample_id": generation(i, j), "seed": str(100 + j), "in_clique": j != 0}
            for j in range(PER_PROMPT)
        ]

    def _summary(self, extracted: int) -> dict[str, Any]:
        """As the audit itself sums it up."""
        usable = sum(row["generations"] - row["excluded"] for row in self.rows)
        excluded = sum(row["excluded"] for row in self.rows)
        counts = Counts(read=usable + excluded + self.failed, failed=self.failed)
        held = Counts() if self.held_out is None else Counts(read=len(self.held_out))
        found = {
            "generation_to_train": np.full(usable, 0.0123, np.float32),
            "train_to_train": np.array([0.35, 0.45], np.float32),
            "held_out_to_train": np.array(self.held_out or (), np.float32),
        }
        judged = Judged(self.rows, usable, usable, extracted, 5 * extracted, found)
        values = Thresholds(
            match_distance=0.2, match_ratio=0.75, edge_distance=0.2, edge_cosine=0.9, min_clique=5
        )
        source = ("set", 0, 0) if self.held_out is None else ("held-out", 0, len(self.held_out))
        thresholds = AuditThresholds(values, SIDE, *source, warnings=self.warnings)
        known = {} if self.truth is None else {hash64(prompt): said for prompt, said in self.truth.items()}
        truth = Truth(path="truth.csv" if self.truth else "", memorised=known)
        return summarise_audit(judged, Facts(counts, held, {}, SIDE), thresholds, truth)


def generation(prompt: int, number: int) -> str:
    return f"made/{prompt:04}-{number}"


def page_of(audit: SmallAudit) -> Page:
    return Page(read_bytes(write_audit_report(audit.write())).decode("utf-8"))


def collapsed(**values: Any) -> dict[str, Any]:
    return {
        "verdict": "collapsed", "matched_by": "", "reference_id": "train/b", "reference_group": "train/b",
        "paper_match": False, "matched": 0, "copies": 1, **values,
    }  # fmt: skip


def template(**values: Any) -> dict[str, Any]:
    return {
        **collapsed(),
        "verdict": "template",
        "matched_by": "template",
        "template_tiles": 9,
        "clique": 1,
        **values,
    }


def too_few(**values: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(
        ("representative_id", "reference_id", "reference_group", "distance", "second_distance", "ratio", "l2")
    )
    return {
        **collapsed(),
        **nothing,
        "verdict": "too_few",
        "generations": 4,
        "excluded": 2,
        "clique": 0,
        **values,
    }


def shown(page: Page) -> list[str]:
    """Ids of the pictures, in the order of the page."""
    alt = [str(attributes["alt"]) for tag, attributes in page.tags if tag == "img"]
    return [words.removeprefix("Picture of ") for words in alt]


def pixels(page: Page, sample_id: str) -> np.ndarray[Any, Any]:
    data = page.images()[sample_id].partition("base64,")[2]
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR))


def test_what_was_given_back_stands_beside_the_training_picture(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{"prompt": "a gate at night"}]))
    others = [generation(0, j) for j in (1, 3, 4, 5)]
    assert shown(page) == [generation(0, 2), "train/a", *others]
    assert len(others) == MORE
    assert np.abs(pixels(page, "train/a").astype(int) - picture(1)).mean() < 6
    for words in (
        "a gate at night",
        "generated, seed 102",
        "training picture, 5 copies",
        "by pixels and detector",
        "generations all alike 8 of 8",
        "generations that match 8 of 8",
        "copies of the prompt's picture 5",
        "training samples with this caption 3",
        "tiled distance 0.0123",
        "to the next distinct picture 0.4567",
        "ratio 0.027",
        "L2 of the whole 0.0111",
        "paper's rule, L2 ≤ 0.15 agrees",
    ):
        assert words in page.text, words


def test_small_generations_are_kept_as_they_are_and_shown_pixel_by_pixel(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{}]))
    css = {str(a["alt"]): a.get("class") for tag, a in page.tags if tag == "img"}
    assert css[f"Picture of {generation(0, 2)}"] == "small"
    assert css["Picture of train/a"] is None
    assert page.images()[generation(0, 2)].startswith("data:image/png;base64,")
    small = cv2.resize(picture(1), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    source = cv2.imdecode(np.frombuffer(jpeg(small, 95), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(pixels(page, generation(0, 2)).astype(int) - source).max() <= 3, "two decoders of one JPEG"


def test_numbers_of_the_overview_and_what_a_reader_must_know(tmp_path: Path) -> None:
    prompts: list[dict[str, Any]] = [
        {"resized": 2},
        collapsed(),
        template(clique_exact=False),
        too_few(prompt="hardly any"),
        {"copies": 1},
    ]
    warning = "calibrated on 2 held-out pictures"
    page = page_of(SmallAudit(tmp_path, prompts, failed=3, warnings=(warning,)))
    for words in (
        "Prompts 5 4 counted, 1 with too few generations",
        "Memorised 2 prompts: 50%, interval 15% to 85%",
        "Extracted 1 training pictures given back, 5 samples of them",
        "Collapsed 1 alike, no training picture: 25%",
        "Template 1",
        "Least clique 5 of 8 generations a prompt",
        "Match distance 0.200 calibrated on held-out pictures",
        "39 read = 34 judged + 2 excluded as blank + 3 failed (scan/failures/) + 0 without a prompt",
        "1 prompt with fewer usable generations than a clique of 5: in no rate",
        "Prompts with too few generations (1 of 1)",
        "hardly any",
        "At the match distance, 0 of 2 held-out pictures match",
        warning,
        "2 generations of another size than most",
        "cut short for 1 prompt",
        "Of pictures that occur once, the control, 1 of 3 are memorised",
    ):
        assert words in page.text, words


def test_a_threshold_that_was_set_is_no_reason_to_trust(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{}], held_out=None))
    assert "Look at this: The match distance was set" in page.text
    assert "held-out pictures none" in page.text
    assert "nothing to compare with" in page.text, "no prompt of one copy"


def test_prompts_of_one_training_picture_share_a_card(tmp_path: Path) -> None:
    prompts: list[dict[str, Any]] = [
        {"clique": 5},
        {"prompt": "the best"},
        {"prompt": "another", "clique": 5},
    ]
    page = page_of(SmallAudit(tmp_path, prompts))
    assert "1 training picture given back, the most copied first" in page.text
    assert shown(page)[0] == generation(1, 2)
    assert "Given back for 2 other prompts too prompt 0 another" in page.text


def test_collapsed_and_template_are_shown_apart(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [collapsed(), template()]))
    assert "No training picture was given back." in page.text
    assert "Collapsed: 1 of 1 prompt" in page.text
    assert "nearest in training, 1 copy" in page.text
    assert "no match" in page.text
    assert "Template: 1 of 1 prompt" in page.text
    assert "tiles shared 9 of 16" in page.text
    assert "distance over the shared tiles 0.0123" in page.text
    assert "paper's rule, L2 ≤ 0.15 does not" in page.text


def test_a_match_of_the_detector_alone_does_not_claim_the_distance(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{"matched_by": "detector", "second_distance": None}]))
    assert "by the detector" in page.text
    assert "tiled distance, nearest by pixels 0.0123" in page.text
    assert "to the next distinct picture there is none" in page.text


def test_a_clique_that_was_not_proven_is_given_with_its_bound(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{"clique": 5, "clique_exact": False, "clique_bound": 6}]))
    assert "generations all alike 5 (at most 6) of 8" in page.text


def test_hostile_prompts_stay_text_and_short(tmp_path: Path) -> None:
    prompts = [{"prompt": HOSTILE}, collapsed(prompt=HOSTILE + "2"), too_few(prompt="<b>" + "x" * 100_000)]
    audit = SmallAudit(tmp_path, prompts)
    page = page_of(audit)
    assert page.text.count("<script>alert('x')</script><img src=x onerror=alert(1)>") == 2
    assert len(page.scripts) == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "<b>" + "x" * 497 + " …" in page.text
    raw = read_bytes(str(tmp_path / "audit/report.html")).decode("utf-8")
    assert "\x00" not in raw
    assert "\x1b" not in raw
    assert "x" * 501 not in raw


def test_nothing_is_loaded_and_every_link_has_its_target(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, [{}, collapsed()], truth={"prompt 0": True, "prompt 1": False}))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(
                ("data:image/jpeg;base64,", "data:image/png;base64,", "#")
            )
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for _, a in page.tags if "href" in a} <= set(ids)


def test_truth_is_compared_where_there_is_one(tmp_path: Path) -> None:
    known = {"prompt 0": True, "prompt 1": False, "prompt 2": True}
    page = page_of(SmallAudit(tmp_path / "with", [{}, collapsed(), collapsed()], truth=known))
    assert (
        "3 counted prompts of the truth table, 2 of them memorised: 1 found, 1 missed, 0 falsely" in page.text
    )
    assert "clique that shows a training picture 0.750 0.500" in page.text
    assert "truth" not in page_of(SmallAudit(tmp_path / "without", [{}])).text.casefold()


def test_an_audit_that_found_nothing_says_so(tmp_path: Path) -> None:
    page = page_of(SmallAudit(tmp_path, []))
    for words in (
        "No training picture was given back.",
        "No prompt has enough generations.",
        "No prompt has a usable generation.",
        "Collapsed and template prompts None.",
        "0 read = 0 judged",
    ):
        assert words in page.text, words
    assert shown(page) == []


def test_hundreds_are_cut_to_the_most_copied_and_the_rest_is_said(tmp_path: Path) -> None:
    prompts = [{"reference_group": f"train/{i}", "copies": i, "prompt": f"copied {i}"} for i in range(1, 301)]
    page = page_of(SmallAudit(tmp_path, prompts))
    assert f"The {SHOWN} most copied of 300 training pictures given back" in page.text
    assert f"and {300 - SHOWN} more, in prompts.parquet" in page.text
    best = [sample_id for sample_id in shown(page) if sample_id.endswith("-2")]
    assert best == [generation(i - 1, 2) for i in range(300, 300 - SHOWN, -1)]
    assert len(read_bytes(str(tmp_path / "audit/report.html"))) < 6_000_000


def test_a_source_that_is_gone_is_said_and_the_stored_thumb_shown(tmp_path: Path) -> None:
    audit = SmallAudit(tmp_path, [{}])
    report = audit.write()
    (tmp_path / "generated/src/made.tar").unlink()
    page = Page(read_bytes(write_audit_report(report)).decode("utf-8"))
    assert "Not all pictures could be read again." in page.text
    assert page.text.count("stored thumb, grey") == 1 + MORE


def test_the_same_audit_gives_the_same_page(tmp_path: Path) -> None:
    report = SmallAudit(tmp_path, [{}, template()]).write()
    first = read_bytes(write_audit_report(report))
    assert read_bytes(write_audit_report(report)) == first


def _labels(chart: str) -> str:
    return " ".join(str(a["aria-label"]) for tag, a in Page(chart).tags if tag == "svg" and "aria-label" in a)


def _marks(chart: str, tag: str, css: str) -> list[dict[str, str | None]]:
    return [a for name, a in Page(chart).tags if name == tag and css in str(a.get("class")).split()]


def _rates(values: Iterable[tuple[list[int], int, int, float, float]]) -> list[dict[str, Any]]:
    return [{"copies": c, "hits": h, "tried": t, "low": low, "high": high} for c, h, t, low, high in values]


def test_rate_by_copies_marks_the_control_and_draws_the_interval() -> None:
    bins = _rates([([0, 0], 0, 4, 0.0, 0.49), ([1, 1], 1, 10, 0.02, 0.40), ([5, 8], 3, 4, 0.30, 1.0)])
    chart = rate_by_copies(bins)
    assert "1 copy (control): 1 of 10, 10%, interval 2% to 40%" in _labels(chart)
    assert "5 to 8 copies: 3 of 4, 75%, interval 30% to 100%" in _labels(chart)
    assert len(_marks(chart, "line", "whisker")) == 9
    assert len(_marks(chart, "rect", "control")) == 1
    assert not _marks(chart, "rect", "unknown"), "a rate of 0 has no bar"
    (bar,) = [a for a in _marks(chart, "rect", "bar") if "control" not in str(a["class"])]
    head, foot = float(str(bar["y"])), float(str(bar["y"])) + float(str(bar["height"]))
    assert (foot - head) / (foot - 42) == 0.75
    for rate, numbers in ((bins[0], "0 of 4"), (bins[2], "3 of 4")):
        assert numbers in Page(chart).text, rate


def test_rate_by_clique_marks_the_clique_that_was_asked_for() -> None:
    values = [(1, 4, 4, 0.5, 1.0), (2, 3, 4, 0.3, 0.95), (10, 1, 4, 0.05, 0.7), (100, 0, 2, 0.0, 0.66)]
    curve = [{"min_clique": m, "hits": h, "tried": t, "low": lo, "high": hi} for m, h, t, lo, hi in values]
    chart = rate_by_clique(curve, 10)
    assert "At the 10 asked for: 25%, interval 5% to 70%" in _labels(chart)
    (limit,) = _marks(chart, "line", "limit")
    middle = (float(str(limit["x1"])) - 84) / (728 - 84)
    assert abs(middle - 0.5) < 0.01, "10 is half way from 1 to 100 on a log scale"
    assert len(_marks(chart, "path", "curve")) == len(_marks(chart, "path", "band")) == 1
    assert "asked: 200" in Page(rate_by_clique(curve, 200)).text, "more than any prompt has"


def test_distances_are_shares_of_each_with_the_threshold() -> None:
    edges = [i / 10 for i in range(11)]
    histogram = {
        "edges": edges,
        "generation_to_train": [8, 0, 0, 2, 0, 0, 0, 0, 0, 0],
        "train_to_train": [0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        "held_out_to_train": None,
    }
    chart = distances(histogram, 0.2)
    assert "generations: 10, half of them under 0.10" in _labels(chart)
    assert "training pictures, to the others: 2, half of them under 0.40" in _labels(chart)
    assert "held-out" not in Page(chart).text
    assert len(_marks(chart, "path", "curve")) == 2
    (limit,) = _marks(chart, "line", "limit")
    assert abs((float(str(limit["x1"])) - 64) / (748 - 64) - 0.2 / 0.6) < 0.001
    nothing = dict.fromkeys(("generation_to_train", "train_to_train", "held_out_to_train"))
    assert "No distance could be measured" in Page(distances({"edges": edges, **nothing}, 0.2)).text


def test_a_threshold_beyond_every_distance_is_inside_the_chart() -> None:
    edges = [i / 10 for i in range(11)]
    counts = {"generation_to_train": [5] + [0] * 9, "train_to_train": None, "held_out_to_train": None}
    (limit,) = _marks(distances({"edges": edges, **counts}, 1.0), "line", "limit")
    assert float(str(limit["x1"])) == 748
