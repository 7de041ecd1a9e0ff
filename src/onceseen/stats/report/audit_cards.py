"""Cards of an audit: what was generated beside the training picture, with the numbers of their comparison."""

from __future__ import annotations

from onceseen.audit import GRID, PAPER_L2, MatchedBy, PromptOutcome
from onceseen.stats.report.audit_gather import Row, ShownPrompt
from onceseen.stats.report.cards import copyable, facts, picture
from onceseen.stats.report.figures import NONE, count, fraction, plural
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.parts import details
from onceseen.stats.report.thumbnails import Pictures

_MOST_LETTERS = 500
_MOST_OTHERS = 20
_TILES = GRID * GRID
_EVIDENCE = {
    MatchedBy.NONE: ("no match", "none"),
    MatchedBy.PIXELS: ("by pixels", "pixels"),
    MatchedBy.DETECTOR: ("by the detector", "embedding"),
    MatchedBy.BOTH: ("by pixels and detector", "perceptual"),
    MatchedBy.TEMPLATE: ("a part, by pixels", "decision"),
}
_DISTANCE = {
    MatchedBy.DETECTOR: "tiled distance, nearest by pixels",
    MatchedBy.TEMPLATE: "distance over the shared tiles",
}


def prompt_text(prompt: str) -> Markup:
    """A prompt as a reader sees it: cut, three lines at most."""
    words = prompt if len(prompt) <= _MOST_LETTERS else prompt[:_MOST_LETTERS] + " …"
    return tag("bdi", words or "(empty)", title=words)


def distance(value: float | None) -> str:
    """A distance in [0, 1].

    >>> distance(0.01964), distance(None)
    ('0.0196', '–')
    """
    return NONE if value is None else f"{value:.4f}"


def prompt_card(shown: ShownPrompt, generations: Pictures, training: Pictures) -> Markup:
    """A prompt's representative beside its training picture, and more of its clique."""
    row = shown.row
    words, colour = _EVIDENCE[MatchedBy(row["matched_by"])]
    badges = tag("p", tag("span", words, class_=f"badge kind-{colour}"), class_="badges")
    more = [tag("li", picture(sample_id, generations)) for sample_id, _ in shown.more]
    return tag(
        "li",
        tag("div", *_sides(shown, generations, training), class_="sides"),
        tag("ul", join(more), class_="more") if more else None,
        tag("p", prompt_text(row["prompt"]), class_="legend"),
        badges,
        facts(_numbers(shown)),
        _others(shown),
        class_="card pair",
    )


def _sides(shown: ShownPrompt, generations: Pictures, training: Pictures) -> list[Markup]:
    row = shown.row
    made = f"generated, seed {shown.seed}" if shown.seed else "generated"
    known = "nearest in training" if row["matched_by"] == MatchedBy.NONE else "training picture"
    if shown.copies is not None:
        known += f", {plural(shown.copies, 'copy')}"
    sides = [(row["representative_id"], generations, made), (row["reference_id"], training, known)]
    return [
        tag("div", picture(one, side), tag("p", words, class_="side"), copyable(one))
        for one, side, words in sides
        if one
    ]


def _numbers(shown: ShownPrompt) -> list[tuple[str, str | Markup | None]]:
    row = shown.row
    usable = count(row["generations"] - row["excluded"])
    by = MatchedBy(row["matched_by"])
    tiles = row["template_tiles"]
    return [
        ("generations all alike", f"{_clique(row)} of {usable}"),
        ("generations that match", f"{count(row['matched'])} of {usable}"),
        ("tiles shared", f"{tiles} of {_TILES}" if row["verdict"] == PromptOutcome.TEMPLATE else None),
        (
            "copies of the prompt's picture",
            count(row["copies"]) if row["copies"] else "prompt not in training",
        ),
        ("training samples with this caption", count(row["occurrences"])),
        (_DISTANCE.get(by, "tiled distance"), distance(row["distance"])),
        (
            "to the next distinct picture",
            distance(row["second_distance"]) if row["second_distance"] else "there is none",
        ),
        ("ratio", fraction(row["ratio"])),
        ("L2 of the whole", distance(row["l2"])),
        (f"paper's rule, L2 ≤ {PAPER_L2:g}", "agrees" if row["paper_match"] else "does not"),
    ]


def _clique(row: Row) -> str:
    """The clique, or what is known of it where the search was cut short."""
    if row["clique_exact"]:
        return count(row["clique"])
    return f"{count(row['clique'])} (at most {count(row['clique_bound'])})"


def _others(shown: ShownPrompt) -> Markup | None:
    if not shown.others:
        return None
    items = [tag("li", prompt_text(prompt)) for prompt in shown.others[:_MOST_OTHERS]]
    left = len(shown.others) - _MOST_OTHERS
    more = tag("li", f"and {count(left)} more, in prompts.parquet") if left > 0 else None
    title = f"Given back for {plural(len(shown.others), 'other prompt')} too"
    return details(title, tag("ul", *items, more, class_="examples"))
