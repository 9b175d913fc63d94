"""One transformer layer under MPCFormer, for prefill (causal) and decode (with a cache).

    norm                                        `norm`              19 hops
    W_qkv, rotary positions                     `matrix`             1
    scores q·kᵀ/√d_head                         `attention`          1
    weights of the rows                         `softmax`           30 (2quad), 38 (2relu)
    weighted sum                                `attention`          1
    W_out, residual                             `matrix`             1
    norm                                        `norm`              19
    W_up                                        `matrix`             1
    Quad; SwiGLU: Quad of the gate, times up    `quad`               1; 2
    W_down, residual                            `matrix`             1

75 hops with 2quad, and one more for each residual gain. BERT's norms stand after the residual sums.

Norm gains and biases are folded into the matrix that follows, by P0 and before sharing; where the
residual needs the normed tensor itself (GLM, BERT) a diagonal matrix applies them, shared like all
weights. (The original's BatchNorm is one product with a shared vector, too.) 1/√d_head is folded into
W_q up to a power of two, which the truncation of the scores takes care of.

All shares are at FRAC between steps. P0 and P1 learn what the steps list: masked openings.
"""

from dataclasses import dataclass
from math import ceil, log2

import torch
from torch import Tensor

from baselines.forward import visible
from baselines.mpcformer.attention import cache
from baselines.mpcformer.context import FRAC, Context
from baselines.mpcformer.fixed_weight import FixedWeight, fixed, fixed_gains, scaled_rows
from baselines.mpcformer.linear import Diagonal, Matrix
from baselines.mpcformer.norm import normalize
from baselines.mpcformer.product_truncation import product
from baselines.mpcformer.quad_gelu import quad
from baselines.mpcformer.rotary import Tables, rotate
from baselines.mpcformer.sigmoid import gelu, silu
from baselines.mpcformer.softmax import WEIGHT_FRAC, softmax
from baselines.mpcformer.truncate import truncate
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, fold


@dataclass(frozen=True)
class Tokens:
    """What is public about the new tokens: `tables`, cos and sin of their rotary positions; `prefix`,
    how many leading keys every token may see."""

    tables: Tables | None = None
    prefix: int = 0


class LayerMatrices:
    """The matrices and residual gains of one layer at one role; `weights` at P0 alone."""

    def __init__(
        self, ctx: Context, name: str, spec: TransformerSpec, weights: LayerWeights | None
    ) -> None:
        d, inner = spec.d_model, spec.d_ff * (2 if spec.gated else 1)
        shapes = {
            "qkv": (d + 2 * spec.d_kv, d),
            "out": (d, d),
            "up": (inner, d),
            "down": (d, spec.d_ff),
        }
        own = {} if weights is None else _fixed(spec, weights)
        self.matrices = {
            key: Matrix(ctx, f"{name}/{key}", shape, own.get(key)) for key, shape in shapes.items()
        }
        self.gains: list[Matrix] = []
        if spec.family in ("glm", "bert"):
            gains = _gains(spec, weights)
            self.gains = [Diagonal(ctx, f"{name}/gain{i}", d, gains[i]) for i in (0, 1)]

    def prepare(self) -> None:
        """Open what is opened once."""
        for matrix in (*self.matrices.values(), *self.gains):
            matrix.prepare()


class TransformerLayer:
    """One layer's steps at one role. Layers with tied weights share their matrices."""

    def __init__(self, ctx: Context, spec: TransformerSpec, matrices: LayerMatrices) -> None:
        self._ctx, self._spec = ctx, spec
        self._matrices, self._gains = matrices.matrices, matrices.gains
        self.cache = cache(ctx, spec.kv_heads, spec.d_head)

    def __call__(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Shares (n, d_model) at FRAC → the same."""
        if not self._spec.norm_first:
            n1 = self._normed(x + self._attention(x, tokens))
            n2 = self._normed(self._residual(0, n1, n1) + self._feed_forward(n1))
            return self._residual(1, n2, n2)
        n1 = self._normed(x)
        h = self._residual(0, x, n1) + self._attention(n1, tokens)
        n2 = self._normed(h)
        return self._residual(1, h, n2) + self._feed_forward(n2)

    def _normed(self, x: Tensor) -> Tensor:
        return normalize(self._ctx, x, self._spec.norm_eps, self._spec.rms_norm)

    def _residual(self, which: int, x: Tensor, normed: Tensor) -> Tensor:
        if not self._gains:
            return x
        return truncate(self._ctx, self._gains[which](normed), FRAC)

    def _linear(self, key: str, x: Tensor) -> Tensor:
        return truncate(self._ctx, self._matrices[key](x), FRAC)

    def _attention(self, x: Tensor, tokens: Tokens) -> Tensor:
        spec, n = self._spec, x.shape[0]
        rows = self._linear("qkv", x).split_with_sizes([spec.d_model, spec.d_kv, spec.d_kv], -1)
        q, k, v = (part.reshape(n, -1, spec.d_head).transpose(0, 1) for part in rows)
        if tokens.tables is not None:
            both = rotate(self._ctx, spec, torch.cat([q, k]), tokens.tables)
            q, k = both.split_with_sizes([spec.n_heads, spec.kv_heads])
        grouped = q.reshape(spec.kv_heads, -1, spec.d_head)
        scores = self.cache.scores(grouped, k, v)
        scores = truncate(self._ctx, scores, FRAC + score_bits(spec))
        length = scores.shape[-1]
        scores = scores.reshape(spec.n_heads, n, length)
        p = softmax(self._ctx, scores, visible(spec, n, length, tokens.prefix))
        mixed = self.cache.weighted(p.reshape(*grouped.shape[:2], length))
        mixed = truncate(self._ctx, mixed, WEIGHT_FRAC).reshape(spec.n_heads, n, spec.d_head)
        return self._linear("out", mixed.transpose(0, 1).reshape(n, spec.d_model))

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self._linear("up", x)
        if not self._spec.gated:
            return self._linear("down", self._activation(inner))
        gate, up = inner.chunk(2, dim=-1)
        return self._linear("down", product(self._ctx, self._activation(gate), up, FRAC))

    def _activation(self, x: Tensor) -> Tensor:
        if self._ctx.settings.approx != "exact":
            return quad(self._ctx, x)
        return silu(self._ctx, x) if self._spec.gated else gelu(self._ctx, x)


def score_bits(spec: TransformerSpec) -> int:
    """k, where 2^k is the power of two next above √d_head."""
    return ceil(log2(spec.d_head) / 2)


def _fixed(spec: TransformerSpec, weights: LayerWeights) -> dict[str, FixedWeight]:
    """P0's integer matrices, norms and the scores' factor folded in."""
    pre = spec.norm_first
    factor = 2.0 ** score_bits(spec) / spec.d_head**0.5
    qkv = fold(weights.attn_norm if pre else None, weights.qkv)
    return {
        "qkv": fixed(scaled_rows(qkv, spec.d_model, factor)),
        "out": fixed(weights.out),
        "up": fixed(fold(weights.ffn_norm if pre else weights.attn_norm, weights.up)),
        "down": fixed(weights.down),
    }


def _gains(spec: TransformerSpec, weights: LayerWeights | None) -> list[FixedWeight | None]:
    if weights is None:
        return [None, None]
    norms = (weights.attn_norm, weights.ffn_norm)
    return [fixed_gains(norm, spec.residual_scale) for norm in norms]
