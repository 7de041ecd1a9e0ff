"""What all tests share: no telemetry, logging as nobody has set it up, and the time limits of directories."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from onceseen.quiet import disable_telemetry

# Before any test imports a package that reads these variables once, on import.
disable_telemetry()


@pytest.fixture(autouse=True)
def _logging_as_imported() -> None:
    """Undoes what a command run by an earlier test has set up: its handler writes to that test's stderr."""
    logger = logging.getLogger("onceseen")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


_HERE = Path(__file__).parent
_LIMITS_S = {"audit": 180, "detector": 180, "integration": 180}
"""Seconds for a test of these directories, unless it sets its own: the first one makes a run that the others share."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in tests/integration, and set the limits of directories that have their own."""
    for item in items:
        directory = item.path.relative_to(_HERE).parts[0] if item.path.is_relative_to(_HERE) else ""
        if directory == "integration":
            item.add_marker(pytest.mark.integration)
        if directory in _LIMITS_S and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMITS_S[directory]))
