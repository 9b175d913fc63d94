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

import torch
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.functions import Weights
from baselines.puma.multiply import matrix_product
from baselines.puma.round_scheduler import drive
from baselines.puma.share import FRAC, Share, Term, concatenate, encode
from baselines.puma.truncate import truncate, truncate_cost
from protocols.party import Party
from protocols.shares.primitives import Seen, SharedCache
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec

HIDDEN = -(1 << 20)
ROTATION_FRAC = 16


class Cache(SharedCache[Share]):
    """Keys and values of the tokens so far, (kv_heads, L, w) each at FRAC."""

    def __init__(self, party: Party, ctx: Context, spec: TransformerSpec, weights: Weights) -> None:
        self._party, self._ctx, self._spec, self._weights = party, ctx, spec, weights
        self.clear()

    def clear(self) -> None:
        """See the base class."""
        none = torch.empty(self._spec.kv_heads, 0, self._spec.d_head, dtype=torch.int64)
        self._keys = self._values = Share(none, none, FRAC)

    def fill(self, k: Share, v: Share) -> None:
        """See the base class."""
        self._keys = concatenate([self._keys, k], dim=1)
        self._values = concatenate([self._values, v], dim=1)

    def scores(self, q: Share, k: Share, v: Share, seen: Seen) -> Share:
        """See the base class. A key that is not seen has HIDDEN added to its score, where the softmax wants
        that. 2 hops."""
        heads, n, width = q.shape
        self.fill(k, v)
        length = self._keys.shape[1]
        scores = matrix_product(q.reshape(self._spec.kv_heads, -1, width), self._keys)
        scores = Term(scores.value.reshape(heads, n, length), scores.frac)
        visible = seen(length)
        if visible is not None and self._weights.low:
            hidden = (~visible).to(torch.int64) * (HIDDEN << 2 * FRAC)
            scores = self._ctx.add(scores, hidden)
        return drive(self._party, truncate(self._ctx, scores, FRAC))

    def weighted(self, p: Share) -> Share:
        """See the base class. 2 hops."""
        heads, n, length = p.shape
        columns = self._values.each(lambda part: part.transpose(1, 2))
        mixed = matrix_product(p.reshape(self._spec.kv_heads, -1, length), columns)
        return drive(self._party, truncate(self._ctx, mixed, FRAC)).reshape(heads, n, -1)


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


def positioned_cost(spec: TransformerSpec, n: int) -> Cost:
    """One truncation of q, k and v."""
    return truncate_cost(n * (spec.d_model + 2 * spec.d_kv))


def attention_cost(spec: TransformerSpec, n: int, length: int, weights: Weights) -> Cost:
    """Scores, softmax, weighted sum."""
    rows = spec.n_heads * n
    scores = truncate_cost(rows * length) + weights.cost(rows, length)
    return scores + truncate_cost(n * spec.d_model)
