"""PDQ: speed of Onceseen's implementation, and its agreement with the pdqhash package.

    python benchmarks/pdq.py examples/photos > pdq.json

Prints one JSON object. Times are the best of `--repeats` passes over all pictures, in milliseconds a picture,
decoding not included; the package's time with mirrored hashes is beside it, since Onceseen always makes both.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pdqhash
from numpy.typing import NDArray

from onceseen.fingerprint import decode_image, hamming_distance, pdq_hash

PHOTOS = Path(__file__).resolve().parents[1] / "examples" / "photos"

_MAX_PIXELS = 200_000_000


def measure_agreement(pictures: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Bits and quality points between the two, over all pictures."""
    bits, quality, mirrored = [], [], []
    for rgb in pictures:
        ours = pdq_hash(rgb)
        theirs, their_quality = pdqhash.compute(rgb)
        flipped, _ = pdqhash.compute(np.ascontiguousarray(rgb[:, ::-1]))
        bits.append(hamming_distance(ours.bits, np.packbits(theirs).tobytes()))
        mirrored.append(hamming_distance(ours.mirrored, np.packbits(flipped).tobytes()))
        quality.append(abs(ours.quality - their_quality))
    return {
        "max_bits": max(bits),
        "share_within_4_bits": float(np.mean(np.array(bits) <= 4)),
        "max_bits_mirrored": max(mirrored),
        "max_quality_difference": max(quality),
    }


def measure_time(
    function: Callable[[NDArray[np.uint8]], object], pictures: list[NDArray[np.uint8]], repeats: int
) -> float:
    """Best time of a pass, milliseconds a picture."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for rgb in pictures:
            function(rgb)
        best = min(best, time.perf_counter() - start)
    return round(best / len(pictures) * 1e3, 4)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=PHOTOS, help="pictures; the bundled ones by default"
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    files = sorted(
        path for path in arguments.folder.iterdir() if path.suffix.lower() in (".jpg", ".png", ".webp")
    )
    if not files:
        parser.error(f"no .jpg, .png or .webp in {arguments.folder}")
    pictures = [decode_image(path.read_bytes(), _MAX_PIXELS).rgb for path in files]
    ours = measure_time(pdq_hash, pictures, arguments.repeats)
    theirs = measure_time(pdqhash.compute, pictures, arguments.repeats)
    dihedral = measure_time(pdqhash.compute_dihedral, pictures, arguments.repeats)
    result = {
        "pictures": len(pictures),
        "mean_pixels": int(np.mean([rgb.shape[0] * rgb.shape[1] for rgb in pictures])),
        "agreement": measure_agreement(pictures),
        "onceseen_with_mirrored_ms": ours,
        "pdqhash_ms": theirs,
        "pdqhash_dihedral_ms": dihedral,
        "speedup": round(theirs / ours, 2),
        "speedup_dihedral": round(dihedral / ours, 2),
        "versions": {
            name: importlib.metadata.version(name) for name in ("numpy", "pdqhash", "opencv-python-headless")
        },
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
    }
    json.dump(result, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
