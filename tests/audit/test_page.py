"""report.html of a whole audit, as the command writes it."""

from __future__ import annotations

from tests.unit.stats.test_report import Page

from audit.conftest import PER_PROMPT, Audited
from onceseen.planted.generations import Behaviour


def _page(audited: Audited) -> Page:
    return Page((audited.output / "report.html").read_text(encoding="utf-8"))


def test_every_picture_given_back_is_shown_beside_what_was_generated(audited: Audited) -> None:
    page, rows = _page(audited), audited.prompts()
    memorised = [row for row in rows.values() if row["verdict"] == "memorised"]
    assert {row["prompt"] for row in memorised} == audited.of(Behaviour.COPY)
    assert f"{len(memorised)} training pictures given back, the most copied first" in page.text
    for row in memorised:
        assert {row["representative_id"], row["reference_id"]} <= page.images().keys()
        assert row["prompt"] in page.text
    assert page.text.count(f"generations that match {PER_PROMPT} of {PER_PROMPT}") == len(memorised)
    assert "Not all pictures could be read again" not in page.text


def test_the_page_says_what_the_summary_says(audited: Audited) -> None:
    page, summary = _page(audited), audited.summary()
    assert (
        f"At the match distance, {summary['thresholds']['matched']} of 60 held-out pictures match"
        in page.text
    )
    assert "4 of them memorised: 4 found, 0 missed, 0 falsely called memorised, 6 rightly not" in page.text
    assert "132 read = 120 judged + 12 excluded as blank + 0 failed" in page.text
    assert "Collapsed: 1 of 1 prompt" in page.text
    assert "Template: 1 of 1 prompt" in page.text
