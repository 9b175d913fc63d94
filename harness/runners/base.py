"""What a runner is: a place for parties, and a network between them and the harness.

A party, wherever it lives, is the program `python -m harness.parties.worker ROLE HOST PORT`. It connects to
the harness at HOST:PORT, proves that it knows the run's secret, and listens for its peers on the
address from which it reached the harness. So a runner says where the harness is, starts the
programs, and sees to it that nothing of them stays behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from protocols.party import ROLES, Role

WORKER = ("-m", "harness.parties.worker")
START_S = 40.0  # of each party: a Python from a cold disk
LINE_BYTES = 1 << 12  # of what a party prints: a longer line is several


@dataclass(frozen=True)
class HarnessAddress:
    """Where the harness waits for a party: `host`, `port` as it sees it, and the secret (hex)."""

    host: str
    port: int
    secret: str
    tls: bool

    def arguments(self, role: Role) -> list[str]:
        """Of the program that is to be `role`."""
        return [role, self.host, str(self.port), *(["--tls"] if self.tls else [])]


class RunningParty(ABC):
    """One party's program, running somewhere."""

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """What it prints, line by line, until it ends."""

    @abstractmethod
    def exit_code(self, wait_s: float = 0.0) -> int | None:
        """Its exit code (−N: ended by signal N); None while it runs or where nobody can tell."""

    @abstractmethod
    def kill(self) -> None:
        """End it now, with all it started. Does nothing where it has ended already."""

    @property
    def pid(self) -> int | None:
        """Its process id on this machine, where it has one."""
        return None


class Runner(ABC):
    """A place for one party of each of `roles`, in the order of `ALL_ROLES`.

    A context manager: `open` makes the network, `close` removes all that this runner made.
    """

    host = "127.0.0.1"  # where the harness listens, and the parties reach it
    port = 0  # 0: any free one
    secrets: Mapping[Role, bytes] | None = None  # of parties that get them from somebody else
    shared_secret = False  # whether one secret for all roles is meant, where somebody else gives it
    tc = False  # whether the parties may change their interfaces
    one_machine = True  # whether the parties share the cores that each of them sees
    image: str | None = None  # id of the image that parties are made from, once open
    start_timeout_s: float  # to the last party's first report

    def __init__(self, roles: Sequence[Role] = ROLES) -> None:
        self.roles = tuple(roles)
        self.start_timeout_s = START_S * len(self.roles)

    def open(self) -> None:
        """Make what the parties will live in. Raises RunnerError."""

    @abstractmethod
    def launch(
        self, role: Role, harness: HarnessAddress, environment: Mapping[str, str]
    ) -> RunningParty:
        """Start one party. Raises RunnerError."""

    def addresses(
        self, role: Role, listening: Mapping[Role, tuple[str, int]]
    ) -> Mapping[Role, tuple[str, int]]:
        """Where `role` reaches each role; listening: where each waits. Raises RunnerError."""
        return listening

    def close(self) -> None:
        """Remove everything that `open` made. The places have been killed before."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
