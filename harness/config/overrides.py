"""Command-line overrides: Hydra's grammar, checked before anything is composed, and sweeps."""

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from harness.config.call_keys import LAUNCHER, CallConfig
from harness.config.groups import CONF_DIR, GROUPS, check_option, default_options, options
from harness.config.schema import RunConfig
from harness.config.systems import option_names
from harness.errors import ConfigError, unknown

TOP_KEYS = tuple(field.name for field in fields(RunConfig))
OWN_KEYS = tuple(field.name for field in fields(CallConfig))
CALL_KEYS = (*OWN_KEYS, "hydra", LAUNCHER)
LINKS = "network.links"


def is_call_argument(text: str) -> bool:
    """Whether an override is for the whole call, and part of no run."""
    return re.split("[=./@]", text.lstrip("+~"), maxsplit=1)[0] in CALL_KEYS


def parse(texts: Sequence[str], top_keys: Sequence[str] = TOP_KEYS) -> list[Override]:
    """Parse overrides such as `experiment.n=5`. Raises ConfigError for what is not one."""
    parser = OverridesParser.create()
    return [_parse_one(parser, text, top_keys) for text in texts]


def check_single(overrides: Sequence[Override], conf_dir: Path = CONF_DIR) -> None:
    """Raise `ConfigError` unless each override sets a known key, or a group to one known option."""
    for override in overrides:
        if override.is_sweep_override():
            text = override.input_line
            raise ConfigError(override.key_or_group, f"{text} is a sweep; to run it, add -m")
        if override.key_or_group in GROUPS:
            check_option(override.key_or_group, override.value(), conf_dir)


def expand_sweep(texts: Sequence[str], conf_dir: Path = CONF_DIR) -> list[list[str]]:
    """The points of a sweep, each a list of overrides; keys in the order given, the last fastest.

    A value may be a list (`1,2`), `choice(…)`, `range(…)` or, for a group, `glob(…)`. A key of one
    system, as `mpcformer.approx`, multiplies the points of that system alone.
    """
    axes = [_values(override, conf_dir) for override in _parse_with_systems(texts)]
    return _own_options([list(point) for point in itertools.product(*axes)])


def points(texts: Sequence[str], multirun: bool) -> list[list[str]]:
    """The points of a call: those of its sweep, or its only one."""
    if multirun:
        return expand_sweep(texts)
    _parse_with_systems(texts)
    return _own_options([list(texts)])


def _parse_with_systems(texts: Sequence[str]) -> list[Override]:
    return parse(texts, (*TOP_KEYS, *options("system")))


def _own_options(given: Sequence[Sequence[str]]) -> list[list[str]]:
    """`given`, with `<system>.<option>` as `system.<option>` where the point is of that system, and
    left out of all others. Points that become equal are one. Raises ConfigError."""
    systems = [_system_of(point) for point in given]
    names = [name for name in options("system") if name not in TOP_KEYS]
    for key in dict.fromkeys(_key(text) for point in given for text in point):
        system, _, option = key.partition(".")
        if system in names:
            _check_own(key, system, option, systems)
    made = [
        tuple(own for text in point if (own := _own(text, system, names)))
        for point, system in zip(given, systems, strict=True)
    ]
    return [list(point) for point in dict.fromkeys(made)]


def _check_own(key: str, system: str, option: str, systems: Sequence[str]) -> None:
    if system not in systems:
        have = ", ".join(dict.fromkeys(systems))
        raise ConfigError(key, f"no run of this call is of system {system}; it has {have}")
    if option not in (names := option_names(system)):
        if not names:
            raise ConfigError(key, f"unknown key; {system} has no options")
        raise unknown(key, "unknown key", names, f"{system}.")


def _own(text: str, system: str, names: Collection[str]) -> str | None:
    owner, _, rest = text.partition(".")
    if owner not in names or "=" in owner:
        return text
    return f"system.{rest}" if owner == system else None


def _key(text: str) -> str:
    return text.partition("=")[0]


def _system_of(point: Sequence[str]) -> str:
    chosen = [text.partition("=")[2] for text in point if _key(text) == "system"]
    return chosen[-1] if chosen else default_options()["system"]


def _parse_one(parser: OverridesParser, text: str, top_keys: Sequence[str]) -> Override:
    try:
        override: Override = parser.parse_override(_normal(text))
    except HydraException as error:
        reason = str(error).splitlines()[0].removeprefix(f"Error parsing override '{text}'")
        raise ConfigError(text, f"must look like key=value ({reason})".replace(" ()", "")) from None
    is_link = override.key_or_group.startswith(LINKS)
    if not is_link and (override.is_add() or override.is_force_add() or override.is_delete()):
        raise ConfigError(text, "keys are neither added nor removed; write key=value")
    if override.package is not None:
        raise ConfigError(text, "must look like key=value, without @package")
    if is_link and override.key_or_group.count(".") != 3:
        raise ConfigError(text, f"set one key of one direction, as {LINKS}.P1_P0.delay_ms=5")
    _check_top(override, top_keys)
    return override


def _normal(text: str) -> str:
    """`network.links` is the one mapping with free keys, and `>` is not in Hydra's grammar."""
    bare = text.lstrip("+")
    return "++" + bare.replace(">", "_") if bare.startswith(LINKS) else text


def _check_top(override: Override, top_keys: Sequence[str]) -> None:
    key = override.key_or_group
    top = key.partition(".")[0].partition("[")[0]
    if top in (*OWN_KEYS, LAUNCHER) and top not in top_keys:
        raise ConfigError(key, "is a key of `permbench run` alone")
    if top not in top_keys:
        allowed = dict.fromkeys((*TOP_KEYS, *OWN_KEYS, *top_keys))
        raise unknown(key or str(override.input_line), "unknown key", allowed)


def _values(override: Override, conf_dir: Path) -> list[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(override.key_or_group, "interval() has no points; use range() or a list")
    value = override.value()
    if not isinstance(value, Glob):
        points = [f"{key}={text}" for text in override.sweep_string_iterator()]
        if not points:
            raise ConfigError(override.key_or_group, f"{override.input_line} has no points")
        return points
    names = [str(name) for name in value.filter(options(override.key_or_group, conf_dir))]
    if not names:
        raise ConfigError(override.key_or_group, f"{override.input_line} matches no option")
    return [f"{key}={name}" for name in names]
