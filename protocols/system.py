"""What a private-inference method must offer to be run, checked and compared by the harness."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from protocols.party import ROLES, Party, Phase, Role
from protocols.workload import Workload

Pair = tuple[Role, Role]


class Unsupported(ValueError):
    """The system cannot compute this workload; the message says why."""


@dataclass(frozen=True)
class PhaseCost:
    """What one phase sends, in closed form: payload bytes by ordered pair, and its depth in hops."""

    hops: int
    payload_bytes: Mapping[Pair, int] = field(default_factory=dict)


class System(ABC):
    """One role's side of a private-inference method for one workload.

    The harness builds one object per role and calls, in this order and on all roles alike:
    `prepare` once; then for every evaluation `offline`, `share_input`, `online`, `output`. Each call
    is inside the phase of its name. `online` must leave nothing undone that its answer needs.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    online_roles: ClassVar[tuple[Role, ...]] = ROLES

    def __init__(
        self, party: Party, workload: Workload, seed: int | None, options: Mapping[str, Any]
    ) -> None:
        self.party = party
        self.workload = workload
        self.seed = seed
        self.options = options

    @classmethod
    @abstractmethod
    def check(cls, workload: Workload, options: Mapping[str, Any]) -> None:
        """Raise Unsupported where the system cannot compute `workload`."""

    @abstractmethod
    def prepare(self) -> None:
        """Work once per model: keys, encoded weights."""

    @abstractmethod
    def offline(self) -> None:
        """Input-independent work of one evaluation."""

    @abstractmethod
    def share_input(self) -> None:
        """Bring the secret input (and cached rows) into shared form: the output of an earlier layer."""

    @abstractmethod
    def online(self) -> None:
        """The measured work of one evaluation."""

    @abstractmethod
    def output(self) -> Tensor | None:
        """This role's part of the answer of the last evaluation."""

    @classmethod
    @abstractmethod
    def reveal(cls, parts: Mapping[Role, Tensor], workload: Workload) -> Tensor:
        """The answer in the clear from all roles' parts, float64 (or an int64 index): for checking."""

    @classmethod
    @abstractmethod
    def tolerance(cls, workload: Workload) -> float:
        """Largest acceptable error against plaintext in the workload's metric."""

    @classmethod
    @abstractmethod
    def cost(cls, workload: Workload, options: Mapping[str, Any]) -> dict[Phase, PhaseCost]:
        """Payload bytes and hops of one evaluation, by phase."""
