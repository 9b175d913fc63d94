"""Inference by function secret sharing as a `System`: roles P0 (weights) and P1 (prompt), P2 (dealer).

What each role learns is in the docstring of each gate. The dealer holds every mask and takes no part
online. Semi-honest, no two roles collude.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from baselines.fss.context import FRAC
from baselines.fss.dpf import LAMBDA, LEAF_BITS
from baselines.fss.encoding import decode
from baselines.fss.functions import FUNCTIONS, PLAIN
from baselines.fss.options import FssOptions
from baselines.fss.primitives import FssPrimitives
from baselines.fss.warm import warm_up
from baselines.fss.workload_cost import FssCosts, phases, step_keys
from protocols.bounds import Bound
from protocols.errors import Unsupported
from protocols.footprint import Footprint, Need, peaks, sizes
from protocols.on_disk import OnDisk
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

WORD = 8
PROCESS = 560e6  # of a party, with kernels and the keys that are being made or evaluated
SCORE_FACTOR_BITS = 4  # k of heads of at most 256
ELEMENT = 60  # bytes for each value of the widest tensors


class Fss(SharesSystem[Tensor]):
    """Two-party inference with keys of distributed point functions, as SIGMA."""

    Options = FssOptions
    learns: ClassVar[str] = "P1: scores of all tokens"
    smaller: ClassVar[tuple[str, ...]] = ("system.key_store=disk",)

    def primitives(self) -> FssPrimitives:
        """Kernels are compiled or loaded here. Raises Unsupported where `store_dir` is no folder or its
        disk has no room for this role's keys."""
        warm_up()
        need, file = self.needs(self.workload, self.options)[self.party.role], None
        if self.options.store_dir is not None and need.disk_bytes:
            file = OnDisk(self.options.store_dir, need.disk_bytes).messages()
        return FssPrimitives(self.party, self.key_seed, self.options, file)

    @classmethod
    def online_roles(cls, options: FssOptions) -> tuple[Role, ...]:
        """P2 only deals."""
        return (P0, P1)

    @classmethod
    def declared(cls, options: FssOptions) -> FssCosts:
        """What the gates take."""
        return FssCosts(options)

    @classmethod
    def check(cls, workload: Workload, options: FssOptions, user: UserInput | None = None) -> None:
        """A function must be one of `functions`."""
        if isinstance(workload, Attention):
            raise Unsupported(NO_HEAD)
        if isinstance(workload, Nonlinear) and workload.op not in FUNCTIONS:
            raise Unsupported(f"there is no protocol for {workload.op}")

    @classmethod
    def reveal(cls, parts: Parts, workload: Workload, options: FssOptions) -> Tensor:
        """What P1 knows already, or the masked value less its mask, decoded."""
        if isinstance(workload, Argmax):
            return parts[P1][0]
        if isinstance(workload, Generation):
            return parts[P1][0] if len(parts[P1]) == 1 else torch.cat(parts[P1], dim=1).squeeze(0)
        frac = FUNCTIONS[workload.op].out_frac if isinstance(workload, Nonlinear) else FRAC
        return decode(parts[P0][0] - parts[P2][0], options.ring_bits, frac)

    @classmethod
    def functions(cls, options: FssOptions) -> Functions:
        """See the base class."""
        return PLAIN

    @classmethod
    def plain_function(cls, op: NonlinearOp, x: Tensor, options: FssOptions) -> Tensor:
        """See the base class."""
        return FUNCTIONS[op].plain(x)

    @classmethod
    def tolerance(cls, workload: Workload) -> float:
        """Values and weights have twelve fractional bits."""
        if isinstance(workload, Argmax):
            return 0.0
        return 2e-2 if isinstance(workload, Generation) else 1e-2

    @classmethod
    def bounds(cls, options: FssOptions) -> Sequence[Bound]:
        """A product has 2·FRAC fractional bits, and one bit to spare for its truncation; of scores k more
        (`integer_layer.score_bits`). A row's sum of squares has 2·FRAC as well, and no sign."""
        product = options.ring_bits - 2 - 2 * FRAC
        return (
            Bound("norm input", 2.0 ** ((product + 1) / 2)),
            Bound("score", 2.0 ** min(13, product - SCORE_FACTOR_BITS)),
            Bound("inner value", 2.0**product),
        )

    @classmethod
    def stored_bytes(cls, workload: Workload, options: FssOptions) -> Mapping[Role, int] | None:
        """P0: W in 16 bits (32 where a weight is 8 or more), and the masked W in 64; P1 the latter."""
        weights = sizes(workload).weights
        return {P0: (2 + WORD) * weights, P1: WORD * weights, P2: 0} if weights else None

    @classmethod
    def needs(cls, workload: Workload, options: FssOptions) -> dict[Role, Need]:
        """Masked weights and the keys of a step, which the dealer makes and sends in blocks."""
        found = peaks(
            {
                P0: Footprint(PROCESS, resident=2 + WORD, passing=6, element=ELEMENT),
                P1: Footprint(PROCESS, resident=WORD, element=ELEMENT),
                P2: Footprint(PROCESS, element=ELEMENT),
            },
            sizes(workload),
        )
        keys, on_disk = step_keys(workload, cls.declared(options)), options.key_store == "disk"
        for role in (P0, P1):
            memory = found[role].memory_bytes
            if on_disk:
                found[role] = Need(memory, keys, options.store_dir)
            else:
                found[role] = Need(memory + keys)
        return found

    @classmethod
    def parameters(cls, workload: Workload, options: FssOptions) -> str:
        """Ring, fractional bits, seeds and last level of the point functions."""
        return f"n = {options.ring_bits}, f = {FRAC}, λ = {LAMBDA}, ν = {LEAF_BITS}"

    @classmethod
    def cost(cls, workload: Workload, options: FssOptions) -> dict[Phase, PhaseCost]:
        """What the gates declare, put together."""
        return phases(workload, cls.declared(options))
