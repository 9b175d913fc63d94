"""`permbench run`: compose, check everything, measure what is not stored yet."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields

from harness.cli.main import Parser
from harness.config.call import LAUNCHER, LAUNCHERS, ORDERS, Call
from harness.config.groups import GROUPS, options
from harness.config.schema import EXPERIMENTS, CalibrationConfig, RunConfig
from harness.config.systems import system_schema
from harness.errors import ConfigError, spell
from harness.machine.capabilities import require
from harness.measure import sweep as runs
from harness.progress import Progress, make_progress
from harness.records.record import Record
from harness.registry import choices

DEFAULT_CALL = Call()
EXAMPLES = """\
examples:
  permbench run experiment.n=10000
  permbench run experiment=layer model=chatglm-6b experiment.kv_len=512 network=puma
  permbench run -m experiment.n=1000,10000,100000 network=permllm-wan,loopback repeat=5
  permbench run -m experiment=layer model=gpt2 'network=glob(*-wan)' system=permllm,puma \\
      sweep.order=shuffled
  permbench run -m experiment=layer experiment.kv_len='range(16,129,16)' \\
      hydra/launcher=submitit_slurm hydra.launcher.partition=cpu sweep.jobs=8
"""


def add_arguments(parser: Parser) -> None:
    """Overrides and the sweep switch."""
    parser.description = "Run one configuration, or with -m every point of a sweep."
    parser.epilogue = lambda: f"{_groups_help()}\n{_keys_help()}\n{_sweep_help()}\n{EXAMPLES}"
    parser.add_argument(
        "arguments", nargs="*", metavar="KEY=VALUE", help="what to run; see the keys below"
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="take lists of values as a sweep"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, and print what would be run"
    )


def run(args: argparse.Namespace) -> int:
    """Run and show; 1 if a run failed or gave a wrong answer."""
    from harness.cli.compose_call import (  # noqa: PLC0415 - Hydra is slow to import
        compose_call,
        split_arguments,
    )

    call_arguments, arguments = split_arguments(args.arguments)
    call = compose_call(call_arguments)
    configs = compose_points(arguments, args.multirun)
    if args.dry_run:
        from harness.measure.dry_run import print_plan  # noqa: PLC0415 - torch is slow to import

        for config in configs:
            print_plan(config)
        return 0
    records = run_points(configs, call)
    show(records)
    return runs.exit_code(records)


def compose_points(arguments: Sequence[str], multirun: bool) -> list[RunConfig]:
    """Every configuration of one call, checked. Raises ConfigError."""
    from harness.config.compose import compose_all  # noqa: PLC0415 - Hydra is slow to import
    from harness.config.overrides import expand_sweep  # noqa: PLC0415

    return compose_all(expand_sweep(arguments) if multirun else [list(arguments)])


def run_points(configs: Sequence[RunConfig], call: Call = DEFAULT_CALL) -> list[Record]:
    """The records of `configs`: those that were stored, and those measured now."""
    if call.config.sweep.order == "shuffled":
        configs = runs.shuffled(configs, call.config.sweep.seed)
    plan = runs.plan(configs)
    for line in runs.stored_messages(plan):
        print(line)
    progress = make_progress()
    try:
        source = _source(plan, call, progress)
        measured = runs.collect(source, call.config.continue_on_error)
    finally:
        progress.close()
    if left := runs.left_message(plan, measured):
        print(left, file=sys.stderr)
    return [*plan.stored.values(), *measured]


def _source(plan: runs.Plan, call: Call, progress: Progress) -> runs.Measured:
    """What measures what is pending: this process, or jobs."""
    if call.launcher.is_set:
        from harness.measure.cluster import measured_by_jobs  # noqa: PLC0415 - an optional extra

        return measured_by_jobs(plan, call, progress)
    for config in plan.pending.values():
        require(config)
    return runs.measured_here(plan, session, progress)


def show(records: Sequence[Record]) -> None:
    """Print the tables of `records`."""
    from harness.report.tables import print_tables  # noqa: PLC0415 - only after the runs

    print_tables(records)


def session() -> AbstractContextManager[runs.Runs]:
    """What measures in this process."""
    from harness.measure.session import Session  # noqa: PLC0415 - torch is slow to import

    return Session()


def _groups_help() -> str:
    lines = [f"  {group:11} {', '.join(options(group))}" for group in GROUPS]
    return "\n".join(["groups (GROUP=OPTION; permbench list describes them):", *lines])


def _keys_help() -> str:
    plain = [f for f in fields(RunConfig) if f.name not in (*GROUPS, "calibration")]
    lines = [f"  {f.name:22} {spell(f.default)}" for f in plain]
    lines += [
        f"  {f'calibration.{f.name}':22} {spell(f.default)}" for f in fields(CalibrationConfig)
    ]
    inner = [
        f"  {f'experiment.{f.name}':22} of {name}"
        for name, kind in EXPERIMENTS.items()
        for f in fields(kind)
        if f.name != "name"
    ]
    inner += [line for name in options("system") for line in _options_help(name)]
    wide = "  model.d_model=…, network.rtt_ms=…, network.dealer.rtt_ms=…: every field of an option"
    return "\n".join(
        ["plain keys and their defaults:", *lines, "keys inside a group:", *inner, wide]
    )


def _options_help(system: str) -> list[str]:
    try:
        found = fields(system_schema(system))
    except ConfigError:  # `permbench list` says why
        return []
    listed = {f.name: choices(system).get(f.name, (f.default,)) for f in found if f.name != "name"}
    return [
        f"  {f'system.{key}':26} {' | '.join(map(spell, values))}, of {system}"
        for key, values in listed.items()
    ]


def _sweep_help() -> str:
    call = {"continue_on_error": Call().config.continue_on_error}
    call |= {f"sweep.{key}": value for key, value in asdict(Call().config.sweep).items()}
    keys = [f"  {key:22} {spell(value)}" for key, value in call.items()]
    launchers = [f"  {LAUNCHER}={name:15} {what}" for name, what in LAUNCHERS.items()]
    return "\n".join(
        [
            "sweeps (-m): KEY=1,2,3  KEY=range(1,5)  KEY=choice(a,b)  GROUP=glob(bolt*), for any number",
            "of keys; the last varies fastest. A run whose result is stored is skipped unless",
            "force=true, so the same command goes on where it was stopped; failed runs are tried again.",
            "keys of the call, which no run depends on:",
            *keys,
            f"  sweep.order: {' or '.join(ORDERS)} (by sweep.seed). sweep.jobs: of a launcher.",
            "launchers (all but the first need the extra cluster); hydra.launcher.KEY=… sets timeout_min,",
            "cpus_per_task, mem_gb, partition, … of hydra-submitit-launcher:",
            *launchers,
            "",
        ]
    )
