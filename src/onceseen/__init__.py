"""Onceseen: find duplicate images in training shards and write deduplicated shards.

The rooms follow the way of a picture: ``shards`` reads and writes, ``fingerprint`` hashes, ``embed`` runs the
models, ``neighbors`` proposes candidate pairs, ``verify`` decides whether a pair is one picture, ``clusters``
chooses representatives, ``stats`` counts and reports. ``jobs`` joins them into Beam pipelines and ``cli`` is
the command ``onceseen``. Importing this package alone imports none of them.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
