"""The systems that can be run, by name: ours, and those that other installed packages bring.

A package brings a system by an entry point of the group `permbench.systems`: its name is the system's, its
value `module:Class`. A system is imported when it is asked for, so that one that cannot be is in nobody's
way but its own. The names of ours are taken.
"""

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from baselines.mpcformer.options import Settings
from harness.errors import ConfigError
from protocols.options import NoOptions
from protocols.permllm.options import PermLLMOptions

if TYPE_CHECKING:
    from protocols.system import System

GROUP = "permbench.systems"
OURS: dict[str, tuple[str, type[Any]]] = {  # options are known without importing torch
    "permllm": ("protocols.permllm.system:PermLLM", PermLLMOptions),
    "mpcformer": ("baselines.mpcformer.system:MPCFormer", Settings),
    "puma": ("baselines.puma.system:Puma", NoOptions),
    "plaintext": ("baselines.plaintext.system:Plaintext", NoOptions),
}


@cache
def others() -> dict[str, EntryPoint]:
    """The systems of other packages."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in OURS}


@cache
def system_class(name: str) -> "type[System]":
    """The class of a system. Raises KeyError for an unknown name, ConfigError for one that cannot be
    used."""
    if name in OURS:
        found: type[System] = EntryPoint(name, OURS[name][0], GROUP).load()
        return found
    return _checked(others()[name])


def options_class(name: str) -> type[Any]:
    """The dataclass of a system's options. Raises as `system_class`."""
    return OURS[name][1] if name in OURS else system_class(name).Options


def choices(name: str) -> dict[str, tuple[Any, ...]]:
    """The allowed values of each option of a system that has a list of them.
    Raises as `system_class`."""
    hints = get_type_hints(options_class(name))
    return {key: get_args(hint) for key, hint in hints.items() if get_origin(hint) is Literal}


def _checked(point: EntryPoint) -> "type[System]":
    from protocols.system import System  # noqa: PLC0415 - torch is slow to import

    try:
        found = point.load()
    except Exception as error:  # whatever another package's code may raise
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, System)):
        raise _unusable(point, "it is no protocols.system.System")
    if inspect.isabstract(found):
        raise _unusable(point, f"it lacks {', '.join(sorted(found.__abstractmethods__))}")
    return found


def _unusable(point: EntryPoint, why: str) -> ConfigError:
    package = f" of package {point.dist.name}" if point.dist else ""
    return ConfigError("system", f"{point.name} ({point.value}{package}) cannot be used: {why}")
