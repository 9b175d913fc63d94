"""The plaintext system's communication in closed form: the table of `services`, 2 hops a step."""

from math import prod
from typing import assert_never

from protocols.errors import Unsupported
from protocols.party import P0, P1, Phase
from protocols.system import PhaseCost
from protocols.workload import (
    NO_CIPHERTEXT,
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    Workload,
    steps,
)

FLOAT, INTEGER = 4, 8
RULE_BYTES = 4 * 8  # how to pick a token


def cost(workload: Workload) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation."""
    given = _given(workload)
    asked, answered = _messages(workload)
    return {
        "prepare": PhaseCost(0),
        "offline": PhaseCost(0),
        "input": PhaseCost(1, {(P1, P0): given}) if given else PhaseCost(0),
        "online": PhaseCost(2 * len(steps(workload)), {(P1, P0): asked, (P0, P1): answered}),
    }


def _given(workload: Workload) -> int:
    """Bytes of the cached rows of a layer."""
    if not isinstance(workload, Layer):
        return 0
    return 2 * FLOAT * workload.spec.d_kv * (workload.kv_len - workload.q_len)


def _messages(workload: Workload) -> tuple[int, int]:
    """Bytes of all requests and of all replies."""
    match workload:
        case Argmax(n):
            return FLOAT * n, INTEGER
        case Nonlinear():
            return (FLOAT * prod(workload.shape),) * 2
        case Linear(n, d_in, d_out):
            return FLOAT * n * d_in, FLOAT * n * d_out
        case Attention(q_len, kv_len, d_head):
            return FLOAT * (q_len + 2 * kv_len) * d_head, FLOAT * q_len * d_head
        case Layer():
            return (FLOAT * workload.q_len * workload.spec.d_model,) * 2
        case Generation():
            tokens = INTEGER * sum(plan.tokens for plan in steps(workload))
            if workload.spec.family == "bert":
                return tokens, FLOAT * workload.prompt_len * workload.spec.d_model
            plans = steps(workload)
            picked = sum(plan.picks for plan in plans)
            return tokens + RULE_BYTES * len(plans), INTEGER * picked
        case Bootstrapping():
            raise Unsupported(NO_CIPHERTEXT)
        case _:
            assert_never(workload)
