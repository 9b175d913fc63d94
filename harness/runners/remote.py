"""`runner=remote`: parties that somebody else starts, here or on other hosts, with `permbench join`.

All that join know one secret, which authenticates them to each other; what they say afterwards is not
encrypted.
"""

import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.config.runners import RemoteRunner
from harness.config.schema import RunnerConfig
from harness.errors import RunnerError
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import SECRET_BYTES, SECRET_VARIABLE
from protocols.party import Role

ANYWHERE = ("0.0.0.0", "::")


def make(config: RunnerConfig, tc: bool) -> Runner:
    """The runner of `config`. tc: whoever starts its parties must let them change their interfaces.
    Raises RunnerError without a secret."""
    if not isinstance(config, RemoteRunner):
        raise TypeError(f"not a configuration of runner=remote: {config}")
    return Remote(config, tc)


class Remote(Runner):
    """Waits for parties, and says how to start them."""

    def __init__(self, config: RemoteRunner, tc: bool) -> None:
        self.tc = tc
        self.host, self.port = config.address()
        self.secret = read_secret(config.secret_file)
        self.start_timeout_s = config.wait_s
        self._file = config.secret_file

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`. A line on stderr says what to start."""
        host = socket.gethostname() if harness.host in ANYWHERE else harness.host
        arguments = ["permbench", "join", role, f"{host}:{harness.port}"]
        if self._file:
            arguments += ["--secret-file", self._file]
        print(f"  waiting for {role}: {shlex.join(arguments)}", file=sys.stderr, flush=True)
        return Elsewhere()


class Elsewhere(RunningParty):
    """A party that this machine knows nothing of; it ends when its connection does."""

    def lines(self) -> Iterator[str]:
        """See `RunningParty.lines`. Whoever started it has them."""
        return iter(())

    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """See `RunningParty.exit_code`."""
        return None

    def kill(self) -> None:
        """See `RunningParty.kill`."""


def read_secret(file: str | None) -> bytes:
    """The secret in `file`, or else in the environment. Raises RunnerError."""
    where = file or f"the environment variable {SECRET_VARIABLE}"
    try:
        text = Path(file).read_text() if file else os.environ.get(SECRET_VARIABLE, "")
        secret = bytes.fromhex(text.strip())
    except (OSError, ValueError) as error:
        raise RunnerError(f"no secret in {where}: {error}") from None
    if len(secret) != SECRET_BYTES:
        rule = f"{SECRET_BYTES} bytes in hex, as `openssl rand -hex {SECRET_BYTES}` makes them"
        raise RunnerError(f"no secret in {where}: it must be {rule}")
    return secret
