"""report.html: one file, nothing loaded, everything escaped, and honest about its pictures."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.unit.stats.small_run import Planted, SmallRun, dropped, failed, jpeg, named, pair, picture

from onceseen.core.config import VerifyConfig
from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import read_bytes
from onceseen.core.layout import RunLayout
from onceseen.stats import (
    summarise,
    write_captions_table,
    write_copies_table,
    write_report,
    write_summary,
)
from onceseen.stats.report.chart import bin_copies, copies_chart

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> \" ' & \x00\x1b[31m"
ONE, TWO, THREE, FOUR = (jpeg(picture(seed)) for seed in (1, 2, 3, 4))


class Page(HTMLParser):
    """Tags with their attributes, and the text outside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self) -> dict[str, str]:
        found = {}
        for tag, attributes in self.tags:
            if tag == "img":
                found[str(attributes["alt"]).removeprefix("Picture of ")] = str(attributes["src"])
        return found


def _samples() -> list[Planted]:
    members = [
        dropped(f"00001/{i:02}", jpeg(picture(1), 30 + i), "00000/a", score=0.6 + i / 100, caption="copy")
        for i in range(15)
    ]
    return [
        Planted("00000/a", ONE, HOSTILE),
        dropped("00000/b", ONE, "00000/a", "bytes", caption=HOSTILE),
        Planted("00000/c", TWO, "two"),
        Planted("00000/d", THREE, "three"),
        Planted("00000/e", FOUR, "four"),
        failed("00000/f", "truncated_image"),
        *members,
    ]


def _pairs() -> list[dict[str, object]]:
    edges = [
        pair(
            "00000/a",
            f"00001/{i:02}",
            score=0.6 + i / 100,
            cosine=0.87,
            pdq_distance=21,
            transform="mirrored",
        )
        for i in range(15)
    ]
    near = [
        pair("00000/a", "00000/b", "bytes"),
        pair("00000/c", "00000/d", verified=False, score=0.31, cosine=0.77, coverage_a=None, coverage_b=None),
        pair("00000/d", "00000/e", score=0.99, coverage_a=0.4, coverage_b=0.5, transform="collage"),
    ]
    return edges + near


def _finish(layout: RunLayout, shards: list[str]) -> RunLayout:
    extras = {"candidate_recall": 0.97, "bytes_read": 12_345_678, "bytes_written": None}
    write_summary(layout, summarise(layout, named(*shards), extras))
    write_captions_table(layout, named(*shards))
    write_copies_table(layout, named(*shards))
    return layout


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    damage = Failure("00001", "read", FailureReason.TRUNCATED_TAR, "ends at byte <9>")
    run = SmallRun(tmp_path, _samples(), _pairs(), shard_failures=[("00001", damage)])
    return _finish(run.write(), ["00000", "00001"])


def _page(layout: RunLayout) -> Page:
    return Page(read_bytes(write_report(layout)).decode("utf-8"))


def test_totals_groups_evidence_and_failures_are_there(layout: RunLayout) -> None:
    text = _page(layout).text
    assert "21 read = 4 kept + 16 dropped + 1 failed" in text
    assert "17 copies" in text
    assert "+3 more" in text
    assert "1 sample with identical bytes" in text
    assert "21 of 256" in text
    assert "mirrored" in text
    assert "0.870" in text
    assert "truncated_image" in text
    assert "decode: a <b> detail" in text
    assert "ends at byte <9>" in text
    assert "12.3 MB" in text


def test_the_weakest_evidence_is_shown_first_and_twelve_at_most(layout: RunLayout) -> None:
    shown = [sample_id for sample_id in _page(layout).images() if sample_id.startswith("00001/")]
    assert shown == [f"00001/{i:02}" for i in range(12)]


def test_closest_calls_are_shown_with_the_reason(layout: RunLayout) -> None:
    page = _page(layout)
    assert {"00000/c", "00000/d", "00000/e"} <= page.images().keys()
    assert "they share a part, but at most 50% of either is in the other" in page.text
    assert f"its score is under verify.min_score ({VerifyConfig().min_score})" in page.text


def test_pictures_are_the_pictures(layout: RunLayout) -> None:
    source = _page(layout).images()["00000/a"]
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (72, 96, 3)
    assert np.abs(shown.astype(int) - picture(1)).mean() < 6


