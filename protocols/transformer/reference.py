"""One transformer layer in the clear, in float64: the answer every private system must reproduce.

Sources of the blocks: GPT-2 (Radford et al. 2019), BERT (Devlin et al., arXiv:1810.04805), LLaMA
(Touvron et al., arXiv:2302.13971), ChatGLM-6B (its published `modeling_chatglm.py`); the table in
`spec.py` sets them side by side.
"""

from typing import Literal

import torch
from torch import Tensor

from protocols.transformer.rotary import rotary_tables, rotate_half
from protocols.transformer.spec import TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, Norm

GeluVariant = Literal["tanh", "erf"]
Cache = tuple[Tensor, Tensor]

_BLOCK_VALUES = 1 << 18  # weights widened to float64 at a time: 2 MiB instead of a whole matrix


def layer_norm(
    x: Tensor, eps: float = 1e-5, gain: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """(x - mean) / sqrt(variance + eps)·gain + bias over the last axis (Ba, arXiv:1607.06450)."""
    centred = x - x.mean(-1, keepdim=True)
    return _affine(centred * (centred.square().mean(-1, keepdim=True) + eps).rsqrt(), gain, bias)


def rms_norm(x: Tensor, eps: float = 1e-5, gain: Tensor | None = None) -> Tensor:
    """x / sqrt(mean of squares + eps)·gain over the last axis (Zhang, Sennrich 2019)."""
    return _affine(x * (x.square().mean(-1, keepdim=True) + eps).rsqrt(), gain, None)


def gelu(x: Tensor, variant: GeluVariant = "tanh") -> Tensor:
    """x·Φ(x) exactly (`erf`), or its tanh approximation (Hendrycks, Gimpel, arXiv:1606.08415)."""
    if variant == "erf":
        return 0.5 * x * (1.0 + torch.erf(x / 2**0.5))
    inner = (2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + torch.tanh(inner))


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool, prefix: int = 0) -> Tensor:
    """softmax(q·kᵀ / sqrt(d_head))·v for each head.

    q (n_heads, q_len, d_head) belongs to the last q_len of the kv_len tokens of k and v
    (n_kv_heads, kv_len, d_head); n_heads / n_kv_heads queries in a row share a key head. If
    `causal`, a token sees itself, earlier ones, and the first `prefix` tokens.
    """
    k, v = (t.repeat_interleave(q.shape[0] // t.shape[0], dim=0) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if causal:
        past = k.shape[-2] - q.shape[-2]
        unseen = torch.ones_like(scores[0], dtype=torch.bool).triu(past + 1)
        unseen[:, :prefix] = False
        scores = scores.masked_fill(unseen, -torch.inf)
    return torch.softmax(scores, dim=-1) @ v


def apply_norm(norm: Norm, x: Tensor) -> Tensor:
    """RMSNorm where `norm` has no bias, else LayerNorm; x float64 (..., d)."""
    if norm.bias is None:
        return rms_norm(x, norm.eps, norm.gain)
    return layer_norm(x, norm.eps, norm.gain, norm.bias)


def apply_linear(layer: Linear, x: Tensor) -> Tensor:
    """x·Wᵀ + bias, float64 (n, out) from (n, in), widening a few rows of W at a time."""
    size, width = layer.weight.shape
    rows = max(1, _BLOCK_VALUES // width)
    wide = torch.empty(min(rows, size), width, dtype=torch.float64)
    y = torch.empty(len(x), size, dtype=torch.float64)
    for start in range(0, size, rows):
        block = layer.weight[start : start + rows]
        y[:, start : start + rows] = x @ wide[: len(block)].copy_(block).T
    return _affine(y, None, layer.bias)


def layer_forward(
    spec: TransformerSpec,
    weights: LayerWeights,
    x: Tensor,
    cache: Cache | None = None,
    positions: Tensor | None = None,
    *,
    block_positions: Tensor | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The layer's output y and its new cache, (y, k, v), all float64.

    x (q_len, d_model) holds the new tokens, `cache` the earlier ones' keys (already rotated) and
    values, each (n_kv_heads, past, d_head). y is (q_len, d_model); k and v are
    (n_kv_heads, past + q_len, d_head), the cache with the new rows at its end. `positions` int64
    (q_len,) default to past, past + 1, …; `block_positions` (GLM only) to zeros. Every token sees
    the first `prefix` tokens, besides those that its family's mask lets it see.
    """
    q, past_cache = x.shape[0], cache or _empty_cache(spec)
    if positions is None:
        past = past_cache[0].shape[-2]
        positions = torch.arange(past, past + q)
    tables = rotary_tables(spec, positions, block_positions) if spec.rotary else None
    x = x.double()
    a = apply_norm(weights.attn_norm, x) if spec.norm_first else x
    attended, k, v = _self_attention(spec, weights, a, past_cache, tables=tables, prefix=prefix)
    if not spec.norm_first:
        h = apply_norm(weights.attn_norm, x + attended)
        return apply_norm(weights.ffn_norm, h + _feed_forward(spec, weights, h)), k, v
    h = _residual(spec, x, a) + attended
    b = apply_norm(weights.ffn_norm, h)
    return _residual(spec, h, b) + _feed_forward(spec, weights, b), k, v


def _residual(spec: TransformerSpec, x: Tensor, normed: Tensor) -> Tensor:
    return (normed if spec.family == "glm" else x) * spec.residual_scale


def _self_attention(
    spec: TransformerSpec,
    weights: LayerWeights,
    x: Tensor,
    cache: Cache,
    *,
    tables: tuple[Tensor, Tensor] | None,
    prefix: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The attention block of normed x (q, d_model): its output and the grown cache."""
    rows = torch.split(apply_linear(weights.qkv, x), [spec.d_model, spec.d_kv, spec.d_kv], dim=-1)
    q, k, v = (part.reshape(len(x), -1, spec.d_head).transpose(0, 1) for part in rows)
    if tables is not None:
        cos, sin = tables
        q, k = (t * cos + rotate_half(t, spec) * sin for t in (q, k))
    k = torch.cat((cache[0].double(), k), dim=1)
    v = torch.cat((cache[1].double(), v), dim=1)
    mixed = attention(q, k, v, spec.causal, prefix).transpose(0, 1).flatten(1)
    return apply_linear(weights.out, mixed), k, v


def _feed_forward(spec: TransformerSpec, weights: LayerWeights, x: Tensor) -> Tensor:
    inner = apply_linear(weights.up, x)
    if spec.gated:
        gate, up = inner.chunk(2, dim=-1)
        return apply_linear(weights.down, gate * torch.sigmoid(gate) * up)
    return apply_linear(weights.down, gelu(inner, "erf" if spec.family == "bert" else "tanh"))


def _affine(x: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
    scaled = x if gain is None else x * gain.double()
    return scaled if bias is None else scaled + bias.double()


def _empty_cache(spec: TransformerSpec) -> Cache:
    empty = torch.empty(spec.kv_heads, 0, spec.d_head, dtype=torch.float64)
    return empty, empty
