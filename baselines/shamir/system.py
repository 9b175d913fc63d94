"""Shamir shares of n parties as a system the harness can run.

All parties compute online on shares of degree t: P0, who owns the weights, P1, who owns the prompt and the
answer, and the others. Semi-honest: any t of them may pool what they see. With t < n/2 they make all
randomness themselves, offline; with `system.dealer=true` one more role deals it, and t may be up to n − 1.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from baselines.shamir.functions import FUNCTIONS, PLAIN
from baselines.shamir.options import ShamirOptions
from baselines.shamir.primitives import ShamirCosts, ShamirPrimitives
from baselines.shamir.share import FRAC, Share, decode, reconstruct
from baselines.shamir.warm import warm_up
from protocols.bounds import Bound
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, Sizes, peaks, sizes
from protocols.party import ALL_ROLES, P0, P1, Phase, Role
from protocols.shares.system import SharesSystem
from protocols.system import Parts, PhaseCost
from protocols.transformer.forward import Functions
from protocols.workload import (
    NO_HEAD,
    Argmax,
    Attention,
    Generation,
    NonlinearOp,
    UserInput,
    Workload,
)

PROCESS_BYTES, OPENING_BYTES = 480e6, 100  # of a party; for each element of an opening


class Shamir(SharesSystem[Share]):
    """Shamir shares modulo 2^61 − 1 with 16 fractional bits."""

    Options = ShamirOptions
    learns: ClassVar[str] = "nobody: nothing"

    @classmethod
    def roles(cls, options: ShamirOptions) -> tuple[Role, ...]:
        """The parties, and the dealer last."""
        return options.group.roles

    @classmethod
    def online_roles(cls, options: ShamirOptions) -> tuple[Role, ...]:
        """A dealer only deals."""
        return options.group.parties

    @classmethod
    def bounds(cls, options: ShamirOptions) -> Sequence[Bound]:
        """Those of `norm`, for d ≤ 4096, and of `piecewise`."""
        norm = (Bound("norm deviation", 2.0**7, 2.0**-8), Bound("norm mean", 2.0**8))
        return (*norm, Bound("norm input", 2.0**13), Bound("inner value", 2.0**15))

    def primitives(self) -> ShamirPrimitives:
        """Kernels are compiled or loaded here."""
        warm_up()
        return ShamirPrimitives(self.party, self.key_seed, self.options.group)

    def offline(self, step: int) -> None:
        """Walk the step on shapes, then make what it needs."""
        super().offline(step)
        if isinstance(self._ops, ShamirPrimitives):
            self._ops.preprocess()

    @classmethod
    def functions(cls, options: ShamirOptions) -> Functions:
        """See the base class."""
        return PLAIN

    @classmethod
    def plain_function(cls, op: NonlinearOp, x: Tensor, options: ShamirOptions) -> Tensor:
        """See the base class."""
        return FUNCTIONS[op].plain(x)

    @classmethod
    def check(
        cls, workload: Workload, options: ShamirOptions, user: UserInput | None = None
    ) -> None:
        """P1 gets the likeliest token alone."""
        if user is not None and user.sampling.temperature > 0:
            raise Unsupported("shamir reveals the likeliest token alone: it cannot sample")
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: ShamirOptions) -> Tensor:
        """What P1 knows already, or the secrets of all parties' shares, decoded. Raises PeerError where the
        shares contradict each other."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation) and workload.spec.family == "bert":
            return parts[P1][0]
        group = options.group
        secret = reconstruct({role: parts[role][-1:] for role in group.parties}, group.t)
        if isinstance(workload, Generation):
            tokens = parts[P1][0].double()
            return torch.cat([tokens, decode(secret, 2 * FRAC)], dim=1).squeeze(0)
        return decode(secret)

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Relative rms against the system's own approximations; an index must be right."""
        if isinstance(workload, Argmax):
            return 0.0
        return 1e-2 if isinstance(workload, Generation) else 1e-3

    @classmethod
    def stored_bytes(cls, workload: Workload, options: ShamirOptions) -> Mapping[Role, int] | None:
        """A share of 8 bytes of each weight at every party; with t ≥ n/2 also the opened difference, and
        a mask at the dealer."""
        weights, group = _sizes(workload).weights, options.group
        if not weights:
            return None
        kept, dealt = (8, 0) if group.majority else (16, 8)
        return {role: weights * (kept if role in group.parties else dealt) for role in group.roles}

    @classmethod
    def needs(cls, workload: Workload, options: ShamirOptions) -> dict[Role, Need]:
        """Shares of 8 bytes a weight, which P0 makes from float32, those of others beside its own until they
        are sent; the dealer makes masks so where t ≥ n/2, and the parties open what they hide. The
        correlations of a step, and the tensors of its largest opening."""
        group, counts = options.group, _sizes(workload)
        costs = ShamirCosts(group).of(workload).online
        held = max(cost.stock_bytes + OPENING_BYTES * cost.largest_opening for cost in costs)
        kept, received = (8, 16) if group.majority else (16, 40)
        sent = 8 * (len(group.after(0)) - group.t)  # bytes a weight, until they are sent
        process = PROCESS_BYTES + held
        roles = dict.fromkeys(group.parties, Footprint(process, kept, received, 100))
        roles[P0] = Footprint(process, kept, max(received, 24 + sent), 100)
        if group.dealt:
            masks = (0, 0) if group.majority else (8, 16 + 8 * (group.n - group.t))
            roles[ALL_ROLES[group.n]] = Footprint(process, *masks, 100)
        return peaks(roles, counts)

    @classmethod
    def cost(cls, workload: Workload, options: ShamirOptions) -> dict[Phase, PhaseCost]:
        """The costs that the protocols declare, put together."""
        group = options.group
        declared = ShamirCosts(group)
        costs = declared.of(workload)
        return {
            "prepare": (declared.established() + costs.prepared).phase(group),
            "offline": _sum([step.offline(group) for step in costs.online]),
            "input": costs.given.phase(group),
            "online": _sum([step.phase(group) for step in costs.online]),
        }


def _sizes(workload: Workload) -> Sizes:
    """GPT-2's head is the table of its embedding."""
    tied = isinstance(workload, Generation) and workload.spec.family == "gpt2"
    return sizes(workload, tables=1 if tied else 2)


def _sum(steps: list[PhaseCost]) -> PhaseCost:
    """Of the steps; each begins at depth 0."""
    total: dict[tuple[Role, Role], int] = {}
    for step in steps:
        for pair, size in step.payload_bytes.items():
            total[pair] = total.get(pair, 0) + size
    return PhaseCost(sum(step.hops for step in steps), total)
