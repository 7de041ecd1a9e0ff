"""Sections of report.html, in the order in which a reader needs them."""

from __future__ import annotations

from collections.abc import Sequence

from onceseen.core.failures import SHARD_REASONS
from onceseen.core.records import PairKind, ShardKind
from onceseen.stats.report.cards import (
    KIND_WORDS,
    copyable,
    facts,
    pair_card,
)
from onceseen.stats.report.chart import bars, bin_copies, copies_chart, label_of
from onceseen.stats.report.figures import count, fraction, plural, share, size
from onceseen.stats.report.gather import NearPair, ReportData
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.parts import check, configuration, details, mapping_table, section, table, tiles
from onceseen.stats.report.thumbnails import Pictures

MAX_SHARD_ROWS = 1_000


def overview(data: ReportData) -> Markup:
    """Totals, and whether the data is sound."""
    s = data.summary
    judged = s["kept"] + s["dropped"]
    numbers = tiles(
        [
            ("Read", count(s["read"]), f"samples in {plural(len(data.run.shards), 'shard')}"),
            ("Kept", count(s["kept"]), share(s["kept"], s["read"]) + " of all read"),
            ("Dropped", count(s["dropped"]), share(s["dropped"], s["read"]) + " of all read"),
            ("Failed", count(s["failed"]), share(s["failed"], s["read"]) + " could not be judged"),
            (
                "Redundant",
                share(s["redundant"], judged),
                f"{count(s['redundant'])} of {count(judged)} judged",
            ),
        ]
    )
    proportions = [
        tag(
            "i",
            class_=name,
            style=f"width:{100 * s[name] / max(1, s['read']):.3f}%",
            title=f"{name}: {count(s[name])}",
        )
        for name in ("kept", "dropped", "failed")
    ]
    key = [
        tag("span", tag("i", class_=name), f"{name} {count(s[name])}")
        for name in ("kept", "dropped", "failed")
    ]
    bar = tag("div", join(proportions), class_="proportions", aria_hidden="true")
    return tag(
        "section",
        numbers,
        bar,
        tag("p", join(key), class_="key"),
        tag("h2", "Is my data sound?", id="overview-title"),
        tag("ul", join(_checks(data)), class_="checks"),
        id="overview",
        aria_labelledby="overview-title",
    )


def _checks(data: ReportData) -> list[Markup]:
    s, read = data.summary, data.run.config.read
    failed_share = s["failed"] / max(1, s["read"])
    recall = s.get("candidate_recall")
    checks = [
        check(
            s["read"] == s["kept"] + s["dropped"] + s["failed"],
            f"Every sample is accounted for: {count(s['read'])} read = {count(s['kept'])} kept + "
            f"{count(s['dropped'])} dropped + {count(s['failed'])} failed, in each shard and in all.",
        ),
        check(
            failed_share <= read.max_failed_fraction / 2,
            f"{share(s['failed'], s['read'])} of the samples could not be judged (the run stops above "
            f"{100 * read.max_failed_fraction:g}%)"
            + (
                f"; they are {'written out all the same' if read.on_failure == 'keep' else 'left out'}."
                if s["failed"]
                else "."
            ),
        ),
        check(
            not s["shards_failed"],
            "No shard is damaged."
            if not s["shards_failed"]
            else f"{plural(s['shards_failed'], 'shard')} damaged: what comes after the damage was not read.",
        ),
    ]
    if recall is not None:
        words = f"Candidate search found {100 * float(recall):.1f}% of what exact search finds on a sample."
        checks.append(check(float(recall) >= 0.95, words))
    else:
        checks.append(check(False, "The recall of the candidate search was not measured in this run."))
    checks.append(check(True, _redundancy_words(data)))
    return checks


def _redundancy_words(data: ReportData) -> str:
    s = data.summary
    most = max((int(copies) for copies in s["copies_histogram"]), default=0)
    if most < 2:
        return "No picture occurs twice."
    return (
        f"{plural(s['participants'], 'sample')} in {plural(s['components'], 'component')} of look-alikes; "
        f"the most repeated picture occurs {count(most)} times."
    )


def copies_section(data: ReportData) -> Markup:
    """Histogram of copies, and dropped by kind."""
    s = data.summary
    histogram = {int(copies): int(n) for copies, n in s["copies_histogram"].items()}
    rows = [(label_of(low, high), count(n)) for low, high, n in bin_copies(histogram)]
    kinds = [(KIND_WORDS[kind], int(s["dropped_by"].get(kind, 0)), f"kind-{kind}") for kind in PairKind]
    return section(
        "copies",
        "How often pictures occur",
        "How many copies each kept picture stood for, itself included, and why the others were dropped.",
        tag(
            "div",
            tag(
                "figure",
                copies_chart(histogram),
                details("As a table", table(("Copies", "Kept pictures"), rows, (1,))),
            ),
            tag(
                "figure",
                tag("figcaption", "Dropped, by the strongest evidence"),
                bars([k for k in kinds if k[1]], s["dropped"])
                if s["dropped"]
                else tag("p", "Nothing was dropped."),
            ),
            class_="split",
        ),
    )


