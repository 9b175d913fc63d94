"""`permbench gate`: does this tree still cost what the baseline says?"""

import argparse
from pathlib import Path

from harness.data_files import data_path
from harness.progress import make_progress

BASELINE = Path("results/reference/gate.json")
DESCRIPTION = """\
Run every row of a baseline and compare: messages, payload bytes, wire bytes and hops exactly; online times
in turns with another checkout (--against), or with the baseline's where that is of this machine. Slower is
what lies above the row's threshold with all of the ratio's 95 % confidence interval, twice, the second
time with fresh parties.
"""
EPILOG = """\
examples:
  permbench gate --update                            make or renew results/reference/gate.json
  permbench gate --counters-only                     bytes, messages and hops, on any machine
  git worktree add /tmp/base main
  permbench gate --against /tmp/base --summary gate.md --junit gate.xml --benchmark gate.json
  permbench gate --self-test                         false alarms and power on this machine

KEY=VALUE arguments replace those of every row: for this call, with --update for good.

exit codes: 0 fine; 1 a regression; 2 cannot tell (too noisy, a run failed, a link outside tolerance, no
baseline) or bad input. --self-test: 1 if its rates are not as they should be
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to compare with, and where to write."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add = parser.add_argument
    add("arguments", nargs="*", metavar="KEY=VALUE", help="as for permbench run, for all rows")
    add("--baseline", type=Path, metavar="FILE", help=f"default: {BASELINE}, or permbench's own")
    add("--rows", metavar="PATTERN", help="only the rows so called, e.g. 'argmax *'")
    add("--patience-s", type=float, default=30.0, metavar="S", help="time for a row to tell (30)")
    add("--summary", type=Path, metavar="FILE", help="write Markdown")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    add("--benchmark", type=Path, metavar="FILE", help="write JSON for github-action-benchmark")
    add("--trials", type=int, default=20, metavar="N", help="A/A trials of --self-test (20)")
    modes = parser.add_mutually_exclusive_group()
    add = modes.add_argument
    add("--against", type=Path, metavar="DIR", help="another checkout, timed in turns with this")
    add("--counters-only", action="store_true", help="neither measure nor compare times")
    add("--update", action="store_true", help="write the baseline")
    add("--self-test", action="store_true", help="test the gate itself")


def run(args: argparse.Namespace) -> int:
    """Gate, update or test; see the exit codes above."""
    from harness.cli import gate_modes  # noqa: PLC0415 - torch is slow to import

    if args.self_test:
        act = gate_modes.test_itself
    else:
        act = gate_modes.update if args.update else gate_modes.gate
    if args.baseline is None:
        args.baseline = BASELINE if args.update or BASELINE.exists() else data_path(str(BASELINE))
    progress = make_progress()
    try:
        finish = act(args, progress)
    finally:
        progress.close()
    return finish()
