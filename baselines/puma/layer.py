"""One transformer layer under Puma, for prefill and decode.

    norm              31 hops (29 for RMSNorm)              `norm`
    W_qkv, rotary      2                                    `linear`, `attention`
    scores             2
    softmax          10·⌈log2 L⌉ + 33 + ⌈log2 log2 2L⌉      `softmax`
    weighted sum       2
    W_out, residual    2
    norm              31 (29)
    W_up               2
    GeLU              12, or SiLU 12 and its product 2      `piecewise`
    W_down, residual   2

The residual is added to a linear layer's terms before their truncation. GLM's residual scale is a public
factor there (√(2·layers) at 18 bits). BERT runs the same steps with the norms after the residual sums.
Every value between steps is shared at FRAC; nobody learns anything. Values must stay below 2^26.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.forward import visible
from baselines.puma.approx import FRAC, GELU, SILU
from baselines.puma.attention import Cache, attend, attend_cost, positioned, positioned_cost
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.linear import (
    SharedLinear,
    share_linear,
    share_linear_cost,
    share_norm,
    share_norm_cost,
)
from baselines.puma.norm import Affine, norm, norm_cost
from baselines.puma.piecewise import piecewise, piecewise_cost
from baselines.puma.share import Share, Term
from baselines.puma.truncate import multiply_truncate, truncate, truncate_cost
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, Norm


@dataclass(frozen=True)
class LayerShares:
    """A role's part of one layer's weights."""

    attn_norm: Affine
    qkv: SharedLinear
    out: SharedLinear
    ffn_norm: Affine
    up: SharedLinear
    down: SharedLinear


@dataclass(frozen=True)
class Tokens:
    """What is public of the new tokens: cosines and sines, float64 (n, w), where the family has
    rotary positions; how many leading tokens every token sees."""

    tables: tuple[Tensor, Tensor] | None
    prefix: int = 0


async def share_layer(
    ctx: Context, spec: TransformerSpec, weights: LayerWeights | None
) -> LayerShares:
    """Phase prepare; P0 passes the weights."""
    norms: dict[str, Norm] = {}
    linears: dict[str, Linear] = {}
    if weights is not None:
        norms = {"attn": weights.attn_norm, "ffn": weights.ffn_norm}
        linears = {"qkv": _scaled_queries(spec, weights.qkv), "out": weights.out}
        linears |= {"up": weights.up, "down": weights.down}
    biased, shapes = spec.family != "llama", _shapes(spec)
    attn_norm, ffn_norm = [
        await share_norm(ctx, spec.d_model, norms.get(key), not spec.rms_norm)
        for key in ("attn", "ffn")
    ]
    shared = {
        key: await share_linear(ctx, shapes[key], linears.pop(key, None), biased) for key in shapes
    }
    return LayerShares(attn_norm=attn_norm, ffn_norm=ffn_norm, **shared)


def _shapes(spec: TransformerSpec) -> dict[str, tuple[int, int]]:
    d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
    rows = d + 2 * spec.d_kv
    return {"qkv": (rows, d), "out": (d, d), "up": (inner, d), "down": (d, spec.d_ff)}


def _scaled_queries(spec: TransformerSpec, qkv: Linear) -> Linear:
    """The same with queries times 1/√d_head."""
    scale = torch.ones(qkv.weight.shape[0])
    scale[: spec.d_model] = spec.d_head**-0.5
    return Linear(qkv.weight * scale[:, None], None if qkv.bias is None else qkv.bias * scale)


class Layer:
    """One layer of one sequence: its weights and its cache."""

    def __init__(self, ctx: Context, spec: TransformerSpec, shares: LayerShares) -> None:
        self._ctx, self._spec, self._own = ctx, spec, shares
        self.cache = Cache.empty(spec)

    async def __call__(self, x: Share, tokens: Tokens) -> Share:
        """x (n, d_model) at FRAC → the same."""
        spec, own = self._spec, self._own
        if not spec.norm_first:
            h = await self._norm(own.attn_norm, await self._attention(x, x, tokens))
            return await self._norm(own.ffn_norm, await self._feed_forward(h, h))
        a = await self._norm(own.attn_norm, x)
        h = await self._attention(a, a if spec.family == "glm" else x, tokens)
        b = await self._norm(own.ffn_norm, h)
        return await self._feed_forward(b, b if spec.family == "glm" else h)

    async def _norm(self, affine: Affine, x: Share) -> Share:
        return await norm(self._ctx, x, self._spec.norm_eps, not self._spec.rms_norm, affine)

    def _residual(self, x: Share) -> Term:
        return x.times(round(self._spec.residual_scale * 2**FRAC), FRAC).term()

    async def _attention(self, x: Share, residual: Share, tokens: Tokens) -> Share:
        """The attention block of x, plus the residual."""
        spec, n = self._spec, x.shape[0]
        q, k, v = await positioned(self._ctx, spec, self._own.qkv(x), tokens.tables)
        self.cache.extend(k, v)
        seen = visible(spec, n, self.cache.keys.shape[1], tokens.prefix)
        o = await attend(self._ctx, q, self.cache, seen)
        merged = o.each(lambda part: part.transpose(0, 1).reshape(n, spec.d_model))
        return await truncate(self._ctx, self._own.out(merged) + self._residual(residual), FRAC)

    async def _feed_forward(self, x: Share, residual: Share) -> Share:
        """The feed-forward block of x, plus the residual."""
        inner = await truncate(self._ctx, self._own.up(x), FRAC)
        hidden = await self._activate(inner)
        return await truncate(self._ctx, self._own.down(hidden) + self._residual(residual), FRAC)

    async def _activate(self, inner: Share) -> Share:
        if not self._spec.gated:
            return await piecewise(self._ctx, inner, GELU)
        gate, up = inner.split((self._spec.d_ff, self._spec.d_ff))
        return await multiply_truncate(self._ctx, await piecewise(self._ctx, gate, SILU), up, FRAC)


def share_layer_cost(spec: TransformerSpec) -> Cost:
    """Weights, biases, gains."""
    biased = spec.family != "llama"
    matrices = [share_linear_cost(m, k, biased) for m, k in _shapes(spec).values()]
    return sum(matrices, share_norm_cost(spec.d_model, not spec.rms_norm) * 2)


def layer_cost(spec: TransformerSpec, n: int, length: int) -> Cost:
    """n new tokens, `length` in all."""
    d, inner = n * spec.d_model, n * _shapes(spec)["up"][0]
    normed = norm_cost(n, spec.d_model, not spec.rms_norm)
    attention = positioned_cost(spec, n) + attend_cost(spec, n, length) + truncate_cost(d)
    hidden = n * spec.d_ff
    function = SILU if spec.gated else GELU
    active = piecewise_cost(hidden, function)
    if spec.gated:
        active += truncate_cost(hidden)
    return normed + attention + normed + truncate_cost(inner) + active + truncate_cost(d)
