"""Numbers as a person reads them."""

from __future__ import annotations

NONE = "–"


def count(value: int | None) -> str:
    """With thousands separators.

    >>> count(1234567)
    '1,234,567'
    """
    return NONE if value is None else f"{value:,}"


def share(part: int, whole: int) -> str:
    """A share in per cent.

    >>> share(1, 3), share(1, 100_000), share(0, 5), share(99_999, 100_000)
    ('33.3%', '<0.1%', '0%', '>99.9%')
    """
    return percent(part / whole) if whole else NONE


def percent(value: float) -> str:
    """A number in [0, 1] in per cent; what is not quite 0 or 1 is not shown as that.

    >>> percent(0.125), percent(0.00001), percent(0.99999), percent(1.0)
    ('12.5%', '<0.1%', '>99.9%', '100%')
    """
    per_cent = 100 * value
    if value > 0 and per_cent < 0.1:
        return "<0.1%"
    if value < 1 and per_cent > 99.9:
        return ">99.9%"
    return f"{per_cent:.1f}".removesuffix(".0") + "%"


def fraction(value: float | None) -> str:
    """A score or cosine, three decimals; a value under 1 is never shown as 1.

    >>> fraction(1.0), fraction(0.99996), fraction(0.5), fraction(None)
    ('1.000', '0.999', '0.500', '–')
    """
    if value is None:
        return NONE
    return f"{value if value >= 1 else min(value, 0.999):.3f}"


def size(num_bytes: int | None) -> str:
    """Bytes in decimal units.

    >>> size(1_234_567), size(17)
    ('1.2 MB', '17 B')
    """
    if num_bytes is None:
        return NONE
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"


def plural(number: int, noun: str) -> str:
    """The number with its noun.

    >>> plural(1, "copy"), plural(2, "copy"), plural(3, "shard")
    ('1 copy', '2 copies', '3 shards')
    """
    if number == 1:
        return f"1 {noun}"
    plural_noun = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {plural_noun}"
