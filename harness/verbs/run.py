"""`permbench run`: compose, check everything, measure what is not stored yet."""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import fields

from harness import runs
from harness.config.errors import spell
from harness.config.groups import GROUPS, options
from harness.config.schema import EXPERIMENTS, RunConfig
from harness.progress import make_progress
from harness.record import Record

EXAMPLES = """\
examples:
  permbench run experiment.n=10000
  permbench run experiment=layer model=chatglm-6b experiment.kv_len=512 network=puma
  permbench run -m experiment.n=1000,10000,100000 network=permllm-wan,loopback repeat=5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Overrides and the sweep switch."""
    parser.description = "Run one configuration, or with -m every point of a sweep."
    parser.epilog = f"{_groups_help()}\n{_keys_help()}\n{_sweep_help()}\n{EXAMPLES}"
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="what to run; see the keys below"
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="take lists of values as a sweep"
    )


def run(args: argparse.Namespace) -> int:
    """Run and show; 1 if a run failed or gave a wrong answer."""
    records = run_points(compose_points(args.words, args.multirun))
    show(records)
    return runs.exit_code(records)


def compose_points(words: Sequence[str], multirun: bool) -> list[RunConfig]:
    """Every configuration of one call, checked. Raises ConfigError."""
    from harness.config.compose import compose_all  # noqa: PLC0415 - Hydra is slow to import
    from harness.config.overrides import expand_sweep  # noqa: PLC0415

    return compose_all(expand_sweep(words) if multirun else [list(words)])


def run_points(configs: Sequence[RunConfig]) -> list[Record]:
    """The records of `configs`, stored or measured now, in their order."""
    plan = runs.plan(configs)
    if plan.stored:
        total = len(plan.stored) + len(plan.pending)
        print(f"{len(plan.stored)} of {total} runs are stored already; force=true measures again")
    progress = make_progress()
    try:
        measured = runs.measure(plan.pending, _session, progress)
    finally:
        progress.close()
    return [*plan.stored.values(), *measured]


def show(records: Sequence[Record]) -> None:
    """Print the tables of `records`."""
    from harness.table import print_tables  # noqa: PLC0415 - only after the runs

    print_tables(records)


def _session() -> AbstractContextManager[runs.Runs]:
    from harness.session import Session  # noqa: PLC0415 - torch is slow to import

    return Session()


def _groups_help() -> str:
    lines = [f"  {group:11} {', '.join(options(group))}" for group in GROUPS]
    return "\n".join(["groups (GROUP=OPTION; permbench list describes them):", *lines])


def _keys_help() -> str:
    plain = [f for f in fields(RunConfig) if f.name not in (*GROUPS, "calibration")]
    lines = [f"  {f.name:22} {spell(f.default)}" for f in plain]
    lines.append(f"  {'calibration.strict':22} true")
    inner = [
        f"  {f'experiment.{f.name}':22} of {name}"
        for name, kind in EXPERIMENTS.items()
        for f in fields(kind)
        if f.name != "name"
    ]
    wide = "  model.d_model=…, network.rtt_ms=…, network.dealer.rtt_ms=…: every field of an option"
    return "\n".join(
        ["plain keys and their defaults:", *lines, "keys inside a group:", *inner, wide]
    )


def _sweep_help() -> str:
    return (
        "sweeps (-m): KEY=1,2,3  KEY=range(1,5)  GROUP=glob(bolt*); the last key varies fastest.\n"
        "A run whose result is stored is skipped unless force=true.\n"
    )
