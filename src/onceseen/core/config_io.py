"""YAML and flags to `PipelineConfig`, in exactly one place.

An unknown key is refused with its full path and the nearest known name, so that a misspelt threshold never
passes as the default.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from onceseen.core.config import PipelineConfig, RunnerConfig


def load_config(
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    base: Mapping[str, Mapping[str, Any]] | None = None,
) -> PipelineConfig:
    """Builds the configuration from a YAML file and `section.key=value` overrides.

    Args:
        path: YAML file whose top level is sections; None: the defaults.
        overrides: Strings `section.key=value`, the value parsed as YAML; later ones win.
        base: Settings under the file's, by section; None: the defaults.

    Returns:
        The validated configuration.

    Raises:
        ValueError: If the file cannot be read or parsed, a key is unknown, or a value is out of range.
    """
    data: dict[str, Any] = {section: dict(keys) for section, keys in (base or {}).items()}
    if path is not None:
        for section, keys in _read_yaml(Path(path)).items():
            known = data.get(section)
            data[section] = {**known, **keys} if known and isinstance(keys, dict) else keys
    for override in overrides:
        _apply_override(data, override)
    return config_from_mapping(data)


def load_runner(path: str | Path | None, overrides: Sequence[str] = ()) -> RunnerConfig:
    """The section runner alone: what opens remote paths, before anything is read from them.

    Raises:
        ValueError: As `load_config`, for that section.
    """
    data = _read_yaml(Path(path)) if path is not None else {}
    data = {"runner": data.get("runner") or {}}
    for override in overrides:
        if override.startswith("runner."):
            _apply_override(data, override)
    return typing.cast(RunnerConfig, _build(RunnerConfig, data["runner"], "runner"))


def config_from_mapping(data: Mapping[str, Any]) -> PipelineConfig:
    """Builds the configuration from nested mappings, refusing unknown keys.

    Raises:
        ValueError: If a key is unknown or a value has the wrong type or range.
    """
    return typing.cast(PipelineConfig, _build(PipelineConfig, data, ""))


def config_to_mapping(config: PipelineConfig) -> dict[str, Any]:
    """The whole resolved configuration as plain JSON-ready mappings."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return typing.cast("dict[str, Any]", plain(dataclasses.asdict(config)))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config file {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"config file {path} is not valid YAML: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ValueError(f"config file {path} must hold sections (a mapping), not {type(loaded).__name__}")
    return loaded


def _apply_override(data: dict[str, Any], override: str) -> None:
    name, found, text = override.partition("=")
    parts = name.strip().split(".")
    if not found or len(parts) != 2 or not all(parts):
        raise ValueError(
            f"--set {override!r}: expected section.key=value, for example --set verify.min_score=0.6"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    section = data.setdefault(parts[0], {})
    if not isinstance(section, dict):
        raise ValueError(f"--set {override!r}: {parts[0]} is not a section")
    section[parts[1]] = value


def _build(cls: type, data: object, where: str) -> object:
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise ValueError(f"config key {where or 'top level'} must be a mapping, got {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    values: dict[str, object] = {}
    for key, value in data.items():
        full = f"{where}.{key}" if where else str(key)
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.4)
            hint = (
                f"did you mean {where + '.' if where else ''}{near[0]}?"
                if near
                else f"known here: {', '.join(names)}"
            )
            raise ValueError(f"unknown config key {full}; {hint}")
        kind = hints[key]
        values[key] = (
            _build(kind, value, full)
            if isinstance(kind, type) and dataclasses.is_dataclass(kind)
            else _coerce(kind, value, full)
        )
    return cls(**values)


def _coerce(kind: Any, value: object, where: str) -> object:  # noqa: ANN401 - a type expression
    """The value as the field's type: bool, int, float, str or a tuple of these."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"config key {where} is {value!r}; expected a list")
        inner = typing.get_args(kind)[0]
        return tuple(_coerce(inner, v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is str and value is None:
        return ""
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ValueError(
            f"config key {where} is {value!r} ({type(value).__name__}); expected {kind.__name__}"
        )
    return value
