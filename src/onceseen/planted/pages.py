"""Pictures that no photographer took: blanks, pages of one template, and files that are no picture.

They are the hard cases of a duplicate finder: blanks of nearly one colour, and pages that differ in their
text alone, look alike to every embedding and are different pictures; broken files must end in the dead
letters and not stop the job.
"""

from __future__ import annotations

import numpy as np

from onceseen.planted.imaging import Colour, RgbImage, draw_text, plain, text_width

_WORDS = [
    "account",
    "balance",
    "budget",
    "charge",
    "copy",
    "date",
    "due",
    "estimate",
    "freight",
    "grant",
    "interest",
    "item",
    "limit",
    "margin",
    "notice",
    "office",
    "owner",
    "payment",
    "plan",
    "price",
    "quarter",
    "receipt",
    "report",
    "return",
    "schedule",
    "share",
    "summary",
    "tariff",
    "total",
    "transfer",
    "value",
]
_BASES: tuple[Colour, ...] = ((255, 255, 255), (0, 0, 0), (128, 128, 128), (238, 232, 213))


def blank_picture(index: int, width: int = 400, height: int = 300) -> RgbImage:
    """A flat picture; each index has its own colour, a few steps from white, black, grey or cream.

    Args:
        index: 0 and up; four bases in turn, each pushed two levels further in one channel than its last.
        width: In pixels.
        height: In pixels.
    """
    base = np.array(_BASES[index % len(_BASES)], dtype=np.int64)
    step = index // len(_BASES)
    base[step % 3] += 2 * (step + 1) * (1 if base[step % 3] < 128 else -1) if step else 0
    red, green, blue = (int(value) for value in np.clip(base, 0, 255))
    return plain(width, height, (red, green, blue))


def template_page(rng: np.random.Generator, width: int = 420, height: int = 560) -> RgbImage:
    """A page of one form: the same head, rules and boxes every time, other words and figures in it."""
    page = plain(width, height, (253, 252, 247))
    ink, blue = (40, 40, 45), (30, 70, 140)
    page[0:56] = blue
    draw_text(page, "NORTHERN TRADING CO.", 20, 38, 18, (255, 255, 255), bold=True)
    draw_text(page, "Statement", 20, 92, 15, ink, bold=True)
    reference = f"No. {int(rng.integers(10_000, 99_999))}"
    draw_text(page, reference, width - 20 - text_width(reference, 11), 92, 11, ink)
    page[104:106, 20 : width - 20] = blue
    for row in range(12):
        baseline = 136 + row * 26
        words = " ".join(str(word) for word in rng.choice(_WORDS, 3))
        draw_text(page, words, 24, baseline, 11, ink)
        amount = f"{int(rng.integers(1, 9_999))}.{int(rng.integers(100)):02d}"
        draw_text(page, amount, width - 24 - text_width(amount, 11), baseline, 11, ink)
        page[baseline + 8 : baseline + 9, 20 : width - 20] = (215, 215, 215)
    page[462:464, 20 : width - 20] = blue
    draw_text(
        page,
        f"Signed by {str(rng.choice(_WORDS)).title()} {str(rng.choice(_WORDS)).title()}",
        24,
        500,
        12,
        ink,
    )
    return page


def broken_files(photo: bytes) -> list[tuple[str, bytes]]:
    """Files named .jpg that no decoder takes: (transform's name, bytes).

    Args:
        photo: A whole JPEG, cut short for the truncated ones.
    """
    page = "<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>\n"
    return [
        ("truncated", photo[: len(photo) * 55 // 100]),
        ("truncated", photo[: len(photo) * 20 // 100]),
        ("empty", b""),
        ("text_as_jpg", b"This picture is no longer available.\n"),
        ("text_as_jpg", page.encode()),
        ("header_only", photo[:20]),
    ]
