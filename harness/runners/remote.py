"""`runner=remote`: parties that somebody else starts, here or on other hosts, with `permbench join`.

Those that join prove to the harness that they know a secret: the one of all, or one of their own, so
that none can take another's place. Without TLS (transport.tls=false) what they say is not encrypted.
"""

import os
import shlex
import socket
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from harness.config.runners import RemoteRunner
from harness.config.schema import RunnerConfig
from harness.errors import RunnerError
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import SECRET_BYTES, SECRET_VARIABLE
from protocols.party import ROLES, Role

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
        self.secrets: Mapping[Role, bytes] = read_secrets(config.secret_file)
        self.shared_secret = config.shared_secret
        self.start_timeout_s = config.wait_s
        self._file = config.secret_file

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`. A line on stderr says what to start."""
        host = socket.gethostname() if harness.host in ANYWHERE else harness.host
        arguments = ["permbench", "join", role, f"{host}:{harness.port}"]
        if len(set(self.secrets.values())) > 1:
            arguments += ["--secret-file", f"FILE-OF-{role}"]
        elif self._file:
            arguments += ["--secret-file", self._file]
        if not harness.tls:
            arguments += ["--no-tls"]
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
    (secret,) = _read_secrets(file, (1,))
    return secret


def read_secrets(file: str | None) -> dict[Role, bytes]:
    """Each role's secret: the same for all where there is but one. Raises RunnerError."""
    found = _read_secrets(file, (1, len(ROLES)))
    return dict(zip(ROLES, found * (len(ROLES) // len(found)), strict=True))


def _read_secrets(file: str | None, counts: Collection[int]) -> list[bytes]:
    where = file or f"the environment variable {SECRET_VARIABLE}"
    try:
        text = Path(file).read_text() if file else os.environ.get(SECRET_VARIABLE, "")
        found = [bytes.fromhex(word) for word in text.split()]
    except (OSError, ValueError) as error:
        raise RunnerError(f"no secret in {where}: {error}") from None
    if len(found) not in counts:
        allowed = " or ".join(map(str, counts))
        raise RunnerError(f"no secret in {where}: it has {len(found)}, and must have {allowed}")
    if any(len(secret) != SECRET_BYTES for secret in found):
        rule = f"{SECRET_BYTES} bytes in hex, as `openssl rand -hex {SECRET_BYTES}` makes them"
        raise RunnerError(f"no secret in {where}: it must be {rule}")
    return found
