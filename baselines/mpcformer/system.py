"""MPCFormer as a `System`: roles P0 (weights) and P1 (prompt) on additive shares, P2 (dealer).

What each role learns is in the docstring of each primitive. The dealer holds every mask and takes no part
online. Semi-honest, no two roles collude.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from baselines.forward import ModelForward
from baselines.mpcformer import plain, workload_cost
from baselines.mpcformer.context import Context
from baselines.mpcformer.encoding import decode
from baselines.mpcformer.functions import known
from baselines.mpcformer.memory_limit import WORD, check_memory, resident_bytes
from baselines.mpcformer.options import Settings
from baselines.mpcformer.programs import answer_frac, program
from baselines.mpcformer.warm import warm_up
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.party import P0, P1, P2, Phase, Role
from protocols.system import Parts, PhaseCost, System
from protocols.workload import Argmax, Generation, Nonlinear, UserInput, Workload


class MPCFormer(System):
    """Two-party inference with Beaver triples and MPCFormer's stand-ins for GeLU and softmax."""

    Options = Settings
    online_roles: ClassVar[tuple[Role, ...]] = (P0, P1)

    def build(self) -> None:
        """Kernels are compiled or loaded here, and P0's weights folded and rounded."""
        warm_up()
        self._ctx = Context(self.party, self.key_seed, self.options)
        self._program = program(self.workload, self._ctx, self.seed, self.user)

    @classmethod
    def check(cls, workload: Workload, options: Settings, user: UserInput | None = None) -> None:
        """A function must be one of `functions`; the masks of a step must fit a party's memory."""
        if isinstance(workload, Nonlinear) and not known(workload.op):
            raise Unsupported(f"there is no protocol for {workload.op}")
        check_memory(workload, options)

    def prepare(self) -> None:
        """Keys, then what is opened once."""
        self._ctx.establish()
        self._program.prepare()

    def offline(self, step: int) -> None:
        """Walk the protocol on shapes; the dealer deals."""
        self._ctx.begin_offline()
        self._program.offline(step)

    def share_input(self, step: int) -> None:
        """P1's input as (0, x)."""
        self._ctx.begin_online()
        if self.party.role != P2:
            self._program.share_input(step)

    def online(self, step: int) -> None:
        """Walk the protocol on shares; the dealer is not there."""
        if self.party.role != P2:
            self._program.online(step)
            self._ctx.end_online()

    def output(self) -> tuple[Tensor, ...]:
        """P1's index, or token and logits; or this role's share."""
        return self._program.output()

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: Settings) -> Tensor:
        """What P1 knows already, or the sum of the shares, decoded."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation):
            return parts[P1][0] if len(parts[P1]) == 1 else torch.cat(parts[P1])
        share = parts[P0][0] + parts[P1][0]
        return decode(share, answer_frac(workload, options))

    @classmethod
    def plaintext(cls, workload: Workload, seed: int, options: Settings) -> Tensor:
        """The answer with this system's own approximations in float64."""
        return plain.answer(workload, seed, options)

    @classmethod
    def plain_model(cls, workload: Generation, seed: int, options: Settings) -> ModelForward:
        """The model with this system's own approximations in float64."""
        return plain.model(workload, seed, options)

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
        """Closed forms of `cost`."""
        return workload_cost.cost(workload, options)
