"""The command that measures a record again."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache
from typing import Any

from harness.config.config_hash import flatten, is_quiet
from harness.config.experiments import ModelConfig
from harness.config.groups import GROUPS, check_option
from harness.config.network import NetworkConfig
from harness.config.reference import option_sets, option_values
from harness.config.runners import RUNNERS
from harness.config.schema import RunConfig
from harness.config.systems import system_schema
from harness.errors import ConfigError, spell
from harness.records.record import Record


def run_command(record: Record) -> str:
    """`permbench run` with the record's options and every key that differs from theirs; of a record
    that this installation cannot run, what shows it."""
    chosen = {group: _name(record, group) for group in GROUPS}
    try:
        base = _defaults(chosen)
    except (ConfigError, KeyError):
        return shlex.join(["permbench", "show", record.id])
    options = [f"{group}={option}" for group, option in chosen.items()]
    return shlex.join(["permbench", "run", *options, *_changed(record, base)])


def _name(record: Record, group: str) -> str:
    return str(record.config.get(group, {}).get("name"))


def _defaults(chosen: Mapping[str, str]) -> dict[str, Any]:
    """All keys of a run with these options, flat. Raises ConfigError."""
    found = dict(_plain_defaults())
    for group, option in chosen.items():
        found |= _option_defaults(group, option)
    return found


@cache
def _plain_defaults() -> dict[str, Any]:
    """Those of every run, in no group."""
    data = {f.name: _default(f) for f in fields(RunConfig) if f.name not in GROUPS}
    return _flat(data)


@cache
def _option_defaults(group: str, option: str) -> dict[str, Any]:
    """Those of an option of a group: of its type, what its file sets inside, and what it sets besides."""
    kinds: dict[str, Any] = {"model": ModelConfig, "network": NetworkConfig}
    check_option(group, option)
    kind = system_schema(option) if group == "system" else kinds.get(group)
    kind = RUNNERS.get(option, kind) if group == "runner" else kind
    defaults = {} if kind is None else {f.name: _default(f) for f in fields(kind)}
    values = defaults | {"name": option} | option_values(group, option)
    return _flat({group: values}) | _flat(option_sets(group, option))


def _default(f: "Field[Any]") -> Any:
    made = None if f.default_factory is MISSING else f.default_factory()
    return made if f.default is MISSING else f.default


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({key: _plain(value) for key, value in data.items()})


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _changed(record: Record, base: dict[str, Any]) -> list[str]:
    flat = record.flat
    brought = "model." if flat.get("model.checkpoint") else "\n"  # dimensions, by a checkpoint
    return [
        f"{key.replace('>', '_')}={spell(value)}"
        for key, value in flat.items()
        if not is_quiet(key)
        and (key in base or key.startswith("network.links."))
        and (key == "model.checkpoint" or not key.startswith(brought))
        and value != base.get(key)
        and value != {}
    ]
