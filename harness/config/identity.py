"""A configuration as plain data, and its hash: the name of its record."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from harness.config.runners import RUNNERS
from harness.config.schema import EXPERIMENTS, RunConfig, RunnerConfig
from harness.config.systems import system_schema
from harness.errors import ConfigError
from protocols.options import NO_EFFECT

# What a run's numbers do not depend on: where they go, and why they were measured (again).
NOT_IDENTITY = ("results_dir", "force", "memory")
MEETING = (
    "listen",
    "secret_file",
    "wait_s",
)  # of a runner: how parties and harness find each other


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as nested dicts, lists and plain values."""
    return asdict(config)


def config_hash(config: RunConfig) -> str:
    """16 hex digits over everything that decides what a run does."""
    data = resolved(config)
    for key in NOT_IDENTITY:
        del data[key]
    del data["network"]["source"]  # a citation
    for key in ("max_age_s", "patience_s"):
        del data["calibration"][key]
    for key in MEETING:
        data["runner"].pop(key, None)
    for option in fields(system_schema(config.system.name)):
        if option.metadata.get(NO_EFFECT):
            del data["system"][option.name]
    if data["key_seed"] is None:
        del data["key_seed"]  # keys of the operating system, as in records from before that key
    if not data["trace"]:
        del data["trace"]  # a traced run is another one; all others are named as before traces
    if not data["transport"]["tls"]:
        del data["transport"]  # as before there was TLS
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
