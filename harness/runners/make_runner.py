"""Runners by name: `harness/runners/<name>.py` offers `make(config, tc) -> Runner`."""

from importlib import import_module

from harness.config.schema import RunnerConfig
from harness.runners.base import Runner


def make_runner(config: RunnerConfig, tc: bool) -> Runner:
    """The runner that `config` names. tc: its parties must be able to shape their interfaces."""
    runner: Runner = import_module(f"harness.runners.{config.name}").make(config, tc)
    return runner
