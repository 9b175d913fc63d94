"""`permbench list`: the options of every group, one line each."""

import argparse

from harness.config.groups import GROUPS, describe, options

ORDER = ("system", "experiment", "network", "model", "runner", "shaper")
assert sorted(ORDER) == sorted(GROUPS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""
    parser.description = "List the options of every configuration group."


def run(args: argparse.Namespace) -> int:
    """Print them."""
    for group in ORDER:
        print(f"{group}s")
        for option in options(group):
            print(f"  {option:15} {describe(group, option)}")
    return 0
