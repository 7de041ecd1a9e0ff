"""What all tests share: no telemetry, logging as nobody has set it up, and the limits of integration tests."""

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


_INTEGRATION = Path(__file__).parent / "integration"
_INTEGRATION_TIMEOUT_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in tests/integration, with its own time limit unless a test sets another."""
    for item in items:
        if item.path.is_relative_to(_INTEGRATION):
            item.add_marker(pytest.mark.integration)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_INTEGRATION_TIMEOUT_S))
