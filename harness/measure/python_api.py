"""Runs from a program: what `permbench run` does, without a command line."""

import sys
from typing import TYPE_CHECKING

from harness.config.compose import compose_all
from harness.config.overrides import points
from harness.machine.capabilities import require
from harness.machine.resource_check import require_resources
from harness.measure import sweep
from harness.measure.session import Session
from harness.progress import Progress, SilentProgress, make_progress
from harness.records.dataframe import frame

if TYPE_CHECKING:
    import pandas as pd


def run(*overrides: str, multirun: bool = False, quiet: bool = False) -> "pd.DataFrame":
    """Run one configuration, or with `multirun` every point of a sweep, and return the runs.

    overrides: as for `permbench run`, such as "experiment=layer", "model=gpt2". What is stored
    already is not measured again. quiet: show no progress. Returns a row for each run, in the
    columns of `permbench.load`; a run that failed is a row with its `status` and `error`. Raises
    ConfigError for bad input, before anything is started.
    """
    configs = compose_all(points(overrides, multirun))
    plan = sweep.plan(configs)
    for config in plan.pending.values():
        require(config)
    require_resources(plan.pending.values())
    if not quiet:
        for line in sweep.stored_messages(plan):
            print(line, file=sys.stderr)
    progress: Progress = SilentProgress() if quiet else make_progress()
    try:
        measured = list(sweep.measured_here(plan, Session, progress))
    finally:
        progress.close()
    return frame([*plan.stored.values(), *measured])
