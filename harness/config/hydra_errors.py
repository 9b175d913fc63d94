"""Hydra's and OmegaConf's errors as one line of ours."""

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.override_parser.types import Override
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from yaml import MarkedYAMLError

from harness.config.reference import KINDS, LINKS
from harness.errors import ConfigError, rejected, unknown

IN_FILE = re.compile(
    r"^In '(?P<file>[^']+)': \w+ raised while composing config:\n(?P<rest>.*)", re.S
)
VALUE = re.compile(r"^Value '(?P<value>.*?)' of type", re.S)


def explain(error: Exception, overrides: Sequence[Override], conf_dir: Path) -> ConfigError:
    """The `ConfigError` that says what `error` means, naming the file where a file is wrong."""
    if isinstance(error, MarkedYAMLError):
        return _bad_yaml(error, conf_dir)
    in_file = IN_FILE.match(str(error))
    explained = _explained(_omegaconf_error(error), overrides)
    if in_file is None:
        return explained or ConfigError("configuration", str(error).partition("\nSee ")[0])
    problem = str(explained) if explained else in_file["rest"].splitlines()[0]
    return ConfigError(f"{conf_dir.name}/{in_file['file']}.yaml", problem)


def _explained(
    error: OmegaConfBaseException | None, overrides: Sequence[Override]
) -> ConfigError | None:
    if error is None:
        return None
    return _unknown_key(error) if isinstance(error, _UNKNOWN) else _bad_value(error, overrides)


_UNKNOWN = (ConfigAttributeError, ConfigKeyError)


def _omegaconf_error(error: BaseException | None) -> OmegaConfBaseException | None:
    while error is not None:
        if isinstance(error, OmegaConfBaseException) and error.full_key:
            return error
        error = error.__cause__ or error.__context__
    return None


def _unknown_key(error: OmegaConfBaseException) -> ConfigError:
    key = str(error.full_key)
    parent = key.rpartition(".")[0]
    return unknown(key, "unknown key", _names(error.object_type), f"{parent}." if parent else "")


def _bad_value(error: OmegaConfBaseException, overrides: Sequence[Override]) -> ConfigError:
    key = str(error.full_key)
    kind = _kind(error, key)
    message = str(error.msg or error)
    if kind is None:
        return ConfigError(key, message.splitlines()[0])
    if isinstance(error, MissingMandatoryValue):
        return ConfigError(key, f"is not set, must be {kind}")
    if value := VALUE.match(message):
        return rejected(key, value["value"], kind)
    given = [override.value() for override in overrides if override.key_or_group == key]
    return rejected(key, given[-1], kind) if given else ConfigError(key, f"must be {kind}")


def _kind(error: OmegaConfBaseException, key: str) -> str | None:
    """What the schema allows at `key`, in words."""
    if error.object_type is list:
        return KINDS[int]
    if error.object_type is dict:
        return KINDS[LINKS]
    if error.object_type is None or not _names(error.object_type):
        return None
    hint = get_type_hints(error.object_type).get(key.rpartition(".")[2])
    if names := _names(hint):
        return f"a mapping of {', '.join(names)}"
    return KINDS.get(hint) if hint is not None else None


def _names(kind: Any) -> list[str]:
    """The keys of a configuration type; empty for any other."""
    return [f.name for f in fields(kind)] if is_dataclass(kind) else []


def _bad_yaml(error: MarkedYAMLError, conf_dir: Path) -> ConfigError:
    mark = error.problem_mark
    name = (
        conf_dir.name if mark is None else Path(mark.name).relative_to(conf_dir.parent).as_posix()
    )
    line = "" if mark is None else f"line {mark.line + 1}: "
    return ConfigError(name, f"{line}{error.problem}")
