"""`runner=remote`: parties that somebody else starts, here or on other hosts, with `permbench join`.

Those that join prove to the harness that they know a secret: the one of all, or one of their own, so
that none can take another's place. Without TLS (transport.tls=false) what they say is not encrypted.
"""

import os
import shlex
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.config.runners import RemoteRunner
from harness.config.schema import RunnerConfig
from harness.errors import RunnerError
from harness.progress import say
from harness.runners.base import HarnessAddress, Runner, RunningParty
from harness.transport.handshake import SECRET_BYTES, SECRET_VARIABLE
from protocols.party import ALL_ROLES, ROLES, Role

ANYWHERE = ("0.0.0.0", "::")
OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


def make(config: RunnerConfig, tc: bool, roles: Sequence[Role]) -> Runner:
    """The runner of `config`. tc: whoever starts its parties must let them change their interfaces.
    Raises RunnerError without a secret."""
    if not isinstance(config, RemoteRunner):
        raise TypeError(f"not a configuration of runner=remote: {config}")
    return Remote(config, tc, roles)


class Remote(Runner):
    """Waits for parties, and says how to start them."""

    one_machine = False

    def __init__(self, config: RemoteRunner, tc: bool, roles: Sequence[Role]) -> None:
        super().__init__(roles)
        self.tc = tc
        self.host, self.port = config.address()
        self.secrets: Mapping[Role, bytes] = read_secrets(config.secret_file, self.roles)
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
        say(f"  waiting for {role}: {shlex.join(arguments)}")
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
    return _read_secrets(file, 1)[0]


def read_secrets(file: str | None, roles: Sequence[Role] = ROLES) -> dict[Role, bytes]:
    """Each role's secret: the same for all where there is but one. A file may have those of more roles,
    for runs that have them. Raises RunnerError."""
    found = _read_secrets(file, len(roles))
    return {role: found[ALL_ROLES.index(role) if len(found) > 1 else 0] for role in roles}


def _read_secrets(file: str | None, roles: int) -> list[bytes]:
    """One, or where there are several roles one for each of them, and perhaps more."""
    where = file or f"the environment variable {SECRET_VARIABLE}"
    try:
        if file and Path(file).stat().st_mode & OTHERS:
            rule = f"chmod 600 {shlex.quote(file)}"
            raise RunnerError(f"no secret in {where}: others can read or change it: {rule}")
        text = Path(file).read_text() if file else os.environ.get(SECRET_VARIABLE, "")
        found = [bytes.fromhex(word) for word in text.split()]
    except (OSError, ValueError) as error:
        raise RunnerError(f"no secret in {where}: {error}") from None
    if len(found) != 1 and not 1 < roles <= len(found):
        allowed = "1" if roles == 1 else f"1 or {roles}"
        raise RunnerError(f"no secret in {where}: it has {len(found)}, and must have {allowed}")
    if any(len(secret) != SECRET_BYTES for secret in found):
        rule = f"{SECRET_BYTES} bytes in hex, as `openssl rand -hex {SECRET_BYTES}` makes them"
        raise RunnerError(f"no secret in {where}: it must be {rule}")
    return found
