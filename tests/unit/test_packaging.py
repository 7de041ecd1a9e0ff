"""The package's metadata, its pinned versions and the Makefile say the same."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import onceseen

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _requirements() -> list[Requirement]:
    installed_together = [group for name, group in EXTRAS.items() if name != "gpu"]
    return [Requirement(text) for group in (PROJECT["dependencies"], *installed_together) for text in group]


@pytest.mark.parametrize("requirement", _requirements(), ids=str)
def test_each_range_holds_its_pin(requirement: Requirement) -> None:
    pins = {**_pins("constraints.txt"), **_pins("constraints-torch.txt")}
    pinned = pins[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned), f"{requirement} is pinned to {pinned}"


def test_pins_are_sorted_and_not_repeated() -> None:
    torch, rest = list(_pins("constraints-torch.txt")), list(_pins("constraints.txt"))
    assert torch == sorted(torch)
    assert rest == sorted(rest)
    assert not set(torch) & set(rest)
    assert "torch" in torch


def test_the_pins_are_what_is_installed() -> None:
    """A local version, such as that of a CPU build, is the same release."""
    pins = {**_pins("constraints.txt"), **_pins("constraints-torch.txt")}
    for name in ("apache-beam", "numpy", "opencv-python-headless", "webdataset", "img2dataset", "torch"):
        assert Version(importlib.metadata.version(name)).base_version == Version(pins[name]).base_version, (
            name
        )


def test_cpu_and_gpu_never_meet_in_the_pins() -> None:
    assert [name for name in _pins("constraints.txt") if name.startswith("faiss")] == ["faiss-cpu"]
    for name, group in EXTRAS.items():
        if name != "gpu":
            assert not [text for text in group if "faiss-gpu" in text], name


def test_versions_agree() -> None:
    assert importlib.metadata.version("onceseen") == onceseen.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {onceseen.__version__}" in changelog


def test_the_command_is_installed() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="onceseen")
    assert entry.value == "onceseen.cli:main"


def test_the_package_is_typed_and_carries_its_data() -> None:
    package = Path(onceseen.__file__).parent
    assert (package / "py.typed").exists()
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    data = [p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")]
    left_out = [str(p) for p in data if not any(p.match(pattern) for pattern in patterns["onceseen"])]
    assert not left_out, "not in package-data of pyproject.toml"


def test_lock_splits_torch_off_and_leaves_out_what_a_cpu_never_loads(tmp_path: Path) -> None:
    names = [
        "onceseen",
        "numpy",
        "open_clip_torch",
        "torch",
        "nvidia-cublas",
        "triton",
        "nvidia-cusolver-cu12",
    ]
    report = {"install": [{"metadata": {"name": name, "version": "1.0"}} for name in names]}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    subprocess.run(
        [sys.executable, ROOT / "infra" / "lock.py", tmp_path / "report.json", tmp_path], check=True
    )
    lines = {
        name: [text for text in (tmp_path / name).read_text(encoding="utf-8").splitlines() if text[0] != "#"]
        for name in ("constraints.txt", "constraints-torch.txt")
    }
    assert lines["constraints.txt"] == ["numpy==1.0", "open-clip-torch==1.0"]
    assert lines["constraints-torch.txt"] == ["nvidia-cublas==1.0", "torch==1.0"]


def test_lock_writes_what_the_gpu_image_adds(tmp_path: Path) -> None:
    names = ["onceseen", "numpy", "torch", "nvidia-cublas-cu12", "triton"]
    report = {"install": [{"metadata": {"name": name, "version": "1.0"}} for name in names]}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "constraints.txt").write_text("numpy==1.0\n", encoding="utf-8")
    command = [sys.executable, ROOT / "infra" / "lock.py", "--gpu", tmp_path / "report.json", tmp_path]
    subprocess.run(command, check=True)
    lines = (tmp_path / "constraints-gpu.txt").read_text(encoding="utf-8").splitlines()
    assert lines[2:] == ["nvidia-cublas-cu12==1.0", "torch==1.0", "triton==1.0"]


def test_make_names_the_remedy_when_python_is_missing(tmp_path: Path) -> None:
    command = ["make", "demo", "PYTHON=no-such-python3.11", f"VENV={tmp_path / 'venv'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "'no-such-python3.11' was not found" in result.stderr
    assert "make PYTHON=" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_make_names_the_remedy_when_the_compiler_is_missing(tmp_path: Path) -> None:
    command = ["make", "compiler", "CXX=no-such-compiler"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "build-essential" in result.stderr


def _ci(tmp_path: Path, make_says: str, code: int) -> subprocess.CompletedProcess[str]:
    """Run .ci/run in a copy whose `make test` prints what a test run could have printed."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (tmp_path / "said").write_text(make_says, encoding="utf-8")
    (tmp_path / "Makefile").write_text(f"test:\n\t@cat said; exit {code}\n", encoding="utf-8")
    command = ["bash", str(tmp_path / ".ci" / "run")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("closing", "code", "passes"),
    [
        ("===== 12 passed, 1 skipped in 3.21s =====", 0, True),
        ("===== 1 failed, 11 passed in 3.21s =====", 1, False),
        ("===== no tests ran in 0.01s =====", 5, False),
        ("===== no tests ran in 0.01s =====", 0, False),
        ("===== 3 skipped in 0.01s =====", 0, False),
    ],
)
def test_ci_ends_with_pytests_closing_line(tmp_path: Path, closing: str, code: int, passes: bool) -> None:
    result = _ci(tmp_path, closing + "\n", code)
    assert (result.returncode == 0) is passes
    assert result.stdout.splitlines()[-1] == closing


def test_ci_fails_when_nothing_is_printed(tmp_path: Path) -> None:
    assert _ci(tmp_path, "", 0).returncode != 0


def test_no_registry_host_is_named() -> None:
    host = re.compile(r"(pypi|pythonhosted|npmjs|crates|debian)\.(org|io|com)", re.IGNORECASE)
    for name in ("pyproject.toml", "Makefile", "constraints.txt", "constraints-torch.txt", ".ci/run"):
        assert not host.search((ROOT / name).read_text(encoding="utf-8")), name
