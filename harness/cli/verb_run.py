"""`permbench run`: compose, check everything, measure what is not stored yet."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager

from harness.cli.main import Parser
from harness.config.call_keys import Call
from harness.config.config_hash import config_hash
from harness.config.schema import RunConfig
from harness.machine.capabilities import require
from harness.measure import sweep as runs
from harness.measure.turn_groups import alone, turn_groups
from harness.progress import Progress, make_progress
from harness.records.record import Record

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
    parser.epilogue = _help
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

        named = runs.titles(configs)
        for config in configs:
            print_plan(config, named[config_hash(config)])
        return 0
    records = run_points(configs, call)
    show(records)
    return runs.exit_code(records)


def compose_points(arguments: Sequence[str], multirun: bool) -> list[RunConfig]:
    """Every configuration of one call, checked. Raises ConfigError."""
    from harness.config.compose import compose_all  # noqa: PLC0415 - Hydra is slow to import
    from harness.config.overrides import points  # noqa: PLC0415

    return compose_all(points(arguments, multirun))


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
    if checked := [config for config in plan.pending.values() if config.memory.check]:
        from harness.machine.resource_check import require_resources  # noqa: PLC0415 - torch is slow to import

        require_resources(checked)
    interleaved = call.config.sweep.order == "interleaved"
    return runs.measured_here(plan, session, progress, turn_groups if interleaved else alone)


def show(records: Sequence[Record]) -> None:
    """Print the tables of `records`."""
    from harness.report.tables import print_tables  # noqa: PLC0415 - only after the runs

    print_tables(records)


def session() -> AbstractContextManager[runs.Runs]:
    """What measures in this process."""
    from harness.measure.session import Session  # noqa: PLC0415 - torch is slow to import

    return Session()


SWEEPS = """\
sweeps (-m): KEY=1,2,3  KEY=range(1,5)  KEY=choice(a,b)  GROUP=glob(bolt*), for any number of keys; the
last varies fastest. SYSTEM.OPTION=… is for the runs of that system alone, as mpcformer.approx=exact. A
run whose result is stored is skipped unless force=true, so the same command goes on where it was
stopped; failed runs are tried again. Launchers other than basic need the extra cluster.
"""


def _help() -> str:
    from harness.cli.key_help import every_key  # noqa: PLC0415 - for help alone

    return "\n".join([*every_key(), "", SWEEPS, EXAMPLES])
