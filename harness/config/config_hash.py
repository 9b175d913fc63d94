"""A configuration as plain data, and its hash: the name of its record."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

from harness.config.experiments import EXPERIMENTS
from harness.config.runners import RUNNERS
from harness.config.schema import RunConfig, RunnerConfig
from harness.config.systems import system_schema
from harness.errors import ConfigError
from harness.registry import OPERATORS, OURS
from protocols.options import NEWER, NO_EFFECT
from protocols.party import ALL_ROLES, ROLES

# Keys that cannot change a number, with all that lies under them: where results go and why they are
# measured (again), what is looked at before, how long to wait, whether a link outside tolerance ends a
# run, a citation, and how parties and harness find each other. `trace` is not among them: the recorder
# works inside the timed part.
QUIET_KEYS = (
    "results_dir",
    "force",
    "memory",
    "timeout_s",
    "calibration",
    "network.source",
    "runner.listen",
    "runner.secret_file",
    "runner.shared_secret",
    "runner.wait_s",
)


@cache
def is_quiet(key: str) -> bool:
    """Whether a dotted key cannot change a number."""
    known = any(key == quiet or key.startswith(f"{quiet}.") for quiet in QUIET_KEYS)
    return known or key in _options_without_effect()


@cache
def _options_without_effect() -> frozenset[str]:
    """The keys of our systems' options that say so."""
    options = (option for _, kind in (OURS | OPERATORS).values() for option in fields(kind))
    return frozenset(
        f"system.{option.name}" for option in options if option.metadata.get(NO_EFFECT)
    )


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as nested dicts, lists and plain values."""
    return asdict(config)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def config_hash(config: RunConfig) -> str:
    """16 hex digits over every key that can change a number."""
    data = resolved(config)
    for key in QUIET_KEYS:
        group, _, inner = key.rpartition(".")
        (data[group] if group else data).pop(inner, None)
    for option in fields(system_schema(config.system.name)):
        given = data["system"][option.name]
        as_before = option.metadata.get(NEWER) and given == option.default
        if as_before or option.metadata.get(NO_EFFECT):
            del data["system"][option.name]
    for role in ALL_ROLES[len(ROLES) :]:
        cores = data["runner"].get("cpus", {})
        if cores.get(role, "") is None:
            del cores[role]  # as before there were more than three roles
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
