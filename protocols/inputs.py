"""Synthetic inputs of each workload, drawn from a seed.

They are what a benchmark computes on, so they must be the same wherever they are drawn: the party
that owns an input and the check of the answer each draw their own copy. They hide nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import public_stream
from protocols.workload import Attention, Generation, NonlinearOp, steps

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


@dataclass(frozen=True)
class AttentionInput:
    """One head's queries (q_len, d_head), keys and values (kv_len, d_head), all float64."""

    q: Tensor
    k: Tensor
    v: Tensor


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


def bootstrapping_input(log_slots: int, seed: int) -> Tensor:
    """float64 (2^log_slots,), uniform in [-1, 1]."""
    generator = np.random.Generator(public_stream("input", "bootstrapping", log_slots, seed))
    return torch.from_numpy(generator.uniform(-1.0, 1.0, 1 << log_slots))


def attention_input(work: Attention, seed: int) -> AttentionInput:
    """Standard normal."""
    rows = (work.kv_len, work.d_head)
    q = _normal((work.q_len, work.d_head), "q", seed)
    return AttentionInput(q, _normal(rows, "k", seed), _normal(rows, "v", seed))


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


def fed_tokens(work: Generation, step: int, picked: Sequence[int], seed: int) -> list[int]:
    """What P1 puts into `step` after the tokens that it `picked`: these, and where the step verifies
    drafted ones, as many ids uniform over the vocabulary."""
    plan = steps(work)
    if step >= len(plan) or plan[step].kind != "verify":
        return list(picked)
    generator = np.random.Generator(public_stream("input", "drafted", work.drafted, seed))
    return [*picked, *generator.integers(0, work.spec.vocab, work.drafted).tolist()]


def _normal(shape: tuple[int, ...], name: str, seed: int) -> Tensor:
    generator = np.random.Generator(public_stream("input", name, shape, seed))
    return torch.from_numpy(generator.standard_normal(shape))
