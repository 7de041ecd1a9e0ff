"""Onceseen: find duplicate images in training shards and write deduplicated shards.

The rooms follow the way of a picture: ``shards`` reads and writes, ``fingerprint`` hashes, ``embed`` runs the
models, ``neighbors`` proposes candidate pairs, ``verify`` decides whether a pair is one picture, ``clusters``
chooses representatives, ``stats`` counts and reports. ``jobs`` joins them into Beam pipelines and ``cli`` is
the command ``onceseen``. Importing this package alone imports none of them; ``from onceseen import Reference``
imports what holding pictures against a finished run needs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onceseen.reference import Check, Reference

__all__ = ["Check", "Reference", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class of `onceseen.reference`
    """Loads ``Reference`` and ``Check`` when they are first asked for."""
    if name in ("Check", "Reference"):
        from onceseen import reference

        return getattr(reference, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
