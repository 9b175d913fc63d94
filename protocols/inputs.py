"""Synthetic inputs of each workload, drawn from a seed.

They are what a benchmark computes on, so they must be the same wherever they are drawn: the party
that owns an input and the check of the answer each draw their own copy. They hide nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import public_stream
from protocols.workload import NonlinearOp

ARGMAX_STD = 4.0
ARGMAX_MARGIN = 0.01

_MEAN_STD: dict[NonlinearOp, tuple[float, float]] = {
    "gelu": (0.0, 2.0),
    "softmax": (0.0, 3.0),
    "layernorm": (0.5, 1.5),
    "comparison": (0.0, 2.0),
}
# Within what every system's approximation is made for.
_RANGE: dict[NonlinearOp, tuple[float, float]] = {
    "reciprocal": (0.5, 50.0),
    "rsqrt": (0.5, 50.0),
    "exp": (-8.0, 0.0),
}


@dataclass(frozen=True)
class LayerInput:
    """What one layer computes on, all float64.

    `x` (q_len, d_model) is the input of the new tokens; `past_k` (rotated already where the family
    has rotary positions) and `past_v`, each (n_heads, kv_len - q_len, d_head), are the cached rows.
    """

    x: Tensor
    past_k: Tensor
    past_v: Tensor


def argmax_input(n: int, seed: int) -> Tensor:
    """float64 (n,), normal of standard deviation 4; the largest leads by 0.01 or more.

    The lead keeps the answer defined in fixed point, where values closer than its resolution tie.
    """
    values = _normal((n,), "argmax", seed) * ARGMAX_STD
    if n < 2:
        return values
    (largest, second), (index, _) = values.topk(2)
    if largest - second < ARGMAX_MARGIN:
        values[index] = second + 2 * ARGMAX_MARGIN
    return values


def nonlinear_input(op: NonlinearOp, shape: tuple[int, ...], seed: int) -> Tensor:
    """float64 of `shape`: normal (gelu std 2, softmax 3, comparison 2, layernorm 1.5 around 0.5), or
    uniform in [0.5, 50] (reciprocal, rsqrt) or [-8, 0] (exp)."""
    if op in _RANGE:
        low, high = _RANGE[op]
        generator = np.random.Generator(public_stream("input", op, shape, seed))
        return torch.from_numpy(generator.uniform(low, high, shape))
    mean, std = _MEAN_STD[op]
    return _normal(shape, op, seed) * std + mean


def linear_input(n: int, d_in: int, seed: int) -> Tensor:
    """float64 (n, d_in), standard normal."""
    return _normal((n, d_in), "linear", seed)


def layer_input(spec: TransformerSpec, q_len: int, kv_len: int, seed: int) -> LayerInput:
    """Standard normal input and cache for `q_len` new tokens out of `kv_len` in all.

    Raises ValueError unless 1 ≤ q_len ≤ kv_len.
    """
    if not 1 <= q_len <= kv_len:
        raise ValueError(f"need 1 <= q_len <= kv_len, got q_len={q_len}, kv_len={kv_len}")
    past = (spec.n_kv_heads or spec.n_heads, kv_len - q_len, spec.d_head)
    return LayerInput(
        x=_normal((q_len, spec.d_model), "x", seed),
        past_k=_normal(past, "past_k", seed),
        past_v=_normal(past, "past_v", seed),
    )


def prompt_tokens(spec: TransformerSpec, prompt_len: int, seed: int) -> tuple[int, ...]:
    """`prompt_len` token ids, uniform over the vocabulary."""
    generator = np.random.Generator(public_stream("input", "prompt", prompt_len, seed))
    return tuple(generator.integers(0, spec.vocab, prompt_len).tolist())


def _normal(shape: tuple[int, ...], name: str, seed: int) -> Tensor:
    generator = np.random.Generator(public_stream("input", name, shape, seed))
    return torch.from_numpy(generator.standard_normal(shape))
