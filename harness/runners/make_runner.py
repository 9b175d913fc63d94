"""Runners by name: `harness/runners/<name>.py` offers `make(config, tc, roles) -> Runner`."""

from collections.abc import Sequence
from importlib import import_module

from harness.config.schema import RunnerConfig
from harness.runners.base import Runner
from protocols.party import ROLES, Role


def make_runner(config: RunnerConfig, tc: bool, roles: Sequence[Role] = ROLES) -> Runner:
    """The runner that `config` names, for parties of `roles`. tc: they must be able to shape their
    interfaces."""
    runner: Runner = import_module(f"harness.runners.{config.name}").make(config, tc, roles)
    return runner
