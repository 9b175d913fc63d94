"""PermLLM's communication in closed form: payload bytes by ordered pair, and hops, for each phase."""

from collections import Counter
from math import prod
from typing import assert_never

from protocols.arith.prg import KEY_BYTES
from protocols.errors import Unsupported
from protocols.party import P0, P1, P2, Phase
from protocols.permllm.fused_sizes import sizes_of
from protocols.permllm.offline_batches import batches
from protocols.permllm.options import PermLLMOptions
from protocols.system import PhaseCost
from protocols.workload import (
    NO_CIPHERTEXT,
    NO_HEAD,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
)


def cost(workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    costs = _cost(workload, options)
    if options.mask_holder == "dealer":
        costs["prepare"] = _to_dealer(costs["prepare"])
    return costs


def _to_dealer(prepare: PhaseCost) -> PhaseCost:
    """P2 gets what P1 would, but for the exponents, and P1 a key."""
    sent = Counter(prepare.payload_bytes)
    exponents = sent[P0, P2]
    weights = sent[P0, P1] - exponents
    moved = {(P0, P1): exponents + KEY_BYTES, (P0, P2): exponents + weights}
    return PhaseCost(max(2, prepare.hops), {**sent, **moved})


def _cost(workload: Workload, options: PermLLMOptions) -> dict[Phase, PhaseCost]:
    sizes = sizes_of(options)
    match workload:
        case Argmax(n):
            return sizes.argmax(n)
        case Nonlinear():
            return sizes.nonlinear(prod(workload.shape))
        case Linear(n, d_in, d_out):
            return sizes.linear(n, d_in, d_out)
        case Attention():
            raise Unsupported(NO_HEAD)
        case Layer():
            return sizes.layer(workload)
        case Generation():
            return sizes.generation(workload, len(batches(workload, options)))
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)
        case _:
            assert_never(workload)
