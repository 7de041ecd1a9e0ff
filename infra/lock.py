"""Write the constraints files from pip's resolution reports (see ``make constraints``).

pip's ``--report`` names every distribution that one resolution chose. Each becomes one ``name==version``
line. torch and what only torch needs go to a file of their own, because the main job runs without them. The
wheel of torch for Linux links against CUDA libraries even where only its CPU kernels run, so most of them
must be there to import it; those in ``_NOT_LOADED`` are not, and leaving them out saves 470 MB of download.
The GPU image takes constraints.txt too and, for torch, FAISS and CUDA, a third file.

Usage: ``python infra/lock.py REPORT.json OUTPUT_DIRECTORY`` or ``python infra/lock.py --gpu REPORT.json
OUTPUT_DIRECTORY``, in that order.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_HEADER = """\
# {title}
# Python 3.11, Linux x86_64. Written by `make constraints` from the ranges in pyproject.toml.
"""
_PROJECT = "onceseen"
Report = dict[str, list[dict[str, dict[str, str]]]]
"""pip's installation report, as far as it is read here."""
# Needed to import torch on a machine without a GPU, by the NEEDED entries of its shared libraries.
_TORCH_STACK = re.compile(r"^(torch|torchvision|nvidia-.*)$")
# GPU compiler, lazily opened solvers, Python bindings and profiling markers: never loaded on a CPU.
_NOT_LOADED = re.compile(
    r"^(triton|nvidia-cusolver|nvidia-nvtx|cuda-bindings|cuda-pathfinder|cuda-toolkit)(-cu\d+)?$"
)


def canonical_name(name: str) -> str:
    """Return a distribution's name in the form of PEP 503.

    Args:
        name: The name as the distribution writes it, such as ``open_clip_torch``.

    Returns:
        The name in lower case with single hyphens, such as ``open-clip-torch``.
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def all_pins(report: Report) -> dict[str, str]:
    """Return every distribution that a resolution chose, but for this project, and its version."""
    pins = {
        canonical_name(entry["metadata"]["name"]): entry["metadata"]["version"] for entry in report["install"]
    }
    pins.pop(_PROJECT, None)
    return pins


def gpu_lines(report: Report, constraints: str) -> list[str]:
    """Return the sorted pins of a resolution that the text of constraints.txt does not hold already."""
    known = set(constraints.splitlines())
    return [
        line
        for name, version in sorted(all_pins(report).items())
        if (line := f"{name}=={version}") not in known
    ]


def pinned_lines(report: Report) -> tuple[list[str], list[str]]:
    """Split a resolution into pins for everything else and pins for torch.

    Args:
        report: pip's installation report, version 1.

    Returns:
        Two sorted lists of ``name==version``: without torch, and torch with the libraries that it loads.
    """
    pins = all_pins(report)
    kept = {name: version for name, version in pins.items() if not _NOT_LOADED.match(name)}
    torch = [f"{name}=={version}" for name, version in sorted(kept.items()) if _TORCH_STACK.match(name)]
    rest = [f"{name}=={version}" for name, version in sorted(kept.items()) if not _TORCH_STACK.match(name)]
    return rest, torch


def main(arguments: list[str]) -> int:
    """Read the report named first and write its files into the directory named second.

    Args:
        arguments: Path of the report and of the directory; before them ``--gpu`` for the GPU image's report.

    Returns:
        0 when the files are written, 2 when the arguments are wrong.
    """
    gpu = arguments[:1] == ["--gpu"]
    if len(arguments) != 2 + gpu:
        sys.stderr.write("usage: python infra/lock.py [--gpu] REPORT.json OUTPUT_DIRECTORY\n")
        return 2
    report = json.loads(Path(arguments[gpu]).read_text(encoding="utf-8"))
    directory = Path(arguments[1 + gpu])
    if gpu:
        title = "What the GPU image adds to constraints.txt: torch, FAISS, and one CUDA for both."
        constraints = (directory / "constraints.txt").read_text(encoding="utf-8")
        files = [("constraints-gpu.txt", title, gpu_lines(report, constraints))]
    else:
        rest, torch = pinned_lines(report)
        files = [
            (
                "constraints.txt",
                "The test environment without torch; also what `make demo` installs from.",
                rest,
            ),
            (
                "constraints-torch.txt",
                "torch, torchvision and the libraries that importing them loads.",
                torch,
            ),
        ]
    for name, title, lines in files:
        text = _HEADER.format(title=title) + "\n".join(lines) + "\n"
        (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
