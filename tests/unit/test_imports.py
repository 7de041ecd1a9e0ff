"""Imports go one way, algorithms stay free of Beam, and heavy packages load only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onceseen

PACKAGE = Path(onceseen.__file__).parent
# A room may import from its own layer's row above only: what stands later may import what stands earlier.
LAYERS = (
    ("quiet",),
    ("core",),
    ("shards", "fingerprint", "embed", "neighbors", "verify", "clusters", "detect", "audit", "stats"),
    ("jobs", "planted", "evaluate", "explain", "report", "fetch", "generate", "training"),
    ("reference",),
    ("serve", "takedown"),
    ("cli",),
    ("__main__",),
)
# A stage may use the stages before it in the way of a picture, never a later one.
STAGES = LAYERS[2]
HEAVY = (
    *("torch", "torchvision", "open_clip", "onnxruntime", "faiss", "img2dataset", "wandb", "pandas"),
    *("diffusers", "transformers"),
)
# Rooms whose algorithms are plain numpy; their Beam part, if they have one, is a module named here.
PURE = (
    "audit",
    "clusters",
    "detect",
    "fingerprint",
    "verify",
    "neighbors",
    "fetch",
    "generate",
    "reference",
    "serve",
    "training",
)
BEAM_MODULES = ("transforms", "combine", "beam")


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _dotted(path: Path) -> str:
    parts = ("onceseen", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def _imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports; those under TYPE_CHECKING cost nothing and are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if top_level_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    anchor = _dotted(path).split(".")
                    cut = child.level if path.name != "__init__.py" else child.level - 1
                    base = ".".join([*anchor[: len(anchor) - cut], *([base] if base else [])])
                yield base
                yield from (f"{base}.{alias.name}" for alias in child.names)
            pending.append(child)


def _rank(room: str) -> int:
    for rank, rooms in enumerate(LAYERS):
        if room in rooms:
            return rank
    pytest.fail(f"onceseen.{room} is in no layer: name it in LAYERS of {Path(__file__).name}")


@pytest.mark.parametrize("path", _modules(), ids=_dotted)
def test_imports_go_one_way(path: Path) -> None:
    room = _room(_dotted(path))
    if not room:
        return
    for name in _imports(path):
        target = _room(name) if name.startswith("onceseen.") else ""
        if not target or target == room or target == "__version__":
            continue
        assert _rank(target) <= _rank(room), f"{_dotted(path)} imports {name}: a later layer"
        if room in STAGES and target in STAGES:
            assert STAGES.index(target) < STAGES.index(room), f"{_dotted(path)} imports {name}: a later stage"


@pytest.mark.parametrize("path", _modules(), ids=_dotted)
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    heavy = {name.split(".")[0] for name in _imports(path, top_level_only=True)} & set(HEAVY)
    assert not heavy, f"{_dotted(path)} imports {sorted(heavy)} when it is imported itself"


@pytest.mark.parametrize(
    "path", [p for p in _modules() if _room(_dotted(p)) in PURE and p.stem not in BEAM_MODULES], ids=_dotted
)
def test_algorithms_do_not_import_beam(path: Path) -> None:
    beam = [name for name in _imports(path) if name.split(".")[0] == "apache_beam"]
    assert not beam, f"{_dotted(path)} imports {beam}"


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sorted(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(seen.stdout.split())


def test_the_package_alone_loads_nothing_of_it() -> None:
    loaded = _loaded_after("import onceseen")
    assert {name for name in loaded if name.startswith("onceseen")} == {"onceseen"}
    assert "numpy" not in loaded


def test_training_loads_neither_torch_nor_beam() -> None:
    assert not _loaded_after("import onceseen.training") & {"torch", "apache_beam", "cv2"}


def test_a_reference_loads_neither_torch_nor_beam_nor_faiss() -> None:
    loaded = _loaded_after("from onceseen import Reference")
    assert "onceseen.reference" in loaded
    assert not loaded & {"torch", "apache_beam", "faiss", "onnxruntime", "fastapi"}


def test_the_command_line_loads_no_heavy_package() -> None:
    loaded = _loaded_after("import onceseen.cli")
    assert "onceseen.cli" in loaded
    assert not loaded & {*HEAVY} - {"pandas"}


def test_commands_that_only_read_a_local_run_load_no_beam() -> None:
    work = "from onceseen.core.files import exists, join; exists(join('nowhere', 'run.json'))"
    modules = "onceseen.cli.main, onceseen.cli.dedup, onceseen.explain, onceseen.evaluate.cli, onceseen.stats"
    assert "apache_beam" not in _loaded_after(f"import {modules}\n{work}")
