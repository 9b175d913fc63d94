"""Linear layers under homomorphic encryption, everything else at the user: two roles, no dealer.

P0 learns nothing. **P1 learns every activation of the model in the clear**, and so what each matrix makes of
an input that it knows: the weights, from as many tokens as a matrix has columns. Semi-honest.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from baselines.he_linear import cost
from baselines.he_linear.cipher import warm_up
from baselines.he_linear.ckks_parameters import CkksSizes
from baselines.he_linear.memory import check_memory, needs, stored_bytes
from baselines.he_linear.options import HeLinearOptions
from baselines.he_linear.primitives import HePrimitives
from baselines.he_linear.sizes import sizes_of
from protocols.errors import Unsupported
from protocols.footprint import Need
from protocols.party import P0, P1, Phase, Role
from protocols.shares.system import SharesSystem
from protocols.system import Parts, PhaseCost
from protocols.workload import (
    NO_HEAD,
    Argmax,
    Attention,
    Generation,
    Linear,
    Nonlinear,
    UserInput,
    Workload,
)


class HeLinear(SharesSystem[Tensor]):
    """P1 encrypts activations, P0 multiplies them by its matrices, P1 computes the rest."""

    Options = HeLinearOptions
    learns: ClassVar[str] = "P1: all activations, so W"

    @classmethod
    def online_roles(cls, options: HeLinearOptions) -> tuple[Role, ...]:
        """P2 has nothing to do."""
        return (P0, P1)

    def primitives(self) -> HePrimitives:
        """Kernels are compiled or loaded here."""
        warm_up()
        sizes = sizes_of(self.workload, self.options)
        return HePrimitives(self.party, self.key_seed, sizes, self.options)

    @classmethod
    def check(
        cls, workload: Workload, options: HeLinearOptions, user: UserInput | None = None
    ) -> None:
        """Scales and modulus must fit each other, weights and encryptions of zero the memory."""
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)
        sizes_of(workload, options)
        if options.shuffle and isinstance(workload, Linear | Argmax | Nonlinear):
            raise Unsupported(
                "system.shuffle=true orders the inner values of a feed-forward block: it needs "
                "experiment=layer or a whole model"
            )
        check_memory(workload, options)

    @classmethod
    def parameters(cls, workload: Workload, options: HeLinearOptions) -> str | None:
        """Those of CKKS."""
        sizes = sizes_of(workload, options)
        return str(sizes.parameters) if isinstance(sizes, CkksSizes) else None

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: HeLinearOptions) -> Tensor:
        """What P1 has."""
        if isinstance(workload, Generation) and len(parts[P1]) > 1:
            return torch.cat(parts[P1], dim=1).squeeze(0)
        return parts[P1][0]

    @classmethod
    def stored_bytes(
        cls, workload: Workload, options: HeLinearOptions
    ) -> Mapping[Role, int] | None:
        """See `memory`."""
        return stored_bytes(workload, options)

    @classmethod
    def needs(cls, workload: Workload, options: HeLinearOptions) -> dict[Role, Need]:
        """See `memory`."""
        return needs(workload, options)

    @classmethod
    def cost(cls, workload: Workload, options: HeLinearOptions) -> dict[Phase, PhaseCost]:
        """Closed forms of `cost`."""
        return cost.phases(workload, options)
