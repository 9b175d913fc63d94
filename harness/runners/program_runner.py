"""What a runner must offer so that programs of others live where parties would: places, and ways to them."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import RunnerError
from harness.runners.guarded import GuardedProgram
from protocols.party import Role

Address = tuple[str, int]


class ProgramRunner(ABC):
    """A runner that starts programs too, and ends them when it closes."""

    def __init__(self) -> None:
        self._programs: list[GuardedProgram] = []

    @abstractmethod
    def place(self, role: Role) -> Address:
        """Where the next program of `role` is to listen: an address of its own, and a port that is free."""

    @abstractmethod
    def reach(self, role: Role, peer: Role, address: Address) -> Address:
        """Where `role` reaches `peer`, which listens at `address`. Raises RunnerError."""

    def start_program(
        self, role: Role, command: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> GuardedProgram:
        """Start the program of one role. Raises RunnerError."""
        try:
            made = GuardedProgram(command, environment, folder, self.within(role))
        except OSError as error:
            raise RunnerError(f"{role}: {error.strerror}: {error.filename}") from None
        self._programs.append(made)
        return made

    def within(self, role: Role) -> Sequence[str]:
        """The beginning of a command line that runs as `role`."""
        return ()

    def end_programs(self) -> None:
        """End all programs that still run."""
        while self._programs:
            self._programs.pop().end()


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
