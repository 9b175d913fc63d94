"""Attention over shared queries, keys and values, with a cache of shared rows.

    s = q·kᵀ (+ a public mask)        p = softmax(s)        o = p·v

1/√d_head is folded into the query's weights by P0. Both products are local matrix products of shares
followed by one fused truncation each (`truncate`), so a step costs 128 bits an element of s and of o
from each role, 2 hops each, besides the softmax. The mask (which tokens see which is public) is added to
the terms of s before their truncation: −2^20, far enough below for an exact 0 in the softmax.

Rotary positions are a public linear map. It acts on the terms of q and k as the linear layer leaves
them, at 2·FRAC bits, with cosines and sines of 16 bits; one truncation then takes off all of them, so
they cost nothing. q, k, v must stay below 2^10.

Shapes: h heads in g groups that share a key head; q (h, n, w), k, v (h/g, n, w), s (h, n, L).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.puma.approx import FRAC
from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.multiply import matrix_product
from baselines.puma.share import Share, Term, concatenate, encode
from baselines.puma.softmax import softmax, softmax_cost
from baselines.puma.truncate import truncate, truncate_cost
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec

HIDDEN = -(1 << 20)
ROTATION_FRAC = 16


@dataclass
class Cache:
    """Keys and values of the tokens so far, (kv_heads, L, w) each at FRAC."""

    keys: Share
    values: Share

    @classmethod
    def empty(cls, spec: TransformerSpec) -> "Cache":
        """No rows yet."""
        none = torch.empty(spec.kv_heads, 0, spec.d_head, dtype=torch.int64)
        return cls(Share(none, none, FRAC), Share(none, none, FRAC))

    def extend(self, keys: Share, values: Share) -> None:
        """Append rows (kv_heads, n, w)."""
        self.keys = concatenate([self.keys, keys], dim=1)
        self.values = concatenate([self.values, values], dim=1)


async def positioned(
    ctx: Context, spec: TransformerSpec, qkv: Term, tables: tuple[Tensor, Tensor] | None
) -> tuple[Share, Share, Share]:
    """Terms (n, d + 2·d_kv) at 2·FRAC → q, k, v (heads, n, w) at FRAC; 2 hops.

    tables: cosines and sines, float64 (n, w), for families with rotary positions.
    """
    n, turning = qkv.value.shape[0], spec.n_heads + spec.kv_heads
    rows = qkv.value.reshape(n, -1, spec.d_head)
    bits = FRAC
    if tables is not None:
        cos, sin = (encode(table, ROTATION_FRAC)[:, None] for table in tables)
        turned = rows[:, :turning] * cos + rotate_half(rows[:, :turning], spec) * sin
        rows = torch.cat([turned, rows[:, turning:] << ROTATION_FRAC], dim=1)
        bits += ROTATION_FRAC
    whole = await truncate(ctx, Term(rows, FRAC + bits), bits)
    heads = whole.each(lambda part: part.transpose(0, 1).contiguous())
    q, k, v = heads.split((spec.n_heads, spec.kv_heads, spec.kv_heads), dim=0)
    return q, k, v


async def attend(ctx: Context, q: Share, cache: Cache, seen: Tensor | None) -> Share:
    """o (h, n, w) at FRAC over all cached rows; seen: bool (n, L) or None for all."""
    heads, n, width = q.shape
    groups, length = cache.keys.shape[:2]
    scores = matrix_product(q.reshape(groups, -1, width), cache.keys)
    scores = Term(scores.value.reshape(heads, n, length), scores.frac)
    if seen is not None:
        scores = ctx.add(scores, (~seen).to(torch.int64) * (HIDDEN << 2 * FRAC))
    s = await truncate(ctx, scores, FRAC)
    p = await softmax(ctx, s.reshape(heads * n, length))
    columns = cache.values.each(lambda part: part.transpose(1, 2))
    mixed = matrix_product(p.reshape(groups, -1, length), columns)
    return (await truncate(ctx, mixed, FRAC)).reshape(heads, n, width)


def positioned_cost(spec: TransformerSpec, n: int) -> Cost:
    """One truncation of q, k and v."""
    return truncate_cost(n * (spec.d_model + 2 * spec.d_kv))


def attend_cost(spec: TransformerSpec, n: int, length: int) -> Cost:
    """Scores, softmax, weighted sum."""
    rows = spec.n_heads * n
    scores = truncate_cost(rows * length) + softmax_cost(rows, length)
    return scores + truncate_cost(n * spec.d_model)
