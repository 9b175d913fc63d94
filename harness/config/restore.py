"""A configuration back from a record: the inverse of `identity.resolved`."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from harness.config.errors import ConfigError
from harness.config.runners import RUNNERS
from harness.config.schema import EXPERIMENTS, RunConfig, RunnerConfig
from harness.config.systems import system_schema

T = TypeVar("T")


def restored(data: Mapping[str, Any]) -> RunConfig:
    """The configuration of a record; keys that are newer than it have their defaults.

    Raises ConfigError for what no version of this program can have written.
    """
    try:
        config = _made(RunConfig, data)
        experiment = _made(EXPERIMENTS[data["experiment"]["name"]], data["experiment"])
        system = _made(system_schema(data["system"]["name"]), data["system"])
        runner = _made(RUNNERS.get(data["runner"]["name"], RunnerConfig), data["runner"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError("configuration", f"is none of this version: {error}") from None
    parts = {"experiment": experiment, "system": system, "runner": runner}
    return RunConfig(**{**vars(config), **parts})


def _made(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass from its fields' values, nested ones too."""
    hints = get_type_hints(kind)
    values = {f.name: data[f.name] for f in fields(kind) if f.name in data}  # type: ignore[arg-type]
    for name, value in values.items():
        if is_dataclass(hints[name]) and isinstance(hints[name], type):
            values[name] = _made(hints[name], value)
    return kind(**values)
