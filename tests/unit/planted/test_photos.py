"""The bundled photographs fit their licence table."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from onceseen.planted.imaging import decode_rgb

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"
FREE = {
    "public-domain",
    "no-known-copyright-restrictions",  # a museum's statement about one picture
    "CC0-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-4.0",
    "Apache-2.0 AND BSD-3-Clause",
}


def test_table_and_pictures_agree() -> None:
    with (PHOTOS / "LICENSES.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == sorted(path.name for path in PHOTOS.glob("*.jpg"))
    assert len(rows) >= 150
    for row in rows:
        content = (PHOTOS / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"], row["file"]
        height, width = decode_rgb(content).shape[:2]
        assert (str(width), str(height)) == (row["width"], row["height"])
        assert max(width, height) <= 512
        assert row["license"] in FREE
        assert all(row[field] for field in ("title", "author", "source_url", "package", "version", "member"))
    assert sum((PHOTOS / row["file"]).stat().st_size for row in rows) < 8_000_000