def test_hostile_captions_stay_text(layout: RunLayout) -> None:
    page = _page(layout)
    assert "<script>alert('x')</script><img src=x onerror=alert(1)>" in page.text
    assert len(page.scripts) == 1
    assert "alert" not in page.scripts[0]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    raw = read_bytes(layout.report()).decode("utf-8")
    assert "\x00" not in raw
    assert "\x1b" not in raw


def test_nothing_is_loaded_from_anywhere(layout: RunLayout) -> None:
    page = _page(layout)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(
                ("data:image/jpeg;base64,", "data:image/png;base64,", "#")
            )
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    style = re.search("<style>(.*?)</style>", read_bytes(layout.report()).decode(), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_the_policy_admits_the_pages_own_script_alone(layout: RunLayout) -> None:
    page = _page(layout)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_every_link_in_the_page_has_its_target(layout: RunLayout) -> None:
    page = _page(layout)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for _, a in page.tags if "href" in a} <= set(ids)


def test_the_same_run_gives_the_same_page(layout: RunLayout) -> None:
    first = read_bytes(write_report(layout))
    assert read_bytes(write_report(layout)) == first


def test_a_source_that_is_gone_is_said_and_the_stored_thumb_shown(layout: RunLayout, tmp_path: Path) -> None:
    (tmp_path / "src/00001.tar").unlink()
    page = _page(layout)
    assert "12 of the pictures below are the stored 64 × 64 grey thumbs" in page.text
    assert "Shard 00001 cannot be read again from" in page.text
    assert page.text.count("stored thumb, grey") == 12
    data = base64.b64decode(page.images()["00001/00"].removeprefix("data:image/jpeg;base64,"))
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert shown.shape == (96, 128)
    expected = cv2.resize(cv2.cvtColor(picture(1), cv2.COLOR_BGR2GRAY), (128, 96))
    assert np.abs(shown.astype(int) - expected).mean() < 10


def test_bytes_that_changed_since_are_not_shown_as_the_sample(layout: RunLayout, tmp_path: Path) -> None:
    path = tmp_path / "src/00000.tar"
    data = bytearray(path.read_bytes())
    at = data.index(TWO) + len(TWO) // 2
    data[at] ^= 0xFF
    path.write_bytes(data)
    text = _page(layout).text
    assert "00000/c: its bytes in" in text
    assert "1 of the pictures below are the stored" in text


def test_evidence_through_an_exact_class_names_what_was_compared(tmp_path: Path) -> None:
    samples = [
        Planted("s/a", ONE),
        dropped("s/b", ONE, "s/a", "bytes"),
        dropped("s/c", jpeg(picture(1), 40), "s/a", evidence=("s/b", "s/c")),
        dropped("s/d", jpeg(picture(1), 40), "s/a", evidence=("s/b", "s/c")),
    ]
    layout = _finish(SmallRun(tmp_path, samples, [pair("s/b", "s/c")]).write(), ["s"])
    text = _page(layout).text
    assert "compared with this one, equal to the kept in pixels: s/b" in text
    assert "compared as this pair, equal to these two in pixels: s/b s/c" in text


def test_a_run_without_copies_or_failures_says_so(tmp_path: Path) -> None:
    layout = _finish(SmallRun(tmp_path, [Planted("s/a", ONE), Planted("s/b", TWO)]).write(), ["s"])
    text = _page(layout).text
    assert "No picture occurs twice." in text
    assert "Every sample could be judged." in text
    assert "No pair came near without being one picture." in text
    assert "No caption occurs twice." in text


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    layout = SmallRun(tmp_path, [Planted("s/a", ONE)]).write()
    with pytest.raises(ValueError, match=r"summary\.json is missing"):
        write_report(layout)
    with pytest.raises(ValueError, match="not a run directory"):
        write_report(RunLayout(str(tmp_path / "nothing")))
    (Path(layout.root) / "verdicts/s.parquet").unlink()
    with pytest.raises(ValueError, match="no verdicts for shard s"):
        write_report(layout)


def test_bins_hold_every_group_once() -> None:
    histogram = {1: 5, 2: 4, 3: 3, 4: 2, 5: 1, 64: 1, 65: 1}
    bins = bin_copies(histogram)
    assert sum(n for _, _, n in bins) == sum(histogram.values())
    assert [(low, high) for low, high, _ in bins] == [
        (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128),
    ]  # fmt: skip
    assert bins[-1][2] == 1


def test_the_chart_says_its_numbers_in_words() -> None:
    assert "1 copy: 1,500; 2 copies: 3" in copies_chart({1: 1500, 2: 3})
    assert "No picture was kept" in copies_chart({})
