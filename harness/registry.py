"""The systems that can be run, by name."""

from protocols.permllm.system import PermLLM
from protocols.system import System

_SYSTEMS: tuple[type[System], ...] = (PermLLM,)


def systems() -> dict[str, type[System]]:
    """Every known system's class by its name."""
    return {system.name: system for system in _SYSTEMS}


def system_class(name: str) -> type[System]:
    """The class called `name`. Raises KeyError."""
    return systems()[name]
