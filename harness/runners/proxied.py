"""Processes on loopback, as `runner=local` has them, whose links are TCP proxies.

The proxies are there for programs of others; permbench's own parties, which measure the links, go through
the same ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations

from harness.errors import RunnerError
from harness.runners.local import Local
from harness.runners.program_runner import Address, ProgramRunner, free_port
from netem.profile import LinkProfile
from netem.proxied_pair import Entered, ProxiedPair, ProxyError
from protocols.party import ROLES, Role

HOST = "127.0.0.1"


class Proxied(Local, ProgramRunner):
    """A proxy for each pair of roles."""

    def __init__(self, roles: Sequence[Role] = ROLES) -> None:
        Local.__init__(self, roles)
        ProgramRunner.__init__(self)
        self._pairs: dict[frozenset[Role], ProxiedPair] = {}

    def open(self) -> None:
        """See `Runner.open`."""
        for pair in combinations(self.roles, 2):
            with _as_runner_error():
                self._pairs[frozenset(pair)] = ProxiedPair(*pair)

    def addresses(self, role: Role, listening: Mapping[Role, Address]) -> dict[Role, Address]:
        """See `Runner.addresses`."""
        return {
            peer: address if peer == role else self.reach(role, peer, address)
            for peer, address in listening.items()
        }

    def place(self, role: Role) -> Address:
        """See `ProgramRunner.place`."""
        return HOST, free_port(HOST)

    def reach(self, role: Role, peer: Role, address: Address) -> Address:
        """See `ProgramRunner.reach`."""
        with _as_runner_error():
            return HOST, self._pairs[frozenset((role, peer))].listen(role, *address)

    def shape(self, profiles: Mapping[str, LinkProfile], seeds: Mapping[str, int]) -> None:
        """What the links are to be like while they are on, by "P0>P1", and the seeds of their jitter."""
        with _as_runner_error():
            for pair in self._pairs.values():
                pair.shape(profiles, seeds)

    def switch(self, on: bool) -> None:
        """Links as they were shaped, or at full speed."""
        with _as_runner_error():
            for pair in self._pairs.values():
                pair.switch(on)

    def counts(self, until_ns: int | None = None) -> dict[str, Entered]:
        """What had entered each direction, by "P0>P1", at `until_ns`, which must be after links were last
        switched; None: now."""
        with _as_runner_error():
            each = [pair.counts(until_ns) for pair in self._pairs.values()]
        return {direction: found for counts in each for direction, found in counts.items()}

    def close(self) -> None:
        """See `Runner.close`."""
        self.end_programs()
        while self._pairs:
            self._pairs.popitem()[1].close()


@contextmanager
def _as_runner_error() -> Iterator[None]:
    try:
        yield
    except (ProxyError, OSError) as error:
        raise RunnerError(str(error)) from None
