"""Which window makes a deep grey slice meet its exports of 8 bits: PDQ distance and verified score, by choice.

    python benchmarks/grey_window.py > grey_window.json

The slices are those of pydicom's own files that are large enough (six: CT, MR, NM). Each is exported to 8 bits by full
range, by percentiles, and by the file's own window where it names one; the other side goes through each window choice.
`hot` is a slice with three pixels of four times its range, `padded` one whose values under -1024 became -1024. Prints
one JSON object: for each choice, PDQ distance and score of every (slice, export), and how many are verified.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from onceseen.core.config import EmbedConfig, FingerprintConfig, VerifyConfig
from onceseen.embed import Embedder, load_embedder, prepare_picture
from onceseen.fingerprint import Picture
from onceseen.fingerprint.grey_window import GreyWindow, find_window, to_grey
from onceseen.verify import Side, judge, judge_pixels, load_calibration
from onceseen.verify.fresh import fresh_side

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SLICES = ("693_J2KI", "CT_small", "J2K_pixelrep_mismatch", "JPEG2000", "MR_small", "examples_overlay")
Values = NDArray[np.float64]
Shown = tuple[Side, NDArray[np.uint8]]


def percentiles(share: float) -> Callable[[Values], GreyWindow]:
    """From one percentile to its opposite."""
    return lambda v: GreyWindow(*(float(p) for p in np.percentile(v, (share, 100 - share))))


def without_padding(values: Values) -> GreyWindow:
    """The half percentiles of what is above the least value."""
    return percentiles(0.5)(values[values > values.min()])


CHOICES: dict[str, Callable[[Values], GreyWindow]] = {
    "full range": percentiles(0),
    "0.1 %": percentiles(0.1),
    "0.5 %": percentiles(0.5),
    "1 %": percentiles(1),
    "5 %": percentiles(5),
    "0.5 % without padding": without_padding,
    "onceseen": find_window,
}


def read_slice(name: str) -> tuple[Values, GreyWindow | None]:
    """Values after rescale, and the file's own window."""
    dataset = pydicom.dcmread(FILES / f"{name}.dcm")
    values = dataset.pixel_array * float(dataset.get("RescaleSlope") or 1) + float(
        dataset.get("RescaleIntercept") or 0
    )
    if "WindowCenter" not in dataset:
        return values, None
    centre, width = (
        float(v[0] if isinstance(v, pydicom.multival.MultiValue) else v)
        for v in (dataset.WindowCenter, dataset.WindowWidth)
    )
    return values, GreyWindow(centre - width / 2, centre + width / 2)


def show(grey: NDArray[np.uint8], embedder: Embedder) -> Shown:
    """A picture as the verify room takes it."""
    picture = Picture(np.repeat(grey[:, :, None], 3, axis=2), "png")
    prepared = prepare_picture(b"", picture, FingerprintConfig(), embedder)
    vectors = [v.astype(np.float32) for v in embedder.embed(np.stack(prepared.inputs))]
    return fresh_side(prepared.fingerprint, vectors), picture.rgb


def compare(a: Shown, b: Shown) -> dict[str, Any]:
    """Both looks, as the match job takes them."""
    config, calibration = VerifyConfig(), load_calibration("")
    judged = judge(a[0], b[0], config, calibration)
    if judged.doubtful:
        judged = judge_pixels(a[0], b[0], a[1], b[1], judged, config, calibration)
    distance = int(np.unpackbits(a[0].whole.pdq ^ b[0].whole.pdq).sum())
    return {"pdq_distance": distance, "score": round(judged.score, 3), "verified": judged.verified}


def exports_of(values: Values, own: GreyWindow | None) -> dict[str, GreyWindow]:
    """The windows by which a slice is exported."""
    found = {"full range": percentiles(0)(values), "1 %": percentiles(1)(values)}
    return found | ({"own window": own} if own else {})


def main() -> int:
    """Measures and prints."""
    warnings.simplefilter("ignore")
    embedder = load_embedder(EmbedConfig(device="cpu", threads=1))
    if embedder is None:
        raise ValueError("the bundled model is needed")
    rng = np.random.Generator(np.random.PCG64(0))
    rows: dict[str, dict[str, Any]] = {choice: {} for choice in CHOICES}
    for name in SLICES:
        values, own = read_slice(name)
        hot = values.copy()
        hot.flat[rng.integers(0, hot.size, 3)] = values.max() * 4 + 100
        exports = {k: show(to_grey(values, w), embedder) for k, w in exports_of(values, own).items()}
        for kind, changed in (("", values), (" hot", hot), (" padded", np.maximum(values, -1024))):
            for choice, window in CHOICES.items():
                side = show(to_grey(changed, window(changed)), embedder)
                for export, other in exports.items():
                    rows[choice][f"{name}{kind} | {export}"] = compare(side, other)
    verified = {
        choice: {
            export: f"{sum(r['verified'] for r in chosen)} of {len(chosen)}"
            for export in ("full range", "1 %", "own window")
            if (chosen := [r for key, r in found.items() if key.endswith(f"| {export}")])
        }
        for choice, found in rows.items()
    }
    versions = {n: importlib.metadata.version(n) for n in ("numpy", "opencv-python-headless", "pydicom")}
    json.dump({"versions": versions, "verified": verified, "pairs": rows}, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
