"""report.html of an audit: what a generator gives back of its training set, shown beside it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onceseen.audit import PromptOutcome
from onceseen.core.files import write_bytes
from onceseen.stats.lookup import read_run
from onceseen.stats.report import shell
from onceseen.stats.report.audit_cards import distance, prompt_card, prompt_text
from onceseen.stats.report.audit_charts import distances, rate_by_clique, rate_by_copies, rate_words
from onceseen.stats.report.audit_gather import SHOWN, AuditData, AuditReport, ShownPrompt, gather_audit
from onceseen.stats.report.cards import facts, stored_notes
from onceseen.stats.report.figures import count, fraction, plural
from onceseen.stats.report.markup import Markup, join, page, tag
from onceseen.stats.report.parts import check, configuration, details, mapping_table, section, table, tiles

__all__ = ["AuditReport", "write_audit_report"]

_SECTIONS = (
    ("overview", "Overview"),
    ("copies", "Rate by copies"),
    ("clique", "Rate by clique"),
    ("nearest", "Nearest training picture"),
    ("truth", "Against the truth"),
    ("extracted", "Extracted"),
    ("others", "Collapsed and template"),
    ("made", "How this was made"),
)
_CALIBRATED = {
    "held-out": "calibrated on held-out pictures",
    "training": "calibrated on training pictures",
    "set": "set, not calibrated",
}
_SCORES = {
    "matched_clique": "clique that shows a training picture",
    "clique": "clique alone",
    "mean_distance": "nearness of its members",
    "nearest_distance": "nearness of any generation to training",
}


def write_audit_report(report: AuditReport) -> str:
    """Writes OUT/report.html, reading pictures of both sides again. It loads nothing from anywhere.

    Returns:
        Its path.

    Raises:
        ValueError: If the audit's scan or the reference is no run any more.
    """
    data = gather_audit(report)
    truth = report.summary["truth"]
    body = [
        _overview(report.summary, data),
        _copies(report.summary),
        _clique(report.summary),
        _nearest(report.summary),
        _truth(truth) if truth else None,
        _extracted(report, data),
        _others(report.summary, data),
        _made(report),
    ]
    name = posixpath.basename(report.layout.root.replace("\\", "/").rstrip("/")) or "audit"
    sections = tuple(s for s in _SECTIONS if s[0] != "truth" or truth)
    text = page(f"Onceseen audit: {name}", shell("What the model has memorised", name, sections, join(body)))
    write_bytes(report.layout.report(), text.encode("utf-8"))
    return report.layout.report()


def _overview(s: Mapping[str, Any], data: AuditData) -> Markup:
    values = s["thresholds"]
    lead = (
        f"A prompt is memorised if {count(s['min_clique'])} of its generations or more are near-identical, each to "
        "each, and the one in their middle shows a training picture: within a tiled distance of "
        f"{distance(values['match_distance'])} and {values['match_ratio']:g} of the distance to the next distinct "
        f"one, or as a duplicate to the detector. {count(s['generations_matched'])} single generations show one: "
        f"{rate_words(s['rates']['matched'])}. Intervals are 95% (Wilson)."
    )
    return tag(
        "section",
        tiles(_numbers(s)),
        tag("h2", "Can it be trusted?", id="overview-title"),
        tag("p", lead, class_="lead"),
        tag("ul", *_checks(s), class_="checks"),
        _too_few_prompts(s, data),
        id="overview",
        aria_labelledby="overview-title",
    )


def _numbers(s: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The tiles."""
    values, prompts, spread = s["thresholds"], s["prompts"], s["per_prompt"]
    span = f"{count(spread['min'])} to {count(spread['max'])}, median {count(spread['median'])}"
    span = count(spread["min"]) if spread["min"] == spread["max"] else span
    return [
        (
            "Prompts",
            count(prompts["tried"]),
            f"{count(prompts['counted'])} counted, {count(prompts['too_few'])} with too few generations",
        ),
        ("Generations", count(s["generated"]), f"judged; {span} a prompt, blank ones included"),
        ("Memorised", count(s["memorised"]), f"prompts: {rate_words(s['rates']['memorised'])}"),
        (
            "Extracted",
            count(s["extracted"]),
            f"training pictures given back, {plural(s['delete'], 'sample')} of them",
        ),
        (
            "Collapsed",
            count(s["collapsed"]),
            f"alike, no training picture: {rate_words(s['rates']['collapsed'])}",
        ),
        ("Template", count(s["template"]), "a part of a training picture"),
        ("Least clique", count(s["min_clique"]), f"of {count(spread['median'])} generations a prompt"),
        ("Match distance", fraction(values["match_distance"]), _CALIBRATED[s["calibrated_on"]]),
    ]


