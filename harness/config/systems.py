"""The `system` group: what each system declares of its options, as a typed configuration."""

from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from harness.config.schema import SystemConfig
from harness.errors import ConfigError, rejected
from harness.registry import choices, options_class


@cache
def system_schema(name: str) -> type[SystemConfig]:
    """`SystemConfig` with the options of the system `name`. Raises ConfigError, KeyError."""
    options = options_class(name)
    if not is_dataclass(options):
        raise ConfigError("system", f"{name}: its Options must be a dataclass")
    hints = get_type_hints(options)
    made: list[tuple[str, Any, Any]] = [("name", str, field(default=name))]
    made += [(f.name, _stored(hints[f.name]), _with_default(name, f)) for f in fields(options)]
    schema = make_dataclass("SystemConfig", made, bases=(SystemConfig,), frozen=True)
    return cast(type[SystemConfig], schema)


def option_names(name: str) -> list[str]:
    """The options of the system `name`. Raises as `system_schema`."""
    return [f.name for f in fields(system_schema(name)) if f.name != "name"]


def check_options(system: SystemConfig) -> None:
    """Raise `ConfigError` for an option that the system does not allow."""
    for key, allowed in choices(system.name).items():
        if getattr(system, key) not in allowed:
            rule = f"one of {', '.join(map(str, allowed))}"
            raise rejected(f"system.{key}", getattr(system, key), rule)
    try:
        system.options()
    except ValueError as error:
        raise ConfigError("system", str(error)) from error


def _stored(hint: Any) -> Any:
    """The type that OmegaConf knows: a choice is of the type of its values."""
    return type(get_args(hint)[0]) if get_origin(hint) is Literal else hint


def _with_default(system: str, option: Field[Any]) -> Any:
    if option.name == "name":
        raise ConfigError("system", f"{system}: an option cannot be called name")
    if option.default is MISSING:
        raise ConfigError("system", f"{system}: its option {option.name} has no default")
    return field(default=option.default, metadata=option.metadata)
