"""Every key of the command line: what it means, which values it takes, and its default.

Made from the types that configurations are checked against and the files of conf/; help, `permbench list`,
completion and the reference are made from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from harness.config.call_keys import LAUNCHER, LAUNCHERS, CallConfig
from harness.config.experiments import EXPERIMENTS, ModelConfig
from harness.config.groups import GROUPS, default_options, loaded, option_file, options
from harness.config.network import NetworkConfig
from harness.config.runners import RUNNERS
from harness.config.schema import RunConfig
from harness.config.systems import system_schema
from harness.errors import ConfigError, spell
from harness.registry import options_class

LINKS = dict[str, dict[str, Any]]
KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    bool | None: "true, false or null",
    int | None: "a whole number or null",
    float | None: "a number or null",
    str | None: "text or null",
    list[int]: "a list of whole numbers, e.g. [32,1024]",
    list[float]: "a list of numbers, e.g. [0.5,0.9]",
    LINKS: "a mapping such as {P1>P0: {delay_ms: 5, rate_mbit: 20}}",
}
CALL = "call"  # `KeyDoc.of` of a key that no run depends on


@dataclass(frozen=True)
class KeyDoc:
    """One key. default: as it is written on the command line; "" where the chosen option gives it.

    of: "" for every run; "experiment=layer" for runs with that option; `CALL`.
    """

    key: str
    meaning: str
    values: str
    default: str = ""
    of: str = ""


def keys() -> list[KeyDoc]:
    """Every key, in the order of a help text."""
    found = [*group_keys(), *plain_keys()]
    for group in GROUPS:
        found += group_wide_keys(group)
        for option in options(group):
            found += option_keys(group, option)
    return [*found, *call_keys()]


def group_keys() -> list[KeyDoc]:
    """One for each group of conf/."""
    documented = {f.name: f.metadata["meaning"] for f in fields(RunConfig) if f.name in GROUPS}
    chosen = default_options()
    return [
        KeyDoc(group, documented[group], ", ".join(options(group)), chosen[group])
        for group in GROUPS
    ]


def plain_keys() -> list[KeyDoc]:
    """Those of every run, in no group."""
    return [key for key in _keys_of(RunConfig) if key.key not in GROUPS]


def group_wide_keys(group: str) -> list[KeyDoc]:
    """Those that every option of `group` has: its values stand in its file."""
    kinds: dict[str, type] = {"model": ModelConfig, "network": NetworkConfig}
    return list(_keys_of(kinds[group], f"{group}.")) if group in kinds else []


def option_keys(group: str, option: str) -> list[KeyDoc]:
    """Those that one option alone has: of experiments, systems and runners. None of a system that
    cannot be imported; `permbench list` says why."""
    of, prefix = f"{group}={option}", f"{group}."
    try:
        if group == "system":
            return list(_keys_of(system_schema(option), prefix, of, hints_of=options_class(option)))
    except ConfigError:
        return []
    groups: dict[str, Mapping[str, type]] = {"experiment": EXPERIMENTS, "runner": RUNNERS}
    kinds = groups.get(group, {})
    if option not in kinds:
        return []
    return list(_keys_of(kinds[option], prefix, of, option_values(group, option)))


def call_keys() -> list[KeyDoc]:
    """Those of a call of `permbench run`."""
    launchers = "; ".join(f"{name}: {what}" for name, what in LAUNCHERS.items())
    launcher = KeyDoc(LAUNCHER, "what starts the runs", launchers, next(iter(LAUNCHERS)), CALL)
    return [*_keys_of(CallConfig, of=CALL), launcher]


def option_values(group: str, option: str) -> dict[str, Any]:
    """What the file of an option sets inside its group; {} for a system of another package."""
    data = _option_data(group, option)
    return cast(dict[str, Any], data[group]) if isinstance(data.get(group), dict) else data


def option_sets(group: str, option: str) -> dict[str, Any]:
    """The plain keys that the file of an option sets besides."""
    data = _option_data(group, option)
    return {key: value for key, value in data.items() if group in data and key != group}


def _option_data(group: str, option: str) -> dict[str, Any]:
    path = option_file(group, option)
    data = loaded(path) if path.exists() else {}
    return {key: value for key, value in data.items() if key != "defaults"}


def _keys_of(
    kind: type,
    prefix: str = "",
    of: str = "",
    given: Mapping[str, Any] | None = None,
    hints_of: type | None = None,
    about: str = "",
) -> Iterator[KeyDoc]:
    """The keys of a configuration type. given: values that a file has for them; hints_of: the type
    whose annotations tell more; about: what the keys of a nested type are about."""
    hints = get_type_hints(kind) | (get_type_hints(hints_of) if hints_of else {})
    for f in fields(kind):
        meaning = f.metadata.get("meaning", "")
        hint = hints[f.name]
        if f.name == "name" and not meaning:
            continue
        if is_dataclass(hint) and f.name not in GROUPS:
            yield from _keys_of(cast(type, hint), f"{prefix}{f.name}.", of, about=meaning)
            continue
        text = f"{about} {meaning}".strip()
        yield KeyDoc(f"{prefix}{f.name}", text, _values(f, hint), _default(f, given or {}), of)


def _values(key: "Field[Any]", hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    return str(key.metadata.get("values") or KINDS.get(hint, ""))


def _default(key: "Field[Any]", given: Mapping[str, Any]) -> str:
    if key.name in given:
        return spell(given[key.name])
    if key.default is not MISSING:
        return spell(key.default)
    return "{}" if key.default_factory is dict else ""
