"""Switch off the telemetry and update checks of the packages that Onceseen builds on.

Onceseen itself sends nothing. Some packages would: wandb (which img2dataset imports even when it is not
used), huggingface_hub, albumentations (asks its registry for a newer version on import), onnxruntime (its
Linux wheels carry an event uploader) and OpenTelemetry exporters that wandb brings. Each reads environment
variables, so setting them before the import is enough, and child processes inherit them. Apache Beam has
nothing of the kind.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from importlib import import_module
from types import MappingProxyType

__all__ = ["TELEMETRY_VARIABLES", "disable_telemetry", "import_beam"]

TELEMETRY_VARIABLES = MappingProxyType(
    {
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OTEL_SDK_DISABLED": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "disabled",
        "WANDB_SILENT": "true",
    }
)
"""Variable and the value that switches the sender off."""


def disable_telemetry(environment: MutableMapping[str, str] | None = None) -> None:
    """Set each of ``TELEMETRY_VARIABLES`` that is not set already.

    A value that the user has set stays, also one that switches a sender on. Where onnxruntime was imported
    before the call and the user has not set its variable, its own function is called as well, since it reads
    the variable only once. Calling this again changes nothing. Cost: microseconds, and no import.

    Args:
        environment: The variables to change; those of this process when None.
    """
    variables = os.environ if environment is None else environment
    onnxruntime_is_ours = variables.get("ORT_DISABLE_TELEMETRY", "1") == "1"
    for name, value in TELEMETRY_VARIABLES.items():
        variables.setdefault(name, value)
    onnxruntime = sys.modules.get("onnxruntime")
    if environment is None and onnxruntime_is_ours and onnxruntime is not None:
        onnxruntime.disable_telemetry_events()


def import_beam() -> None:
    """Import Beam without its warnings of cloud clients that a run does not need.

    Takes seconds the first time, so it is left to those who need Beam: a job, or a path that is not local.
    """
    if "apache_beam" in sys.modules:
        return
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        import_module("apache_beam")
    finally:
        logging.disable(before)
