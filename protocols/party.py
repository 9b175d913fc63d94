"""What a protocol sees of the world: its role, and messages to and from its peers."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    from torch import Tensor  # slow to import; configurations need the roles alone

Role = Literal[
    "P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P15",
]  # fmt: skip
Phase = Literal["prepare", "offline", "input", "online", "calibrate"]

P0: Role = "P0"  # model provider
P1: Role = "P1"  # user
P2: Role = "P2"  # dealer, or third computing party
ROLES: tuple[Role, ...] = (P0, P1, P2)  # of a system that does not say otherwise
ALL_ROLES: tuple[Role, ...] = get_args(Role)  # that there can be, in order
PHASES: tuple[Phase, ...] = ("prepare", "offline", "input", "online")  # those of a run's work


class Party(Protocol):
    """One role's connection to the others.

    Messages between an ordered pair of roles arrive in the order sent. A message is a tuple of CPU
    tensors; its payload is their bytes. The caller must not modify a tensor after sending it.
    """

    role: Role

    def send(self, to: Role, *tensors: "Tensor") -> None:
        """Queue one message for `to` and return at once, whatever its size."""

    def recv(self, source: Role) -> "tuple[Tensor, ...]":
        """Return the next message of `source`, waiting for it. Raises PeerError."""

    def exchange(self, peer: Role, *tensors: "Tensor") -> "tuple[Tensor, ...]":
        """Send one message to `peer` and receive one from it, in one hop."""

    def report(self, text: str) -> None:
        """Tell whoever runs this party how far it has come; never in the online phase."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Call what is done inside, messages and compute, the step `name`; a step within another
        joins its name to the outer one's with "/". It changes nothing but what a trace says."""

    def phase(self, name: Phase) -> AbstractContextManager[None]:
        """Attribute all messages inside to the phase `name`; the hop depth starts at zero."""
