"""`permbench list`: the options of every group, one line each; or all about one name."""

import argparse

from harness.cli.key_help import about
from harness.config.groups import GROUPS, describe, options

ORDER = ("system", "experiment", "network", "model", "runner", "shaper")
assert sorted(ORDER) == sorted(GROUPS)
EXAMPLES = """\
examples:
  permbench list                 the options of every group
  permbench list layer           an option: its keys, their values and defaults
  permbench list network         a group
  permbench list kv_len          a key
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to explain."""
    parser.description = "List the options of every configuration group, or explain one name."
    parser.epilog = EXAMPLES
    parser.add_argument("names", nargs="*", metavar="NAME", help="a group, an option or a key")


def run(args: argparse.Namespace) -> int:
    """Print them."""
    for line in [line for name in args.names for line in (*about(name), "")]:
        print(line)
    for group in () if args.names else ORDER:
        print(f"{group}s")
        for option in options(group):
            print(f"  {option:15} {describe(group, option)}")
    return 0
