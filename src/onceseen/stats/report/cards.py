"""Cards: a picture, its id, and the evidence beside it. Shared by report.html and evaluate.html."""

from __future__ import annotations

from collections.abc import Sequence

from onceseen.core.records import PairKind
from onceseen.stats.lookup import PairRow, VerdictRow
from onceseen.stats.report.figures import NONE, fraction, share
from onceseen.stats.report.markup import Markup, join, tag
from onceseen.stats.report.thumbnails import SMALL_SIDE, Pictures

_ICON = "icon-copy"

KIND_WORDS = {
    PairKind.BYTES: "same bytes",
    PairKind.PIXELS: "same pixels",
    PairKind.PERCEPTUAL: "perceptual",
    PairKind.EMBEDDING: "embedding",
    PairKind.DECISION: "a person's decision",
}


def copyable(sample_id: str) -> Markup:
    """A sample_id with a button that copies it."""
    icon = tag("svg", tag("use", href=f"#{_ICON}"), aria_hidden="true")
    button = tag(
        "button",
        icon,
        type="button",
        class_="copy",
        data_copy=sample_id,
        aria_label=f"Copy the id {sample_id}",
        title="Copy",
    )
    return tag("span", tag("code", sample_id, title=sample_id), button, class_="id")


def icons() -> Markup:
    """The icons that `use` refers to; once a page."""
    shapes = [
        tag("rect", x=5.5, y=5.5, width=8, height=8, rx=1.5),
        tag("path", d="M3.5 10.5h-1v-8h8v1"),
    ]
    symbol = tag("symbol", *shapes, id=_ICON, viewBox="0 0 16 16", fill="none", stroke="currentcolor")
    return tag("svg", symbol, width=0, height=0, style="position:absolute", aria_hidden="true")


def badge(kind: str) -> Markup:
    """A kind of evidence."""
    words = KIND_WORDS.get(PairKind(kind), kind) if kind in set(PairKind) else (kind or "no evidence")
    return tag("span", words, class_=f"badge kind-{kind if kind in set(PairKind) else 'none'}")


def picture(sample_id: str, pictures: Pictures) -> Markup:
    """The thumbnail, or a tile that says why there is none."""
    thumb = pictures.by_id.get(sample_id)
    if thumb is None:
        return tag("div", tag("span", "no picture stored"), class_="frame blank")
    image = tag(
        "img",
        src=thumb.uri,
        width=thumb.width,
        height=thumb.height,
        alt=f"Picture of {sample_id}",
        class_="small" if max(thumb.width, thumb.height) <= SMALL_SIDE else None,
        loading="lazy",
        decoding="async",
    )
    note = tag("small", "stored thumb, grey", class_="stored") if thumb.stored else None
    return tag("div", image, note, class_="frame")


def facts(rows: Sequence[tuple[str, str | Markup | None]]) -> Markup:
    """A list of names and values; those without a value are left out."""
    items = [
        tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value not in (None, "", NONE)
    ]
    return tag("dl", join(items), class_="facts")


def coverage(value: float | None) -> str:
    """A coverage in per cent."""
    return NONE if value is None else share(round(value * 1000), 1000)


def member_card(row: VerdictRow, pair: PairRow | None, pictures: Pictures) -> Markup:
    """A member of a group: dropped (or kept too), and on what evidence."""
    words = badge(row.kind) if row.kind else kept_badge("kept too")
    head = tag("p", words, class_="badges")
    frame = picture(row.sample_id, pictures)
    return tag("li", frame, head, copyable(row.sample_id), _evidence(row, pair), class_="card")


def kept_badge(words: str = "kept") -> Markup:
    """Marks what stays."""
    return tag("span", words, class_="badge kept")


def pair_facts(pair: PairRow) -> Markup:
    """Every number of a pair."""
    return facts(
        [
            ("score", fraction(pair.score)),
            ("cosine", fraction(pair.cosine)),
            ("PDQ distance", NONE if pair.pdq_distance is None else f"{pair.pdq_distance} of 256"),
            ("transform", pair.transform),
            ("of the first in the second", coverage(pair.coverage_a)),
            ("of the second in the first", coverage(pair.coverage_b)),
        ]
    )


def pair_card(pair: PairRow, pictures: Pictures, captions: tuple[str, str], why: str) -> Markup:
    """Two pictures side by side with the numbers of their comparison."""
    sides = [
        tag("div", picture(sample_id, pictures), tag("p", words, class_="side"), copyable(sample_id))
        for sample_id, words in zip(pair.ids, captions, strict=True)
    ]
    head = tag("p", badge(pair.kind), " ", tag("span", why, class_="why"), class_="badges")
    return tag("li", tag("div", join(sides), class_="sides"), head, pair_facts(pair), class_="card pair")


def stored_notes(pictures: Pictures) -> Markup:
    """States which pictures are not the pictures themselves, and why; empty where all are."""
    stored = sum(thumb.stored for thumb in pictures.by_id.values())
    if not stored and not pictures.notes:
        return join([])
    text = (
        f"{stored} of the pictures below are the stored 64 × 64 grey thumbs, stretched to shape, since their "
        "source could not be read again."
    )
    notes = join([tag("li", note) for note in pictures.notes[:20]])
    more = tag("li", f"and {len(pictures.notes) - 20} more") if len(pictures.notes) > 20 else None
    return tag(
        "div",
        tag("strong", "Not all pictures could be read again. "),
        text,
        tag("ul", notes, more),
        class_="note",
    )


def _evidence(row: VerdictRow, pair: PairRow | None) -> Markup:
    rows: list[tuple[str, str | Markup | None]] = [("score", fraction(row.score) if row.kind else None)]
    if pair is not None:
        inside = pair.coverage_of(row.sample_id) if row.sample_id in pair.ids else None
        rows += [
            ("cosine", fraction(pair.cosine)),
            ("PDQ distance", NONE if pair.pdq_distance is None else f"{pair.pdq_distance} of 256"),
            ("transform", pair.transform),
            ("in the kept", coverage(inside)),
        ]
    if row.kind == PairKind.PIXELS:
        rows.append(("pixels", "equal"))
    return join([facts(rows), _compared(row)])


def _compared(row: VerdictRow) -> Markup | None:
    """The pair that was compared, where it is not the sample and the kept one themselves but their exact classes."""
    pair = row.evidence
    if pair is None or set(pair) == {row.sample_id, row.group_id}:
        return None
    if row.sample_id in pair:
        words = "compared with this one, equal to the kept in pixels:"
        ids = [sample_id for sample_id in pair if sample_id != row.sample_id]
    else:
        words, ids = "compared as this pair, equal to these two in pixels:", list(pair)
    return tag("p", words, join([tag("code", sample_id) for sample_id in ids]), class_="compared")
