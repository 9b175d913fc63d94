"""`permbench doctor`: what this machine can do, and what would mend the rest."""

import argparse
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.machine.doctor import Check, remove_left_behind, run_checks, usable
from harness.report.tables import print_fitting

STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cleaning up."""
    parser.description = "Check this machine. Exits with 0 if runner=local shaper=emulated work."
    parser.add_argument(
        "--clean",
        action="store_true",
        help="remove what killed runs left behind (namespaces, links, containers, networks), no more",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table of checks, or remove what was left behind."""
    if args.clean:
        for line in remove_left_behind() or ["nothing was left behind"]:
            print(line)
        return 0
    checks = run_checks()
    print_fitting([_table(checks), _table(checks, wrap=True)])
    works = usable(checks)
    verdict = "works" if works else "does not work"
    print(f"runner=local shaper=emulated: {verdict} on this machine")
    return 0 if works else 1


def _table(checks: Sequence[Check], wrap: bool = False) -> RenderableType:
    table = Table(box=None, padding=(0, 1))
    for head in ("check", "state", "found", "remedy"):
        table.add_column(head, overflow="fold", max_width=28 if wrap else None)
    for check in checks:
        remedy = "" if check.state == "ok" else check.remedy
        state = Text(check.state, STYLES[check.state])
        table.add_row(check.name, state, Text(check.found), Text(remedy))
    return table
