"""Puma (arXiv 2307.12533) as a system the harness can run.

Three parties compute online on replicated 2-of-3 shares: P0, who owns the weights, P1, who owns the prompt
and the answer, and P2. Semi-honest, no two collude; no role sees any value in the clear but its own and,
P1, the answer. There is no offline phase: all randomness that two roles share is drawn from pairwise
keys, and P2's part of a truncation depends on the data.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from baselines.puma.context import establish_cost
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.functions import functions, plain_functions
from baselines.puma.memory_limit import check_memory, weight_bytes
from baselines.puma.options import PumaOptions
from baselines.puma.primitives import PumaCosts, PumaPrimitives
from baselines.puma.share import FRAC, Share, decode
from baselines.puma.warm import warm_up
from protocols.bounds import Bound
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, ROLES, Phase, Role
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


class Puma(SharesSystem[Share]):
    """Replicated shares in Z_2^64 with 18 fractional bits."""

    Options = PumaOptions
    learns: ClassVar[str] = "nobody: nothing"

    @classmethod
    def bounds(cls, options: PumaOptions) -> Sequence[Bound]:
        """Those of `norm` where it divides, `piecewise` and `layer`."""
        deviation = Bound("norm deviation", 2.0**6, 2.0**-8)
        values = (Bound("inner value", 2.0**15), Bound("norm input", 2.0**26))
        return values if options.approx == "friendly" else (deviation, *values)

    def primitives(self) -> PumaPrimitives:
        """Kernels are compiled or loaded here."""
        warm_up()
        return PumaPrimitives(self.party, self.key_seed, self.options)

    @classmethod
    def functions(cls, options: PumaOptions) -> Functions:
        """See the base class."""
        return plain_functions(options.approx)

    @classmethod
    def plain_function(cls, op: NonlinearOp, x: Tensor, options: PumaOptions) -> Tensor:
        """See the base class."""
        return functions(options.approx)[op].plain(x)

    @classmethod
    def check(cls, workload: Workload, options: PumaOptions, user: UserInput | None = None) -> None:
        """Every function must have a protocol, and the shares of the weights must fit."""
        if user is not None and user.sampling.temperature > 0:
            raise Unsupported("puma reveals the likeliest token alone: it cannot sample")
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)
        if isinstance(workload, Nonlinear) and workload.op not in functions():
            raise Unsupported(f"puma has no protocol for {workload.op}")
        check_memory(workload)

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: PumaOptions) -> Tensor:
        """What P1 knows already, or the sum of the shares, decoded."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation) and workload.spec.family == "bert":
            return parts[P1][0]
        total = torch.stack([parts[role][-1] for role in ROLES]).sum(0)
        if isinstance(workload, Generation):
            tokens = parts[P1][0].double()
            return torch.cat([tokens, decode(total, 2 * FRAC)], dim=1).squeeze(0)
        return decode(total, FRAC)

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Relative rms against the system's own approximations; an index must be right."""
        if isinstance(workload, Argmax):
            return 0.0
        return 1e-2 if isinstance(workload, Generation) else 1e-3

    @classmethod
    def stored_bytes(cls, workload: Workload, options: PumaOptions) -> Mapping[Role, int] | None:
        """Two of the three shares of each weight at every role."""
        size = weight_bytes(workload)
        return dict.fromkeys(ROLES, size) if size else None

    @classmethod
    def needs(cls, workload: Workload, options: PumaOptions) -> dict[Role, Need]:
        """Two parts of 8 bytes a weight at every role; P0 makes them from float32."""
        other = Footprint(480e6, resident=16, passing=1, element=150)
        roles = {P0: Footprint(510e6, resident=16, passing=8, element=150), P1: other, P2: other}
        tied = isinstance(workload, Generation) and workload.spec.family == "gpt2"
        return peaks(roles, sizes(workload, tables=1 if tied else 2))

    @classmethod
    def cost(cls, workload: Workload, options: PumaOptions) -> dict[Phase, PhaseCost]:
        """The costs that the protocols declare, put together."""
        costs = PumaCosts(options).of(workload)
        return {
            "prepare": (establish_cost() + costs.prepared).phase(),
            "offline": NOTHING.phase(),
            "input": costs.given.phase(),
            "online": _evaluation(costs.online),
        }


def _evaluation(steps: list[Cost]) -> PhaseCost:
    """The sum over the steps; each begins at depth 0."""
    total = sum(steps, NOTHING)
    return PhaseCost(sum(step.hops for step in steps), dict(total.payload_bytes))