def _checks(s: Mapping[str, Any]) -> Iterator[Markup]:
    """What a reader must know before the rates."""
    few = s["prompts"]["too_few"]
    parts = {name: s[name] for name in ("generated", "excluded", "failed", "without_prompt")}
    yield check(
        s["read"] == sum(parts.values()),
        f"Every generation is accounted for: {count(s['read'])} read = {count(s['generated'])} judged + "
        f"{count(s['excluded'])} excluded as blank + {count(s['failed'])} failed (scan/failures/) + "
        f"{count(s['without_prompt'])} without a prompt.",
    )
    yield check(
        not few,
        f"{plural(few, 'prompt')} with fewer usable generations than a clique of {count(s['min_clique'])}: in no rate."
        if few
        else f"Every prompt has the {count(s['min_clique'])} generations that a clique needs.",
    )
    yield from _threshold_checks(s)
    if s["resized"]:
        yield check(
            False, f"{plural(s['resized'], 'generation')} of another size than most: compared all the same."
        )
    if s["cliques_inexact"]:
        yield check(
            False,
            f"The search for the largest clique was cut short for {plural(s['cliques_inexact'], 'prompt')} "
            "(audit.clique_steps): what was found is there, and a bound.",
        )


def _threshold_checks(s: Mapping[str, Any]) -> Iterator[Markup]:
    values, source = s["thresholds"], s["calibrated_on"]
    if source == "set":
        yield check(
            False,
            "The match distance was set: how many pictures that were not memorised match it is not known.",
        )
    else:
        words = (
            f"At the match distance, {count(values['matched'])} of {count(values['tried'])} {source} pictures match "
            "(calibrated)"
        )
        limits = "; a held-out set tells more, since training pictures are none that the model has not seen."
        yield check(source == "held-out", words + ("." if source == "held-out" else limits))
    for warning in values["warnings"]:
        yield check(False, warning)
    held = s["held_out"]
    if held and held["overlapping"]:
        yield check(
            False,
            f"{count(held['overlapping'])} of {count(held['read'])} held-out pictures are in the training set: "
            "left out of the calibration.",
        )


def _too_few_prompts(summary: Mapping[str, Any], data: AuditData) -> Markup | None:
    if not data.too_few:
        return None
    rows = [
        (
            tag("span", prompt_text(row["prompt"]), class_="caption"),
            count(row["generations"]),
            count(row["excluded"]),
        )
        for row in data.too_few
    ]
    title = f"Prompts with too few generations ({len(rows)} of {count(summary['prompts']['too_few'])})"
    return details(title, table(("Prompt", "Generations", "Of these blank"), rows, (1, 2)))


def _copies(s: Mapping[str, Any]) -> Markup:
    once = next((each for each in s["by_copies"] if each["copies"] == [1, 1]), None)
    control = (
        f" Of pictures that occur once, the control, {count(once['hits'])} of {count(once['tried'])} are memorised."
        if once
        else " There is no prompt whose picture occurs once: nothing to compare with."
    )
    lead = (
        "Counted prompts by how often the picture that has them as its caption is in training. A bar is the rate, a "
        "whisker its 95% interval, the numbers are memorised of tried." + control
    )
    return section(
        "copies", "Rate by copies", lead, tag("figure", rate_by_copies(s["by_copies"]), class_="alone")
    )


def _clique(s: Mapping[str, Any]) -> Markup:
    lead = (
        "How many prompts would be memorised if fewer or more of their generations had to be alike; prompts with fewer "
        "generations than that do not count there. The area is the 95% interval."
    )
    chart = rate_by_clique(s["clique_curve"], s["min_clique"])
    return section("clique", "Rate by least clique", lead, tag("figure", chart, class_="alone"))