def near_section(data: ReportData, pictures: Pictures) -> Markup:
    """Closest calls: kept on both sides."""
    lead = (
        "Pairs that look alike and were both kept. If these are copies to your eye, the thresholds are too "
        "strict for your purpose; name them in a --decisions file or lower verify.min_score."
    )
    if not data.contained and not data.doubtful:
        return section("near", "Closest calls, not dropped", "No pair came near without being one picture.")
    return section(
        "near",
        "Closest calls, not dropped",
        lead,
        _near_list("A part is shared, not the whole", data.contained, pictures),
        _near_list("Alike, but not confirmed", data.doubtful, pictures),
    )


def _near_list(title: str, pairs: Sequence[NearPair], pictures: Pictures) -> Markup | None:
    if not pairs:
        return None
    cards = [pair_card(near.pair, pictures, ("kept", "kept"), near.why) for near in pairs]
    return join([tag("h3", title), tag("ul", join(cards), class_="grid pairs")])


def captions_section(data: ReportData) -> Markup:
    """The most repeated captions."""
    if not data.captions:
        return section("captions", "Most repeated captions", "No caption occurs twice.")
    rows = [
        (
            tag("bdi", row["caption"], class_="caption"),
            count(row["occurrences"]),
            count(row["pictures"]),
            count(row["max_copies"]),
            copyable(row["sample_id"]),
        )
        for row in data.captions
    ]
    header = ("Caption", "Occurrences", "Pictures", "Most copies", "Picture with the most copies")
    lead = "Near-identical captions counted together: what a model is most likely to have learnt by heart."
    return section("captions", "Most repeated captions", lead, table(header, rows, (1, 2, 3)))


def failures_section(data: ReportData) -> Markup:
    """Failures by reason, with examples."""
    s = data.summary
    if not s["failed"] and not data.failures:
        return section("failures", "Failures", "Every sample could be judged.")
    rows: list[tuple[Markup | str, str, Markup]] = []
    reasons = sorted(set(s["failed_by"]) | set(data.failures), key=lambda r: (-s["failed_by"].get(r, 0), r))
    for reason in reasons:
        examples = [
            tag(
                "li",
                copyable(f.subject),
                tag("small", f" {f.stage}: {f.detail}" if f.detail else f" {f.stage}"),
            )
            for f in data.failures.get(reason, ())
        ]
        damaged = reason in {str(r) for r in SHARD_REASONS} and reason not in s["failed_by"]
        number = "whole shard" if damaged else count(s["failed_by"].get(reason, 0))
        rows.append((tag("code", reason), number, tag("ul", join(examples), class_="examples")))
    damaged_words = f", and {plural(s['shards_failed'], 'shard')} damaged" if s["shards_failed"] else ""
    lead = f"{plural(s['failed'], 'sample')} could not be judged{damaged_words}."
    return section("failures", "Failures", lead, table(("Reason", "Samples", "Examples"), rows, (1,)))


def provenance_section(data: ReportData) -> Markup:
    """Model, versions, configuration and shards, folded away."""
    run, s = data.run, data.summary
    volumes = facts(
        [
            ("bytes read", size(s["bytes_read"])),
            (
                "bytes written",
                size(s["bytes_written"]) if s["bytes_written"] is not None else "none (no rewrite)",
            ),
            ("candidate recall", fraction(s["candidate_recall"])),
        ]
    )
    return section(
        "provenance",
        "How this was made",
        "What another person needs to make the same result again; where it ran is in run.json.",
        volumes,
        details("Model", mapping_table(run.model)),
        details("Versions", mapping_table(run.versions)),
        details("Configuration", configuration(run.config)),
        details(f"Shards ({count(len(s['shards']))})", _shard_table(data)),
    )


def _shard_table(data: ReportData) -> Markup:
    kinds = {shard.name: shard for shard in data.run.shards}
    rows = []
    for tally in data.summary["shards"][:MAX_SHARD_ROWS]:
        shard = kinds.get(tally["shard"])
        numbers = [count(tally[name]) for name in ("read", "kept", "dropped", "failed")]
        kind = str(shard.kind if shard else ShardKind.TAR)
        rows.append((tag("code", tally["shard"]), kind, size(shard.size if shard else None), *numbers))
    body = table(("Shard", "Kind", "Size", "Read", "Kept", "Dropped", "Failed"), rows, (2, 3, 4, 5, 6))
    left = len(data.summary["shards"]) - MAX_SHARD_ROWS
    return join([body, tag("p", f"and {count(left)} more, in stats/summary.json") if left > 0 else None])
