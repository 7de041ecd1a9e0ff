"""infra/spark/stack.py as a module: it is a script, no part of the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
JARS = ROOT / "build" / "spark" / "jars"


def load_stack() -> ModuleType:
    """The module, loaded once."""
    if "spark_stack_script" not in sys.modules:
        path = ROOT / "infra" / "spark" / "stack.py"
        spec = importlib.util.spec_from_file_location("spark_stack_script", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["spark_stack_script"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    return sys.modules["spark_stack_script"]
