"""The plaintext answer of each workload, against which every private run is verified."""

from typing import assert_never

import torch
from torch import Tensor

from protocols.inputs import (
    argmax_input,
    attention_input,
    bootstrapping_input,
    layer_input,
    linear_input,
    nonlinear_input,
)
from protocols.transformer.reference import apply_linear, gelu, layer_forward, layer_norm
from protocols.transformer.weights import LayerWeights, synthetic_layer, synthetic_linear
from protocols.workload import (
    Argmax,
    Attention,
    Bootstrapping,
    Generation,
    Layer,
    Linear,
    Nonlinear,
    NonlinearOp,
    Workload,
)


def answer(workload: Workload, seed: int) -> Tensor:
    """The exact answer on the synthetic input (and weights) of `seed`.

    Argmax: the index, int64 of no dimension. Nonlinear: float64 of the workload's shape. Linear:
    float64 (n, d_out). Bootstrapping: its input, float64 (slots,). Layer: float64 (q_len, d_model),
    layer 0, the new tokens at positions kv_len - q_len, …, kv_len - 1 and at block position 0.
    float64 (n, d_out). Attention: float64 (q_len, d_head). Layer: float64 (q_len, d_model), layer 0,
    the new tokens at positions kv_len - q_len, …, kv_len - 1 and at block position 0.
    """
    match workload:
        case Argmax(n):
            return argmax_input(n, seed).argmax()
        case Nonlinear(op, shape):
            return apply_nonlinear(op, nonlinear_input(op, shape, seed))
        case Linear(n, d_in, d_out):
            return apply_linear(synthetic_linear(d_out, d_in, seed), linear_input(n, d_in, seed))
        case Attention():
            given = attention_input(workload, seed)
            return attention(given.q, given.k, given.v)
        case Layer():
            return layer_answer(workload, seed, synthetic_layer(workload.spec, seed))
        case Generation():
            raise ValueError("a generation is compared step by step, see PlainModel")
        case Bootstrapping(log_slots=log_slots):
            return bootstrapping_input(log_slots, seed)
        case _:
            assert_never(workload)


def apply_nonlinear(op: NonlinearOp, x: Tensor) -> Tensor:
    """GeLU (tanh), 1/x, 1/sqrt(x), exp or x < 0 of each element; softmax or LayerNorm (eps 1e-5, no
    gain or bias) of the rows.

    x: float64 (..., row); the result has its shape.
    """
    match op:
        case "gelu":
            return gelu(x, "tanh")
        case "softmax":
            return torch.softmax(x, dim=-1)
        case "layernorm":
            return layer_norm(x, eps=1e-5)
        case "reciprocal":
            return x.reciprocal()
        case "rsqrt":
            return x.rsqrt()
        case "exp":
            return x.exp()
        case "comparison":
            return (x < 0).to(torch.float64)
        case _:
            assert_never(op)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head: q (n, d), k and v (L, d) → softmax(q·kᵀ / √d)·v, (n, d)."""
    return torch.softmax(q @ k.T / q.shape[-1] ** 0.5, dim=-1) @ v


def layer_answer(layer: Layer, seed: int, weights: LayerWeights) -> Tensor:
    """The answer with these weights."""
    given = layer_input(layer.spec, layer.q_len, layer.kv_len, seed)
    cache = (given.past_k, given.past_v)
    return layer_forward(layer.spec, weights, given.x, cache)[0]
