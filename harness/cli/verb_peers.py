"""`permbench peers`: original implementations of others, each in an environment of its own."""

import argparse
import sys

from rich.table import Table

from harness.config.peers import PEERS, VARIABLE, folder, is_installed, peer, remedy
from harness.errors import RunnerError
from harness.machine.peer_install import install
from harness.report.tables import print_fitting

EXAMPLES = """\
examples:
  permbench peers                           which there are, and which are installed
  permbench peers install spu crypten
  permbench run -m experiment=layer system=puma,spu-aby3 network=permllm-wan
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which."""
    parser.description = (
        f"Original implementations, to stand beside permbench's own. ${VARIABLE} names another folder "
        "for them."
    )
    parser.epilog = EXAMPLES
    words = parser.add_subparsers(dest="argument", metavar="WORD")
    making = words.add_parser("install", help="make the environment of a peer")
    making.add_argument("peer", nargs="+", help=", ".join(PEERS))


def run(args: argparse.Namespace) -> int:
    """List them, or install some."""
    if args.argument != "install":
        print_fitting([_table()])
        print(f"in {folder()}")
        return 0
    for name in args.peer:
        peer(name)
    try:
        for name in args.peer:
            for line in install(name):
                print(line, flush=True)
    except RunnerError as error:
        print(f"permbench: {error}", file=sys.stderr)
        return 1
    return 0


def _table() -> Table:
    table = Table(box=None, padding=(0, 1))
    for head in ("peer", "what it is", "on disk", "state"):
        table.add_column(head)
    for name, known in PEERS.items():
        state = "installed" if is_installed(name) else remedy(name)
        table.add_row(name, known.title, known.size, state)
    return table
