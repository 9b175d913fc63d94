"""The systems that can be run, by name: ours, and those that other installed packages bring.

A package brings a system by an entry point of the group `permbench.systems`; its name is the system's.
"""

from functools import cache
from importlib.metadata import entry_points

from baselines.mpcformer.system import MPCFormer
from baselines.plaintext.system import Plaintext
from baselines.puma.system import Puma
from protocols.permllm.system import PermLLM
from protocols.system import System

GROUP = "permbench.systems"
_SYSTEMS: tuple[type[System], ...] = (PermLLM, MPCFormer, Puma, Plaintext)


@cache
def systems() -> dict[str, type[System]]:
    """Every known system's class by its name."""
    found = {system.name: system for system in _SYSTEMS}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point.load())
    return found


def system_class(name: str) -> type[System]:
    """The class called `name`. Raises KeyError."""
    return systems()[name]
