"""A "synthetic" set that holds real records: slices of pydicom's files, planted as exports and copies."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from integration.runs import summary, table, verdicts
from onceseen.cli import main

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra `dicom`)")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SLICES = ("CT_small", "MR_small", "693_J2KI", "J2K_pixelrep_mismatch", "JPEG2000", "examples_overlay")
PHOTOS = Path(__file__).resolve().parents[2] / "examples" / "photos"


def _samples(name: str) -> NDArray[np.int32]:
    return np.asarray(pydicom.dcmread(FILES / f"{name}.dcm").pixel_array, np.int32)


def _full_range(samples: NDArray[np.int32]) -> NDArray[np.uint8]:
    low, high = int(samples.min()), int(samples.max())
    return ((samples - low) * (255 / (high - low))).astype(np.uint8)


def _encoded(pixels: NDArray[np.generic], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _copies(name: str) -> dict[str, bytes]:
    """A slice as people pass it on: 8 and 16 bits, PNG, TIFF and JPEG."""
    samples = _samples(name)
    deep, flat = (samples - samples.min()).astype(np.uint16), _full_range(samples)
    return {
        "deep-png.png": bytes(cv2.imencode(".png", deep)[1]),
        "deep-tif.tif": _encoded(deep, "TIFF"),
        "flat-png.png": _encoded(flat, "PNG"),
        "flat-jpg.jpg": _encoded(flat, "JPEG", quality=90),
    }


def _phantoms(count: int) -> dict[str, bytes]:
    """Made slices, of 8 and 16 bits: ellipses of random tissue with noise, and photographs as grey."""
    rng = np.random.Generator(np.random.PCG64(11))
    made = {}
    for number in range(count):
        body = np.full((160, 200), 40, np.float32)
        for _ in range(7):
            centre = tuple(int(v) for v in rng.integers(30, 150, 2))
            axes = tuple(int(v) for v in rng.integers(8, 60, 2))
            cv2.ellipse(
                body, centre, axes, float(rng.integers(0, 180)), 0, 360, float(rng.integers(200, 3000)), -1
            )
        deep = (
            (cv2.GaussianBlur(body, (5, 5), 0) + rng.normal(0, 20, body.shape))
            .clip(0, 4095)
            .astype(np.uint16)
        )
        made[f"phantom{number}_deep.png"] = bytes(cv2.imencode(".png", deep)[1])
    for path in sorted(PHOTOS.glob("*.jpg"))[:count]:
        made[f"{path.stem}_grey.png"] = _encoded(np.asarray(Image.open(path).convert("L")), "PNG")
    return made


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`real/`, a folder as scanners leave it, with files that have no extension; `synthetic/`, a tar."""
    root = tmp_path_factory.mktemp("medical")
    (root / "real").mkdir()
    for number, name in enumerate(SLICES):
        shown = f"IM{number:06d}" if number % 2 else f"{name}.dcm"
        (root / "real" / shown).write_bytes((FILES / f"{name}.dcm").read_bytes())
    (root / "real" / "IM999999").write_bytes((FILES / "MR_truncated.dcm").read_bytes())
    (root / "synthetic").mkdir()
    members = _phantoms(4)
    for name in SLICES:
        members |= {f"{name}_{kind}": data for kind, data in _copies(name).items()}
    with tarfile.open(root / "synthetic" / "00000.tar", "w") as tar:
        for name, data in sorted(members.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return root


def _real_ids() -> dict[str, str]:
    return {
        name: f"real/{f'IM{number:06d}' if number % 2 else f'{name}.dcm'}"
        for number, name in enumerate(SLICES)
    }


def test_planted_slices_are_found_and_made_ones_are_not(sets: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sources = [str(sets / "real"), str(sets / "synthetic")]
    assert main(["dedup", *sources, "--output", str(run), "--quiet"]) == 0
    found = verdicts(run)
    assert summary(run)["failed_by"] == {"truncated_image": 1}
    groups = {sample: row["component_id"] for sample, row in found.items()}
    real = _real_ids()
    assert len({groups[sample] for sample in real.values()}) == len(SLICES), "different slices stay apart"
    missed = {
        sample
        for sample, group in groups.items()
        for name in SLICES
        if sample.startswith(f"synthetic/00000/{name}_") and group != groups[real[name]]
    }
    assert not missed
    made = [s for s in groups if "phantom" in s or "_grey" in s]
    assert len(made) == 8
    assert all(found[s]["verdict"] == "keep" for s in made)
    assert len({groups[s] for s in made}) == 8
    exact = [
        r for r in table(run, "features").to_pylist() if r["sample_id"].split("/")[-1].startswith("CT_small")
    ]
    hashes = {r["sample_id"].rpartition("_")[2]: r["pixel_hash"] for r in exact}
    assert len({hashes[kind] for kind in hashes if "deep" in kind or "dcm" in kind}) == 1
