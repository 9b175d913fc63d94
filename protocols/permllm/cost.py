"""PermLLM's communication in closed form: payload bytes by ordered pair, and hops, for each phase.

The tables in the steps' docstrings, added up. h heads, n new tokens, L keys, w = d/h.
"""

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import assert_never

from protocols.arith.prg import KEY_BYTES
from protocols.party import P0, P1, P2, Phase, Role
from protocols.permllm.bfv import public_key_bytes, query_bytes, reply_bytes
from protocols.system import PhaseCost
from protocols.transformer.spec import TransformerSpec
from protocols.workload import Argmax, Layer, Nonlinear, Workload

Bytes = Counter[tuple[Role, Role]]
_KEYS: Bytes = Counter({(P2, P0): KEY_BYTES, (P2, P1): KEY_BYTES})
_MATRICES = 4  # weight exponents agreed on in a layer


def cost(workload: Workload) -> dict[Phase, PhaseCost]:
    """All phases of one evaluation of `workload`."""
    match workload:
        case Argmax(n):
            return _argmax(n)
        case Nonlinear():
            return _nonlinear(workload)
        case Layer():
            return _layer(workload)
        case _:
            assert_never(workload)


def _argmax(n: int) -> dict[Phase, PhaseCost]:
    online = {
        (P1, P0): 4 * n + query_bytes(n),
        (P0, P1): 4 * n + reply_bytes(),
    }
    return {
        "prepare": PhaseCost(2, dict(_KEYS + Counter({(P1, P0): public_key_bytes()}))),
        "offline": PhaseCost(1, {(P2, P1): 4 * n}),
        "input": PhaseCost(0),
        "online": PhaseCost(4, online),
    }


def _nonlinear(workload: Nonlinear) -> dict[Phase, PhaseCost]:
    size = prod(workload.shape)
    return {
        "prepare": PhaseCost(1, dict(_KEYS)),
        "offline": PhaseCost(1, _permuted_offline(size)),
        "input": PhaseCost(1, {(P1, P0): 8 * size}),
        "online": PhaseCost(2, _permuted_online(size)),
    }


def _permuted_offline(size: int, inputs: int = 1) -> Bytes:
    return Counter({(P2, P1): 4 * size * inputs, (P2, P0): 8 * size})


def _permuted_online(size: int, inputs: int = 1) -> Bytes:
    return Counter({(P0, P1): 4 * size * inputs, (P1, P0): 8 * size})


def _layer(work: Layer) -> dict[Phase, PhaseCost]:
    spec, n = work.spec, work.q_len
    past = 16 * spec.d_model * (work.kv_len - n)
    given: Mapping[tuple[Role, Role], int] = {
        (P1, P0): 8 * n * spec.d_model + past,
        **({(P0, P1): past} if past else {}),
    }
    return {
        "prepare": PhaseCost(2, layer_prepare(spec)),
        "offline": PhaseCost(2, layer_offline(spec, n, work.kv_len)),
        "input": PhaseCost(2 if past else 1, given),
        "online": PhaseCost(12, layer_online(spec, n, work.kv_len)),
    }


def layer_prepare(spec: TransformerSpec) -> Bytes:
    """Keys, exponents and masked weights."""
    d, inner = spec.d_model, _inner(spec)
    weights = 4 * d * d + inner * d + d * spec.d_ff + _diagonals(spec) * d
    return _KEYS + Counter({(P0, P1): 8 * weights + 8 * _MATRICES, (P0, P2): 8 * _MATRICES})


def layer_offline(spec: TransformerSpec, n: int, length: int) -> Bytes:
    """Linear correlations, rotary corrections, and those of the five permuted or cached steps."""
    d, heads = spec.d_model, spec.n_heads
    linear = 8 * n * (5 * d + _inner(spec) + _diagonals(spec) * d)
    rotary = 16 * n * d if spec.rotary else 0
    scores, values = 8 * heads * n * length, 8 * n * d
    total = Counter({(P2, P1): linear + scores + values, (P1, P0): linear + rotary})
    for size, inputs in _functions(spec, n, length):
        total += _permuted_offline(size, inputs)
    return total


def layer_online(spec: TransformerSpec, n: int, length: int) -> Bytes:
    """Opened rows and shares of attention, and the four permuted functions."""
    d, scores = spec.d_model, 8 * spec.n_heads * n * length
    total = Counter({(P0, P1): 24 * n * d + scores, (P1, P0): scores + 8 * n * d})
    for size, inputs in _functions(spec, n, length):
        total += _permuted_online(size, inputs)
    return total


def _functions(spec: TransformerSpec, n: int, length: int) -> list[tuple[int, int]]:
    """(elements, inputs) of both norms, the softmax and the activation."""
    norm = (n * spec.d_model, 1)
    activation = (n * spec.d_ff, 2 if spec.gated else 1)
    return [norm, norm, (spec.n_heads * n * length, 1), activation]


def _inner(spec: TransformerSpec) -> int:
    return spec.d_ff * (2 if spec.gated else 1)


def _diagonals(spec: TransformerSpec) -> int:
    return 2 if spec.family in ("glm", "bert") else 0
