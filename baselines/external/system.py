"""Any program's parties, as far as they are a system: nobody looks inside."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.external.options import ExternalOptions
from protocols.errors import Unsupported
from protocols.footprint import Need
from protocols.party import Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.workload import UserInput, Workload

OPAQUE = "its programs run by themselves, and are no parties of permbench's"


class External(System):
    """Programs of others. The harness starts them in place of parties: nothing of this class is built."""

    Options = ExternalOptions

    @classmethod
    def check(cls, workload: Workload, options: Any, user: UserInput | None = None) -> None:
        """See `System.check`. What a program computes, its file says."""

    def online(self, step: int) -> None:
        """See `System.online`. Raises Unsupported."""
        raise Unsupported(OPAQUE)

    def output(self) -> tuple[Tensor, ...]:
        """See `System.output`. Raises Unsupported."""
        raise Unsupported(OPAQUE)

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: Any) -> Tensor:
        """See `System.reveal`. Raises Unsupported."""
        raise Unsupported(OPAQUE)

    @classmethod
    def cost(cls, workload: Workload, options: Any) -> dict[Phase, PhaseCost]:
        """See `System.cost`. Nothing is declared."""
        return {}

    @classmethod
    def needs(cls, workload: Workload, options: Any) -> Mapping[Role, Need]:
        """See `System.needs`. Nothing is known."""
        return {}
