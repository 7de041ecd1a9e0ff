"""Telemetry is off, also in child processes, unless the user switched it on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from onceseen.quiet import TELEMETRY_VARIABLES, disable_telemetry


def test_every_variable_is_set() -> None:
    environment: dict[str, str] = {}
    disable_telemetry(environment)
    assert environment == dict(TELEMETRY_VARIABLES)


def test_a_value_of_the_user_stays() -> None:
    environment = {"WANDB_MODE": "online", "HF_HUB_DISABLE_TELEMETRY": "0"}
    disable_telemetry(environment)
    assert environment["WANDB_MODE"] == "online"
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "0"
    assert environment["NO_ALBUMENTATIONS_UPDATE"] == "1"


@pytest.mark.parametrize("name", sorted(TELEMETRY_VARIABLES))
def test_child_processes_inherit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(name, raising=False)
    disable_telemetry()
    seen = subprocess.run(
        [sys.executable, "-c", f"import os; print(os.environ[{name!r}])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.strip() == TELEMETRY_VARIABLES[name]


def test_onnxruntime_imported_before_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    calls: list[str] = []
    real = onnxruntime.disable_telemetry_events
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: (calls.append("off"), real()))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    disable_telemetry()
    assert calls == ["off"]
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    disable_telemetry()
    assert calls == ["off"]


def test_huggingface_hub_and_albumentations_read_the_variables() -> None:
    """The names are still those that the installed versions look for."""
    code = (
        "import warnings; warnings.simplefilter('error', UserWarning)\n"
        "from onceseen.quiet import disable_telemetry\n"
        "disable_telemetry()\n"
        "import huggingface_hub.constants as c\n"
        "import albumentations\n"
        "print(c.HF_HUB_DISABLE_TELEMETRY)\n"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    assert seen.stdout.strip() == "True"
