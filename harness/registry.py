"""The systems that can be run, by name: ours, and those that other installed packages bring.

A package brings a system by an entry point of the group `permbench.systems`: its name is the system's, its
value `module:Class`. A system is imported when it is asked for, so that one that cannot be is in nobody's
way but its own. The names of ours are taken.
"""

import inspect
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from baselines.ckks.options import CkksOptions
from baselines.external.options import ExternalOptions
from baselines.fss.options import FssOptions
from baselines.he_linear.options import HeLinearOptions
from baselines.mpcformer.options import Settings
from baselines.plaintext.options import PlaintextOptions
from baselines.puma.options import PumaOptions
from baselines.shaft.options import ShaftOptions
from baselines.shamir.options import ShamirOptions
from baselines.tfhe.options import TfheOptions
from harness.errors import ConfigError
from protocols.options import NoOptions
from protocols.permllm.options import PermLLMOptions

if TYPE_CHECKING:
    from protocols.system import System

GROUP = "permbench.systems"
OURS: dict[str, tuple[str, type[Any]]] = {  # options are known without importing torch
    "permllm": ("protocols.permllm.system:PermLLM", PermLLMOptions),
    "mpcformer": ("baselines.mpcformer.system:MPCFormer", Settings),
    "puma": ("baselines.puma.system:Puma", PumaOptions),
    "shaft": ("baselines.shaft.system:Shaft", ShaftOptions),
    "shamir": ("baselines.shamir.system:Shamir", ShamirOptions),
    "fss": ("baselines.fss.system:Fss", FssOptions),
    "he_linear": ("baselines.he_linear.system:HeLinear", HeLinearOptions),
    "plaintext": ("baselines.plaintext.system:Plaintext", PlaintextOptions),
}
# Need an extra of permbench, and compute a few experiments alone.
WITH_EXTRAS: dict[str, tuple[str, type[Any]]] = {
    "tfhe": ("baselines.tfhe.system:Tfhe", TfheOptions),
    "orion": ("baselines.orion.system:Orion", NoOptions),
}
# Compute single operators alone.
OPERATORS: dict[str, tuple[str, type[Any]]] = {
    "ckks": ("baselines.ckks.system:Ckks", CkksOptions),
}
EXTERNAL = "external"  # the programs of others, of which only their file knows what they compute
# Such programs, whose files stand in conf/external, and which of ours follows them.
PEERS = {"spu-aby3": "puma", "spu-cheetah": None, "spu-semi2k": None, "crypten": "mpcformer"}
_EXTERNAL_CLASS = "baselines.external.system:External"
BROUGHT = (
    OURS
    | WITH_EXTRAS
    | OPERATORS
    | {EXTERNAL: (_EXTERNAL_CLASS, ExternalOptions)}
    | dict.fromkeys(PEERS, (_EXTERNAL_CLASS, NoOptions))
)


def is_external(name: str) -> bool:
    """Whether a system is programs of others, which take the parties' place."""
    return name == EXTERNAL or name in PEERS


@cache
def others() -> dict[str, EntryPoint]:
    """The systems of other packages."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BROUGHT}


@cache
def system_class(name: str) -> "type[System]":
    """The class of a system. Raises KeyError for an unknown name, ConfigError for one that cannot be
    used."""
    if name in BROUGHT:
        found: type[System] = EntryPoint(name, BROUGHT[name][0], GROUP).load()
        return found
    return _checked(others()[name])


def learns(name: str) -> str:
    """Who learns what in a system, in its own few words; a dash for a package that is not here."""
    try:
        return system_class(name).learns
    except (ConfigError, KeyError):
        return "–"


def options_class(name: str) -> type[Any]:
    """The dataclass of a system's options. Raises as `system_class`."""
    return BROUGHT[name][1] if name in BROUGHT else system_class(name).Options


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
    if not callable(found.online_roles):
        raise _unusable(point, "its online_roles is no class method of the options")
    return found


def _unusable(point: EntryPoint, why: str) -> ConfigError:
    package = f" of package {point.dist.name}" if point.dist else ""
    return ConfigError("system", f"{point.name} ({point.value}{package}) cannot be used: {why}")