def _nearest(s: Mapping[str, Any]) -> Markup:
    lead = (
        "Tiled distance: the largest of 16 root mean square differences, one a tile, so that a common background does "
        "not make pictures near. A model that memorises nothing gives pictures as far from training as held-out ones."
    )
    chart = distances(s["histogram"], s["thresholds"]["match_distance"])
    return section("nearest", "Nearest training picture", lead, tag("figure", chart, class_="alone"))


def _truth(truth: Mapping[str, Any]) -> Markup:
    said = truth["verdict"]
    lead = (
        f"{plural(truth['prompts'], 'counted prompt')} of the truth table, {count(truth['memorised'])} of them "
        f"memorised: {count(said['found'])} found, {count(said['missed'])} missed, {count(said['false'])} falsely "
        f"called memorised, {count(said['right'])} rightly not. {count(truth['too_few'])} more had too few generations."
    )
    rows = [
        (words, fraction(truth[name]["auc"]), fraction(truth[name]["tpr_at_1_fpr"]))
        for name, words in _SCORES.items()
    ]
    scores = table(("Score of a prompt", "AUC", "True positives at 1% false positives"), rows, (1, 2))
    return section("truth", "Against the truth", lead, scores)


def _extracted(report: AuditReport, data: AuditData) -> Markup:
    notes = [stored_notes(side) for side in (data.generations, data.training)]
    total = len(report.extracted)
    if not total:
        return section("extracted", "Extracted pictures", "No training picture was given back.", *notes)
    every = plural(total, "training picture")
    which = every if total <= SHOWN else f"The {SHOWN} most copied of {every}"
    lead = (
        f"{which} given back, the most copied first: what was generated on the left, "
        "training on the right, more generations of the clique below. delete_list.csv has every sample that shows one."
    )
    left = total - SHOWN
    more = tag("p", f"and {count(left)} more, in prompts.parquet", class_="quiet") if left > 0 else None
    return section("extracted", "Extracted pictures", lead, *notes, _cards(data.extracted, data), more)


def _others(s: Mapping[str, Any], data: AuditData) -> Markup:
    lead = "Neither counts as memorised."
    words = {
        PromptOutcome.COLLAPSED: (
            "Collapsed",
            "All alike, but not what was trained on: the model has little to say.",
        ),
        PromptOutcome.TEMPLATE: (
            "Template",
            "They share a part of a training picture, such as a frame, and vary the rest.",
        ),
    }
    folded = []
    for verdict, (title, why) in words.items():
        shown = data.examples[verdict]
        if shown:
            head = f"{title}: {len(shown)} of {plural(s[str(verdict)], 'prompt')}"
            folded.append(details(head, tag("p", why, class_="lead"), _cards(shown, data)))
    if not folded:
        return section("others", "Collapsed and template prompts", "None.")
    return section("others", "Collapsed and template prompts", lead, *folded)


def _cards(shown: Sequence[ShownPrompt], data: AuditData) -> Markup:
    cards = [prompt_card(prompt, data.generations, data.training) for prompt in shown]
    return tag("ul", join(cards), class_="grid pairs")


def _made(report: AuditReport) -> Markup:
    run, s = read_run(report.layout), report.summary
    values = s["thresholds"]
    held = s["held_out"]
    return section(
        "made",
        "How this was made",
        "What another person needs to make the same result again; where it ran is in run.json. The method is that of "
        "Carlini et al. 2023, section 4.2: cliques of near-identical generations, held against training.",
        facts(
            [
                ("reference", tag("code", posixpath.basename(report.reference.root))),
                ("compared at", f"{values['side']} × {values['side']} pixels"),
                ("held-out pictures", count(held["read"]) if held else "none"),
            ]
        ),
        details(
            "Thresholds, as applied", mapping_table({k: v for k, v in values.items() if k != "warnings"})
        ),
        details("Model of the embeddings", mapping_table(run.model)),
        details("Versions", mapping_table(run.versions)),
        details("Configuration", configuration(report.config)),
    )
