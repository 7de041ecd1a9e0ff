"""Pipeline code opens files by `onceseen.core.files` alone, so that remote paths work wherever local ones do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onceseen

PACKAGE = Path(onceseen.__file__).parent

LOCAL_BY_NATURE = {
    "core/files.py": "the one place that opens local files, beside remote ones",
    "core/cores.py": "the kernel's own files: /proc and /sys",
    "core/config_io.py": "the config file of the command line",
    "shards/sources.py": "the local half of finding SRC: globs, links, permissions",
    "jobs/lock.py": "the local lock is the operating system's",
    "jobs/remote_checks.py": "the job server's jar, which is started on this machine",
    "jobs/java.py": "the Java of this machine, which starts the job server",
    "cli/main.py": "standard output",
    "embed/openclip.py": "OpenCLIP loads checkpoints by local path; a remote one is refused",
    "fetch/tables.py": "img2dataset works on local files",
    "fetch/download.py": "img2dataset works on local files",
    "planted/demo.py": "writes the demo, on this machine",
    "planted/plan.py": "reads the bundled photographs",
    "planted/queries.py": "writes the detector's demo, on this machine",
    "planted/shards.py": "writes the demo, on this machine",
    "reference/build.py": "an index is written to a local disk",
    "reference/store.py": "an index is mapped into memory from a local disk",
    "verify/calibration.py": "the bundled coefficients",
}
"""Modules that touch local files, and why."""

_OS = {
    "access",
    "listdir",
    "lstat",
    "makedirs",
    "mkdir",
    "open",
    "remove",
    "rename",
    "replace",
    "rmdir",
    "scandir",
}
_OS |= {"stat", "statvfs", "symlink", "truncate", "unlink", "walk"}
_OS_PATH = {"abspath", "exists", "getmtime", "getsize", "isdir", "isfile", "islink", "lexists", "realpath"}
_PATH_METHODS = {"exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open", "read_bytes", "read_text"}
_PATH_METHODS |= {"rename", "rglob", "stat", "touch", "unlink", "write_bytes", "write_text"}
_MODULES = {"glob", "shutil", "tempfile"}
_RESOURCES = "importlib.resources"


def local_calls(source: str) -> Iterator[str]:
    """What a module calls that works on local files alone, as `line: call`.

    Methods of `pathlib.Path` are told by name, in modules that import pathlib; package data by importlib.resources
    does not count, since it is always local.
    """
    tree = ast.parse(source)
    imported = {
        alias.name: alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported_from = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for name in sorted((imported.keys() | imported_from) & _MODULES):
        yield f"import {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, method = called.rpartition(".")
        local = (
            called in ("open", "io.open")
            or (owner == "os" and method in _OS)
            or (owner == "os.path" and method in _OS_PATH)
            or (
                owner in ("pq", "pa", "np", "cv2")
                and method in ("memory_map", "OSFile", "imread", "memmap", "fromfile")
            )
            or ("pathlib" in imported_from and method in _PATH_METHODS and "resources" not in owner)
        )
        if local:
            yield f"{node.lineno}: {called}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_opened_through_core_files(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    found = list(local_calls(path.read_text(encoding="utf-8")))
    if name in LOCAL_BY_NATURE:
        return
    assert not found, f"{name} works on local files alone; expected calls of onceseen.core.files"


def test_every_exception_is_one() -> None:
    for name in LOCAL_BY_NATURE:
        assert list(local_calls((PACKAGE / name).read_text(encoding="utf-8"))), (
            f"{name} needs no exception any more"
        )


@pytest.mark.parametrize(
    "line",
    [
        "open('x')",
        "os.path.exists('x')",
        "os.listdir('x')",
        "os.makedirs('x')",
        "import shutil",
        "from pathlib import Path\nPath('x').read_text()",
        "from pathlib import Path\nPath('x').open('wb')",
        "pa.memory_map('x')",
    ],
)
def test_the_search_finds(line: str) -> None:
    assert list(local_calls(line))


def test_the_search_leaves_other_things_alone() -> None:
    harmless = "stream.open()\nfiles.exists('x')\nos.path.join('a', 'b')\nos.getpid()\nread_bytes('x')"
    assert not list(local_calls(harmless))
