"""`permbench docker`: the image of runner=docker, and Compose files for it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError, RunnerError, rejected
from harness.machine.docker_daemon import connect, default_tag
from harness.runners.docker_image.build import BASE_TAG, build_image, collect_wheels, make_base
from harness.runners.docker_image.compose_file import FILE, TC_FILE, compose_files
from protocols.party import ALL_ROLES

MOST = len(ALL_ROLES)
COMPOSE_EXAMPLES = """\
examples:
  permbench docker compose 10 --folder ten
  cd ten; PERMBENCH_RUN="system=…" docker compose up --abort-on-container-exit --exit-code-from harness
"""
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
    compose = arguments.add_parser("compose", help="write Compose files", formatter_class=raw)
    compose.description = (
        f"Write {FILE}, which serves Docker Compose and a Swarm, and {TC_FILE}, for shaper=tc beside it, "
        "for runs of a system with so many roles. The head of the file says how to use it."
    )
    compose.epilog = COMPOSE_EXAMPLES
    compose.add_argument("roles", type=int, metavar="ROLES", help=f"how many, 2 to {MOST}")
    compose.add_argument(
        "--folder", type=Path, default=Path(), metavar="FOLDER", help="where to (here)"
    )
    compose.add_argument("--force", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> int:
    """Build, with a line for each step, or write the files."""
    if args.argument == "compose":
        return _write_compose(args.roles, args.folder, args.force)
    try:
        for line in _build(args):
            print(line, flush=True)
    except RunnerError as error:
        print(f"permbench: {error}", file=sys.stderr)
        return 1
    return 0


def _write_compose(roles: int, folder: Path, force: bool) -> int:
    if not 2 <= roles <= MOST:
        raise rejected("ROLES", roles, f"a whole number from 2 to {MOST}")
    files = {folder / name: text for name, text in compose_files(ALL_ROLES[:roles]).items()}
    if not folder.is_dir():
        raise rejected("--folder", str(folder), "a folder")
    if there := [path for path in files if path.exists() and not force]:
        raise ConfigError(str(there[0]), "is there already; --force replaces it")
    for path, text in files.items():
        path.write_text(text)
        print(path)
    return 0


def _build(args: argparse.Namespace) -> Iterator[str]:
    client = connect()
    if args.wheels:
        yield from collect_wheels()
    if args.debootstrap:
        yield from make_base(client)
    base = BASE_TAG if args.debootstrap else args.base
    yield from build_image(client, base, args.tag)
