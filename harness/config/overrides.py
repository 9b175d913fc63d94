"""Command-line overrides: Hydra's grammar, checked before anything is composed, and sweeps."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from harness.config.call import LAUNCHER, CallConfig
from harness.config.groups import CONF_DIR, GROUPS, check_option, options
from harness.config.schema import RunConfig
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

    A value may be a list (`1,2`), `choice(…)`, `range(…)` or, for a group, `glob(…)`.
    """
    axes = [_values(override, conf_dir) for override in parse(texts)]
    return [list(point) for point in itertools.product(*axes)]


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
        raise unknown(key or str(override.input_line), "unknown key", (*TOP_KEYS, *OWN_KEYS))


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
