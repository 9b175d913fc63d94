"""One transformer layer under PermLLM: 12 hops, for prefill (causal) and decode (KV cache).

    hops 1-2    norm under permutation                     P0 → P1 → P0
    (local)     W_qkv, truncation, rotary positions
    hops 3-4    open q, k, v; scores                       P0 → P1 → P0
    hops 5-6    softmax under permutation                  P0 → P1 → P0
    hops 7-8    weighted sum of the values                 P0 → P1 → P0
    (local)     truncation, W_out, residual
    hops 9-10   norm under permutation                     P0 → P1 → P0
    hops 11-12  W_up, GeLU or SwiGLU under permutation     P0 → P1 → P0
    (local)     W_down, residual

The residual stream stays at LINEAR_FRAC, where linear layers deliver, so it is never truncated.
Norm gains and biases are folded into the next linear layer by P0, so that P1 never holds them; where
the residual needs the normed tensor itself (GLM, BERT) a diagonal layer applies them. BERT, whose
norms stand after the sums, runs the same steps with the norms moved: 12 hops as well.

What each role learns is listed with each step. P1 sees, permuted: the normed inputs, the scores, the
activations.
"""

import torch
from torch import Tensor

from protocols.party import P0
from protocols.permllm.attention import Cache, Scores, WeightedSum
from protocols.permllm.context import (
    LINEAR_FRAC,
    SAFE_BITS,
    VALUE_FRAC,
    Context,
    agree_exponents,
)
from protocols.permllm.linear import Diagonal, FixedWeight, Linear, fixed_gains, quantize
from protocols.permllm.masked import Masked
from protocols.permllm.permuted import Permuted
from protocols.permllm.rotary import Rotary
from protocols.transformer.reference import gelu, layer_norm, rms_norm
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Norm
from protocols.transformer.weights import Linear as PlainLinear

PROBABILITY_FRAC = 16  # scale of softmax outputs
NORM_WINDOW_FRAC = 18  # residual values up to 2^13, seen with 18 fractional bits
HIDDEN = -float(1 << 14)  # score of a key a token may not see


def fold(norm: Norm | None, linear: PlainLinear) -> PlainLinear:
    """W·(g∘n + b) + c as one linear layer of n: (W·diag(g), W·b + c)."""
    if norm is None:
        return linear
    bias = linear.bias
    if norm.bias is not None:
        moved = linear.weight @ norm.bias
        bias = moved if bias is None else bias + moved
    return PlainLinear(linear.weight * norm.gain, bias)


