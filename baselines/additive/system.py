"""A system on additive shares as a `System`: roles P0 (weights) and P1 (prompt), P2 (dealer).

What each role learns is in the docstring of each primitive. The dealer holds every mask and takes no part
online. Semi-honest, no two roles collude.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from baselines.additive import functions
from baselines.additive.context import FRAC
from baselines.additive.encoding import decode
from baselines.additive.memory_limit import WORD, check_memory, resident_bytes
from baselines.additive.options import Settings
from baselines.additive.primitives import AdditivePrimitives
from baselines.additive.warm import warm_up
from baselines.additive.workload_cost import AdditiveCosts, phases
from protocols.bounds import Bound
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Phase, Role
from protocols.shares.system import SharesSystem
from protocols.system import Parts, PhaseCost
from protocols.transformer.forward import Functions
from protocols.workload import (
    NO_HEAD,
    Argmax,
    Attention,
    Generation,
    Nonlinear,
    NonlinearOp,
    UserInput,
    Workload,
)


class AdditiveSystem(SharesSystem[Tensor]):
    """Two-party inference with Beaver triples; a system names its options and its own primitives."""

    Options = Settings
    learns: ClassVar[str] = "P1: scores of all tokens"

    def primitives(self) -> AdditivePrimitives:
        """Kernels are compiled or loaded here."""
        warm_up()
        return AdditivePrimitives(self.party, self.key_seed, self.options)

    @classmethod
    def online_roles(cls, options: Settings) -> tuple[Role, ...]:
        """P2 only deals."""
        return (P0, P1)

    @classmethod
    def declared(cls, options: Settings) -> AdditiveCosts:
        """What the primitives take."""
        return AdditiveCosts(options)

    @classmethod
    def bounds(cls, options: Settings) -> Sequence[Bound]:
        """Variances from 0.1 to 150 for `rsqrt`'s steps, as in `norm`, where it divides."""
        if options.approx == "friendly":
            return ()
        return (Bound("norm deviation", 150**0.5, 0.1**0.5),)

    @classmethod
    def check(cls, workload: Workload, options: Settings, user: UserInput | None = None) -> None:
        """A function must be one of `functions`; the masks of a step must fit a party's memory."""
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)
        if isinstance(workload, Nonlinear) and not functions.known(workload.op):
            raise Unsupported(f"there is no protocol for {workload.op}")
        check_memory(workload, options)

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: Settings) -> Tensor:
        """What P1 knows already, or the sum of the shares, decoded."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation):
            return parts[P1][0] if len(parts[P1]) == 1 else torch.cat(parts[P1], dim=1).squeeze(0)
        frac = FRAC
        if isinstance(workload, Nonlinear):
            frac = functions.function(workload.op, options).out_frac
        return decode(parts[P0][0] + parts[P1][0], frac)

    @classmethod
    def functions(cls, options: Settings) -> Functions:
        """See the base class."""
        return functions.functions(options)

    @classmethod
    def plain_function(cls, op: NonlinearOp, x: Tensor, options: Settings) -> Tensor:
        """See the base class."""
        return functions.function(op, options).plain(x)

    @classmethod
    def stored_bytes(cls, workload: Workload, options: Settings) -> Mapping[Role, int] | None:
        """P0: W in 16 bits (32 where a weight is 0.5 or more). Where masks are reused P0 and P1 keep two
        matrices of int64 for each besides; otherwise all masks are of a step."""
        weights = sizes(workload).weights
        kept = 2 * WORD * weights if options.reuse_weight_masks else 0
        return {P0: 2 * weights + kept, P1: kept, P2: 0} if weights else None

    @classmethod
    def needs(cls, workload: Workload, options: Settings) -> dict[Role, Need]:
        """Masked weights at P0 and P1, with the halves of those that are being opened; the dealer's
        masks come and go in blocks."""
        online = Footprint(530e6, passing=10 if options.reuse_weight_masks else 2, element=60)
        roles = {P0: online, P1: online, P2: Footprint(530e6, element=60)}
        held, found = resident_bytes(workload, options), peaks(roles, sizes(workload))
        return {
            role: need if role == P2 else Need(need.memory_bytes + held)
            for role, need in found.items()
        }

    @classmethod
    def cost(cls, workload: Workload, options: Settings) -> dict[Phase, PhaseCost]:
        """What the primitives declare, put together."""
        return phases(workload, cls.declared(options))
