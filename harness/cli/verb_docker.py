"""`permbench docker`: the image that containers of runner=docker are made of."""

import argparse
import sys
from collections.abc import Iterator

from harness.errors import RunnerError
from harness.machine.docker_daemon import connect, default_tag
from harness.runners.docker_image.build import BASE_TAG, build_image, collect_wheels, make_base

EXAMPLES = f"""\
examples:
  permbench docker build                              on the base image of the Dockerfile
  permbench docker build --wheels                     packages from this machine's pip, kept in wheels/
  sudo permbench docker build --debootstrap --wheels  also where no image can be pulled
  permbench docker build --base {BASE_TAG}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-arguments."""
    parser.description = "The image of runner=docker and of docker-compose.yml."
    parser.epilog = EXAMPLES
    arguments = parser.add_subparsers(dest="argument", metavar="WORD", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    build = arguments.add_parser("build", help="build it from this checkout", formatter_class=raw)
    build.description = (
        "Build the image from this checkout. With a folder wheels/ its packages come from there and "
        "the build needs no package index."
    )
    build.epilog = EXAMPLES
    where = build.add_mutually_exclusive_group()
    where.add_argument("--base", metavar="IMAGE", help="base image, with Python 3.11")
    where.add_argument(
        "--debootstrap",
        action="store_true",
        help=f"make the base, {BASE_TAG}, from Debian packages",
    )
    build.add_argument("--wheels", action="store_true", help="collect wheels/ first")
    build.add_argument("--tag", default=default_tag(), help="its name (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Build, with a line for each step."""
    try:
        for line in _build(args):
            print(line, flush=True)
    except RunnerError as error:
        print(f"permbench: {error}", file=sys.stderr)
        return 1
    return 0


def _build(args: argparse.Namespace) -> Iterator[str]:
    client = connect()
    if args.wheels:
        yield from collect_wheels()
    if args.debootstrap:
        yield from make_base(client)
    base = BASE_TAG if args.debootstrap else args.base
    yield from build_image(client, base, args.tag)
