"""Puma (arXiv 2307.12533) as a system the harness can run.

Three parties compute online on replicated 2-of-3 shares: P0, who owns the weights, P1, who owns the prompt
and the answer, and P2. Semi-honest, no two collude; no role sees any value in the clear but its own and,
P1, the answer. There is no offline phase: all randomness that two roles share is drawn from pairwise
keys, and P2's part of a truncation depends on the data.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from baselines.forward import ModelForward
from baselines.puma import plain
from baselines.puma.approx import FRAC
from baselines.puma.context import Context, establish_cost
from baselines.puma.cost import NOTHING, Cost
from baselines.puma.embedding import USER
from baselines.puma.functions import FUNCTIONS
from baselines.puma.generation import generation_cost, share_model_cost
from baselines.puma.layer import layer_cost, share_layer_cost
from baselines.puma.linear import share_linear_cost
from baselines.puma.maximum import argmax_cost
from baselines.puma.memory_limit import check_memory, weight_bytes
from baselines.puma.programs import program
from baselines.puma.round_scheduler import drive
from baselines.puma.share import decode
from baselines.puma.share_and_reveal import give_cost
from baselines.puma.truncate import truncate_cost
from baselines.puma.warm import warm_up
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.options import NoOptions
from protocols.party import P0, P1, P2, ROLES, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Argmax, Generation, Layer, Linear, Nonlinear, UserInput, Workload


class Puma(System):
    """Replicated shares in Z_2^64 with 18 fractional bits."""

    online_roles: ClassVar[tuple[Role, ...]] = ROLES

    def build(self) -> None:
        """Kernels are compiled or loaded here."""
        warm_up()
        self._ctx = Context(self.party.role, self.key_seed)
        self._program = program(self.party, self._ctx, self.workload, self.seed, self.user)

    @classmethod
    def check(cls, workload: Workload, options: NoOptions, user: UserInput | None = None) -> None:
        """Every function must have a protocol, and the shares of the weights must fit."""
        if user is not None and user.sampling.temperature > 0:
            raise Unsupported("puma reveals the likeliest token alone: it cannot sample")
        if isinstance(workload, Nonlinear) and workload.op not in FUNCTIONS:
            raise Unsupported(f"puma has no protocol for {workload.op}")
        check_memory(workload)

    def prepare(self) -> None:
        """Keys, then the shared weights."""
        drive(self.party, self._ctx.establish())
        self._program.prepare()

    def offline(self, step: int) -> None:
        """Fresh streams; nothing is sent."""
        if step == 0:
            self._ctx.begin_evaluation()
            self._program.begin()

    def share_input(self, step: int) -> None:
        """P1's input in shared form."""
        self._program.share_input(step)

    def online(self, step: int) -> None:
        """The protocols, at all three roles."""
        self._program.online(step)

    def output(self) -> tuple[Tensor, ...]:
        """P1's index, token or hidden states; this role's part of a shared answer."""
        return self._program.output()

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: NoOptions) -> Tensor:
        """What P1 knows already, or the sum of the shares, decoded."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation) and workload.spec.family == "bert":
            return parts[P1][0]
        total = torch.stack([parts[role][0] for role in ROLES]).sum(0)
        if isinstance(workload, Generation):
            return torch.cat([parts[P1][1].double(), decode(total, 2 * FRAC)])
        return decode(total, FRAC)

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: NoOptions) -> Tensor:
        """The answer with this system's own approximations in float64."""
        return plain.answer(workload, seed)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: NoOptions) -> ModelForward:
        """The model with this system's own approximations in float64."""
        return plain.model(workload, seed)

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Relative rms against the system's own approximations; an index must be right."""
        if isinstance(workload, Argmax):
            return 0.0
        return 1e-2 if isinstance(workload, Generation) else 1e-3

    @classmethod
    def stored_bytes(cls, workload: Workload, options: NoOptions) -> Mapping[Role, int] | None:
        """Two of the three shares of each weight at every role."""
        size = weight_bytes(workload)
        return dict.fromkeys(ROLES, size) if size else None

    @classmethod
    def needs(cls, workload: Workload, options: NoOptions) -> dict[Role, Need]:
        """Two parts of 8 bytes a weight at every role; P0 makes them from float32."""
        other = Footprint(480e6, resident=16, passing=1, element=150)
        roles = {P0: Footprint(510e6, resident=16, passing=8, element=150), P1: other, P2: other}
        tied = isinstance(workload, Generation) and workload.spec.family == "gpt2"
        return peaks(roles, sizes(workload, tables=1 if tied else 2))

    @classmethod
    def cost(cls, workload: Workload, options: NoOptions) -> dict[Phase, PhaseCost]:
        """The costs that the protocols declare, put together."""
        given, shared, online = _costs(workload)
        return {
            "prepare": (establish_cost() + given).phase(),
            "offline": NOTHING.phase(),
            "input": shared.phase(),
            "online": _evaluation(online),
        }


def _costs(workload: Workload) -> tuple[Cost, Cost, list[Cost]]:
    """Weights shared in prepare; the shared input; each online step."""
    match workload:
        case Argmax(n):
            return NOTHING, NOTHING, [give_cost(USER, n) + argmax_cost(n)]
        case Nonlinear(op, shape):
            size = torch.Size(shape).numel()
            return NOTHING, give_cost(USER, size), [FUNCTIONS[op].cost(shape)]
        case Linear(n, d_in, d_out):
            shared = give_cost(USER, n * d_in)
            return share_linear_cost(d_out, d_in), shared, [truncate_cost(n * d_out)]
        case Layer(spec, q_len, kv_len):
            shared = give_cost(USER, q_len * spec.d_model)
            past = (kv_len - q_len) * spec.d_kv
            shared += give_cost(USER, past) * 2 if past else NOTHING
            return share_layer_cost(spec), shared, [layer_cost(spec, q_len, kv_len)]
        case Generation():
            return share_model_cost(workload), NOTHING, generation_cost(workload)


def _evaluation(steps: list[Cost]) -> PhaseCost:
    """The sum over the steps; each begins at depth 0."""
    total = sum(steps, NOTHING)
    return PhaseCost(sum(step.hops for step in steps), dict(total.payload_bytes))
