"""`permbench join`: take part, as one role, in runs of runner=remote."""

import argparse

from harness.errors import ConfigError, rejected
from harness.transport.handshake import SECRET_BYTES, SECRET_VARIABLE
from protocols.party import ALL_ROLES

EXAMPLES = f"""\
examples:
  umask 077                                nobody else may read what follows
  openssl rand -hex {SECRET_BYTES} > P0.secret       a secret for each role, on its host alone; the
                                           harness has a file with all of them, in order
  permbench run runner=remote runner.listen=0.0.0.0:7700 runner.secret_file=all.secret
  permbench join P0 harness.example:7700 --secret-file P0.secret     and so on, one for each role
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Role, address, secret."""
    parser.description = (
        "Be one role of runs with runner=remote. It waits for the harness, serves its runs, and then "
        "waits for the next."
    )
    parser.epilog = EXAMPLES
    parser.add_argument("role", choices=ALL_ROLES, metavar="ROLE", help="P0 to P15")
    parser.add_argument("address", metavar="HOST:PORT", help="where the harness listens")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help=f"file with the secret; without it {SECRET_VARIABLE} holds it",
    )
    parser.add_argument("--no-tls", action="store_true", help="for runs with transport.tls=false")
    parser.add_argument(
        "--wait-s", type=float, default=600.0, help="how long to wait for the harness (600)"
    )


def run(args: argparse.Namespace) -> int:
    """Join until there is nothing left to join."""
    from harness.config.runners import parse_address  # noqa: PLC0415 - slow to import
    from harness.errors import RunnerError  # noqa: PLC0415
    from harness.parties.remote_worker import join  # noqa: PLC0415
    from harness.runners.remote import read_secret  # noqa: PLC0415

    host, port = parse_address(args.address) or (None, None)
    if host is None or port is None:
        raise rejected("HOST:PORT", args.address, "such as harness.example:7700")
    try:
        secret = read_secret(args.secret_file)
    except RunnerError as error:
        raise ConfigError("command line", str(error)) from None
    return join(args.role, host, port, secret, args.wait_s, not args.no_tls)
