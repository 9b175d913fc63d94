"""`runner=netns`: one process per role in a network namespace of its own, joined by a bridge.

The harness stays outside and reaches the parties over the bridge too. Python, files and everything
else but the network are this machine's. Needs root.
"""

import sys
from collections.abc import Mapping

from harness.config.schema import RunnerConfig
from harness.errors import RunnerError
from harness.runners.base import WORKER, HarnessAddress, Runner, RunningParty
from harness.runners.local import Child
from netem.command import TcError, find
from netem.namespaces import Namespaces
from netem.tc_probe import namespaces_missing, tc_missing
from protocols.party import ROLES, Role


def make(config: RunnerConfig, tc: bool) -> Runner:
    """The runner of `config`. tc: each party shapes what leaves its namespace."""
    return Netns(tc)


class Netns(Runner):
    """Child processes of the harness, each behind an interface of its own."""

    def __init__(self, tc: bool) -> None:
        self.tc = tc
        self._namespaces: Namespaces | None = None

    def open(self) -> None:
        """See `Runner.open`."""
        if why := tc_missing() if self.tc else namespaces_missing():
            raise RunnerError(why)
        try:
            self._namespaces = Namespaces.create(ROLES)
        except TcError as error:
            raise RunnerError(str(error)) from None
        self.host = self._namespaces.address

    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """See `Runner.launch`."""
        assert self._namespaces is not None
        worker = (sys.executable, *WORKER, *harness.arguments(role))
        _, *arguments = self._namespaces.command(role, worker)
        return Child([find("ip") or "ip", *arguments], harness.secret, environment)

    def close(self) -> None:
        """See `Runner.close`."""
        if self._namespaces is not None:
            self._namespaces.close()
            self._namespaces = None