class TransformerLayer:
    """One layer's steps at one role. P0 is built with the weights, the others with None."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        spec: TransformerSpec,
        weights: LayerWeights | None,
        weight_bits: int = 16,
    ) -> None:
        self._ctx = ctx
        self._spec = spec
        self.cache = Cache(spec.n_heads, spec.d_head)
        self._build_linears(name, weights, weight_bits)
        self._norm1 = Permuted(ctx, f"{name}/norm1", self._normalize, NORM_WINDOW_FRAC)
        self._norm2 = Permuted(ctx, f"{name}/norm2", self._normalize, NORM_WINDOW_FRAC)
        self._softmax = Permuted(ctx, f"{name}/softmax", self._probabilities)
        self._activate = Permuted(ctx, f"{name}/activation", self._activation)
        self._rotary = Rotary(ctx, f"{name}/rotary", spec) if spec.rotary else None
        self._scores = Scores(ctx, f"{name}/scores", self.cache)
        self._sum = WeightedSum(ctx, f"{name}/sum", self.cache)

    def _build_linears(self, name: str, weights: LayerWeights | None, bits: int) -> None:
        spec, d = self._spec, self._spec.d_model
        inner = spec.d_ff * (2 if spec.gated else 1)
        fixed = dict.fromkeys(("qkv", "out", "up", "down"), None) | _quantized(spec, weights, bits)
        shapes = {"qkv": (3 * d, d), "out": (d, d), "up": (inner, d), "down": (d, spec.d_ff)}
        self._linears = {
            key: Linear(self._ctx, f"{name}/{key}", shapes[key], fixed[key]) for key in shapes
        }
        self._gains: list[Diagonal] = []
        if spec.family in ("glm", "bert"):
            self._gains = [Diagonal(self._ctx, f"{name}/gain{i}", d, None) for i in (1, 2)]
        self._weights = weights

    def prepare(self) -> None:
        """Agree on the public exponents of the weights and give P1 its masked copies."""
        own = [lin.frac for lin in self._linears.values()] if self._ctx.role == P0 else None
        exponents = agree_exponents(self._ctx, own, len(self._linears))
        for linear, frac in zip(self._linears.values(), exponents, strict=True):
            linear.frac = frac
        self._set_gains()
        for step in (*self._linears.values(), *self._gains):
            step.prepare()
        self._weights = None

    def _set_gains(self) -> None:
        """The residual branch's gains share the input of the linear layer that follows the norm."""
        if not self._gains:
            return
        after_first = "qkv" if self._spec.norm_first else "up"
        self._gains[0].frac = self._linears[after_first].frac
        self._gains[1].frac = self._linears["up"].frac if self._spec.norm_first else VALUE_FRAC
        if self._weights is None:
            return
        norms = (self._weights.attn_norm, self._weights.ffn_norm)
        for gain, norm in zip(self._gains, norms, strict=True):
            scale = self._spec.residual_scale
            bias = None if norm.bias is None else norm.bias.double() * scale
            gain.weight = fixed_gains(norm.gain.double() * scale, bias, gain.frac)

    @property
    def in_frac(self) -> int:
        """Scale of the layer's input: the residual stream's, or for BERT that of its first matrix."""
        return LINEAR_FRAC if self._spec.norm_first else self._linears["qkv"].in_frac

    def __call__(self, x: Masked, positions: Tensor) -> Masked:
        """x (n, d_model) at `in_frac`, positions int64 (n,) → (n, d_model) at LINEAR_FRAC."""
        if not self._spec.norm_first:
            return self._post_norm(x, positions)
        n1 = self._normed(self._norm1, x, self._linears["qkv"].in_frac)
        h = self._residual(0, x, n1) + self._attention(n1, positions)
        n2 = self._normed(self._norm2, h, self._linears["up"].in_frac)
        return self._residual(1, h, n2) + self._feed_forward(n2)

    def _post_norm(self, x: Masked, positions: Tensor) -> Masked:
        h = x.scale_up(LINEAR_FRAC - x.frac) + self._attention(x, positions)
        n1 = self._normed(self._norm1, h, self._linears["up"].in_frac)
        y = self._gains[0](n1) + self._feed_forward(n1)
        return self._gains[1](self._normed(self._norm2, y, LINEAR_FRAC - VALUE_FRAC))

    def _residual(self, which: int, x: Masked, normed: Masked) -> Masked:
        return self._gains[which](normed) if self._gains else x

    def _normed(self, step: Permuted, x: Masked, frac: int) -> Masked:
        return step([x], frac, rows=x.shape[0])

    def _attention(self, x: Masked, positions: Tensor) -> Masked:
        spec, n = self._spec, x.shape[0]
        qkv = self._ctx.truncate(self._linears["qkv"](x, SAFE_BITS), LINEAR_FRAC - VALUE_FRAC)
        q_k_v = qkv.reshape(n, 3, spec.n_heads, spec.d_head)
        q, k, v = self._positioned(q_k_v, positions)
        scores = self._hide_future(self._scores(q, k, v))
        heads, _, length = scores.shape
        p = self._softmax([scores], PROBABILITY_FRAC, rows=heads * n)
        o = self._sum(p.reshape(heads, n, length), VALUE_FRAC)
        merged = o.transpose(0, 1).reshape(n, spec.d_model)
        out = self._linears["out"]
        return out(self._ctx.truncate(merged, merged.frac - out.in_frac))

    def _positioned(self, qkv: Masked, positions: Tensor) -> list[Masked]:
        """q, k, v (heads, n, d_head), with q and k rotated where the family does."""
        n, _, heads, width = qkv.shape
        q_k, v = qkv.narrow(1, 0, 2), qkv.narrow(1, 2, 1)
        if self._rotary is not None:
            rotated = self._rotary(q_k.reshape(n, 2 * heads, width), positions)
            q_k = rotated.reshape(n, 2, heads, width)
        parts = q_k.narrow(1, 0, 1), q_k.narrow(1, 1, 1), v
        return [part.reshape(n, heads, width).transpose(0, 1) for part in parts]

    def _hide_future(self, scores: Masked) -> Masked:
        """P0 lowers the scores of keys after each token's own (the shape of the mask is public)."""
        _, n, length = scores.shape
        if not self._spec.causal or n == 1 or scores.half is None or self._ctx.role != P0:
            return scores
        future = torch.ones(n, length, dtype=torch.int64).triu(length - n + 1)
        return scores.shift_by(future * int(HIDDEN * 2.0**scores.frac))

    def _feed_forward(self, x: Masked) -> Masked:
        hidden = self._linears["up"](x)
        inputs = hidden.split(2) if self._spec.gated else [hidden]
        down = self._linears["down"]
        return down(self._activate(inputs, down.in_frac))

    def _normalize(self, x: Tensor) -> Tensor:
        eps = self._spec.norm_eps
        return rms_norm(x, eps) if self._spec.rms_norm else layer_norm(x, eps)

    def _probabilities(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores * self._spec.d_head**-0.5, dim=-1)

    def _activation(self, x: Tensor, up: Tensor | None = None) -> Tensor:
        if up is not None:
            return x * torch.sigmoid(x) * up
        return gelu(x, "erf" if self._spec.family == "bert" else "tanh")


def _quantized(
    spec: TransformerSpec, weights: LayerWeights | None, bits: int
) -> dict[str, FixedWeight | None]:
    """P0's integer matrices, norms folded into the matrix that follows them."""
    if weights is None:
        return {}
    before_qkv, before_up = weights.attn_norm, weights.ffn_norm
    plain = {
        "qkv": fold(before_qkv if spec.norm_first else None, weights.qkv),
        "out": weights.out,
        "up": fold(before_up if spec.norm_first else weights.attn_norm, weights.up),
        "down": weights.down,
    }
    return {key: quantize(lin.weight, lin.bias, bits) for key, lin in plain.items()}
