"""`runner=netns`: one process per role in a network namespace of its own, joined by a bridge.

The harness stays outside and reaches the parties over the bridge too. Python, files and everything
else but the network are this machine's. Needs root.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count

from harness.config.schema import RunnerConfig
from harness.errors import RunnerError
from harness.runners.base import WORKER, HarnessAddress, Runner, RunningParty
from harness.runners.local import Child
from harness.runners.program_runner import Address, ProgramRunner
from netem.cleanup import remove_stale
from netem.command import TcError, find
from netem.namespaces import Namespaces
from netem.tc_probe import namespaces_missing, tc_missing
from protocols.party import ROLES, Role

FIRST_PORT = 7700  # of programs


def make(config: RunnerConfig, tc: bool, roles: Sequence[Role]) -> Runner:
    """The runner of `config`. tc: each party shapes what leaves its namespace."""
    return Netns(tc, roles)


class Netns(Runner, ProgramRunner):
    """Child processes of the harness, each behind an interface of its own."""

    def __init__(self, tc: bool, roles: Sequence[Role] = ROLES) -> None:
        Runner.__init__(self, roles)
        ProgramRunner.__init__(self)
        self.tc = tc
        self._namespaces: Namespaces | None = None
        self._ports = count(FIRST_PORT)

    def open(self) -> None:
        """See `Runner.open`."""
        if why := tc_missing() if self.tc else namespaces_missing():
            raise RunnerError(why)
        with suppress(
            TcError
        ):  # what a killed harness has left; doctor tells why it cannot be removed
            remove_stale()
        try:
            self._namespaces = Namespaces.create(self.roles)
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

    def place(self, role: Role) -> Address:
        """See `ProgramRunner.place`. Nobody else listens in a namespace."""
        assert self._namespaces is not None
        return self._namespaces.homes[role].address, next(self._ports)

    def reach(self, role: Role, peer: Role, address: Address) -> Address:
        """See `ProgramRunner.reach`."""
        return address

    def within(self, role: Role) -> tuple[str, ...]:
        """See `ProgramRunner.within`."""
        assert self._namespaces is not None
        _, *arguments = self._namespaces.command(role, ())
        return (find("ip") or "ip", *arguments)

    def close(self) -> None:
        """See `Runner.close`."""
        self.end_programs()
        if self._namespaces is not None:
            self._namespaces.close()
            self._namespaces = None
