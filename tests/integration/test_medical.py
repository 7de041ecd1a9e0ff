"""A "synthetic" set that holds real records: slices of pydicom's files, planted as exports and copies."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from integration.runs import dedup, summary, verdicts
from onceseen.cli import main

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed (extra `dicom`)")
FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SLICES = ("CT_small", "MR_small", "693_J2KI", "J2K_pixelrep_mismatch", "JPEG2000", "examples_overlay")
HASHES = ("--set", "embed.model=none", "--set", "cells.enabled=false")
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
    return {name: f"IM{n:06d}" if n % 2 else f"{name}.dcm" for n, name in enumerate(SLICES)}


@pytest.fixture(scope="module")
def reference(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over the real slices."""
    run = tmp_path_factory.mktemp("reference") / "run"
    flags = ("--dry-run", "--set", "read.max_failed_fraction=0.2", *HASHES)
    assert dedup(sets / "real", run, *flags) == 0
    assert summary(run)["failed_by"] == {"truncated_image": 1}
    assert {row["verdict"] for row in verdicts(run).values()} == {"keep", "failed"}
    return run


def test_planted_slices_are_flagged_and_made_ones_are_not(
    sets: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["scan", str(sets / "synthetic"), "--reference", str(reference), "--output", str(out)]
    assert main([*command, "--quiet"]) == 0
    found = {row["query_id"]: row for row in pq.read_table(out / "flagged.parquet").to_pylist()}
    real = _real_ids()
    planted = {f"00000/{name}_{kind.split('.')[0]}": real[name] for name in SLICES for kind in _copies(name)}
    assert len(planted) == 24
    assert {i: (found[i]["verdict"], found[i]["reference_id"]) for i in planted} == {
        i: ("duplicate", expected) for i, expected in planted.items()
    }
    made = [row for i, row in found.items() if i not in planted]
    assert len(made) == 8
    assert {row["verdict"] for row in made} == {"clear"}
    deep = [row for i, row in found.items() if i in planted and "deep" in i]
    assert {row["kind"] for row in deep} == {"pixels"}, "16 bits in any file are the very pixels of the slice"


def test_a_slice_is_taken_down_by_its_export(
    sets: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "slice.jpg"
    image.write_bytes(_copies("CT_small")["flat-jpg.jpg"])
    listed = tmp_path / "copies.json"
    command = ["takedown", str(image), "--reference", str(reference), "--output", str(listed)]
    assert main(command) == 0
    (row,) = json.loads(listed.read_text())
    assert (row["sample_id"], row["relation"], row["evidence_a"]) == ("CT_small.dcm", "asked", str(image))
    assert row["score"] > 0.5
    photo = tmp_path / "photo.png"
    photo.write_bytes(_encoded(np.asarray(Image.open(sorted(PHOTOS.glob("*.jpg"))[0])), "PNG"))
    capsys.readouterr()
    assert main(["takedown", str(photo), "--reference", str(reference)]) == 0
    assert f"{photo}: no copy of it was found" in capsys.readouterr().out
    text = tmp_path / "a.txt"
    text.write_text("no picture")
    assert main(["takedown", str(text), "--reference", str(reference)]) == 2
    assert "unknown_format" in capsys.readouterr().err
