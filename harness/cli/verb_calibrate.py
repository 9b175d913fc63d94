"""`permbench calibrate`: measure the links of a network, and nothing else."""

import argparse
from dataclasses import replace
from pathlib import Path

from harness.cli.verb_run import compose_points
from harness.machine.capabilities import require
from harness.machine.interrupts import deferred
from harness.progress import make_progress
from harness.records import store
from harness.records.record import OUTSIDE, REMEDY, Record
from harness.records.record_schema import CALIBRATION
from harness.report.link_tables import print_links

EXAMPLES = """\
examples:
  permbench calibrate network=permllm-wan
  sudo permbench calibrate network=permllm-wan runner=netns shaper=tc
  permbench calibrate network.rtt_ms=30 network.rate_mbit=200 runner=docker
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Overrides."""
    parser.description = (
        "Start the parties, shape the links between all of them as a run would, and measure: idle "
        "round trips, messages of 4 kB to 4 MB after idle, bulk one way and both ways at once. "
        "Exits with 1 if a link is not what the network promises."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "arguments", nargs="*", metavar="KEY=VALUE", help="network, runner, shaper and their keys"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, save the record."""
    from harness.measure import unsaved  # noqa: PLC0415 - torch is slow to import
    from harness.measure.session import Session  # noqa: PLC0415

    (config,) = compose_points(args.arguments, multirun=False)
    store.check_writable(Path(config.results_dir))
    require(config)
    progress = make_progress()
    try:
        with deferred(), Session() as session:
            found = session.calibrate(config, progress)
    finally:
        progress.close()
    record = _as_calibration(found)
    print_links([record])
    if (record.error or "").startswith(OUTSIDE):
        print(REMEDY)
    if path := unsaved.keep_record(Path(config.results_dir), record):
        print(f"saved in {path}")
    unsaved.finish()
    if unsaved.any_left():
        return 1
    return 0 if record.status == "ok" and record.network.within_tolerance else 1


def _as_calibration(record: Record) -> Record:
    """The record under the name of what was done: no experiment was run."""
    config = record.config | {"experiment": {"name": CALIBRATION}}
    return replace(record, config=config)
