"""Attention over shared queries, keys and values, with a cache of shared rows.

    s = q·kᵀ (+ a public mask)        p = softmax(s)        o = p·v

1/√d_head is folded into the query's weights by P0. Both products are local matrix products of shares
followed by one truncation each (`truncate`), so a step opens one value for each element of s and of o, 2
hops each, besides the softmax. The mask (which tokens see which is public) is added to the term of s
before its truncation: −2^20, far enough below for an exact 0 in the softmax.

Rotary positions are a public linear map. It acts on the terms of q and k as the linear layer leaves them,
at 2·FRAC bits, with cosines and sines of 16 bits; one truncation then takes off all of them, so they
cost nothing. q, k, v must stay below 2^10, and q·k below 2^27.

Shapes: h heads in g groups that share a key head; q (h, n, w), k, v (h/g, n, w), s (h, n, L).
"""

from torch import Tensor

from baselines.shamir.context import Context
from baselines.shamir.cost import Cost
from baselines.shamir.group import Group
from baselines.shamir.multiply import product, product_cost
from baselines.shamir.openings import drive
from baselines.shamir.share import FRAC, Share, Term, concatenate, encode
from baselines.shamir.softmax import softmax_cost
from baselines.shamir.truncate import truncate, truncate_cost
from protocols.arith import field61
from protocols.shares.primitives import Seen, SharedCache, Tables
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec

HIDDEN = -(1 << 20)
ROTATION_FRAC = 16


class Cache(SharedCache[Share]):
    """Keys and values of the tokens so far, (kv_heads, L, w) each at FRAC; of each pass its own."""

    def __init__(self, ctx: Context, spec: TransformerSpec) -> None:
        self._ctx, self._spec = ctx, spec
        self.clear()

    def clear(self) -> None:
        """See the base class."""
        self._rows: dict[bool, tuple[Share, Share]] = {}

    def fill(self, k: Share, v: Share) -> None:
        """See the base class."""
        before = self._rows.get(self._ctx.offline_pass)
        if before is not None:
            k, v = concatenate([before[0], k], dim=1), concatenate([before[1], v], dim=1)
        self._rows[self._ctx.offline_pass] = k, v

    def scores(self, q: Share, k: Share, v: Share, seen: Seen) -> Share:
        """See the base class. A key that is not seen has HIDDEN added to its score."""
        self.fill(k, v)
        return drive(self._ctx, self._scores(q, seen))

    async def _scores(self, q: Share, seen: Seen) -> Share:
        heads, n, width = q.shape
        keys, _ = self._rows[self._ctx.offline_pass]
        grouped = q.reshape(self._spec.kv_heads, -1, width)
        scores = (await product(self._ctx, grouped, keys, "heads")).reshape(heads, n, -1)
        visible = seen(keys.shape[1])
        if visible is not None:
            scores = scores.plus(encode(HIDDEN * (~visible).double(), 2 * FRAC))
        return await truncate(self._ctx, scores, FRAC)

    def weighted(self, p: Share) -> Share:
        """See the base class."""
        return drive(self._ctx, self._weighted(p))

    async def _weighted(self, p: Share) -> Share:
        heads, n, length = p.shape
        _, values = self._rows[self._ctx.offline_pass]
        columns = values.each(lambda value: value.transpose(1, 2))
        grouped = p.reshape(self._spec.kv_heads, -1, length)
        mixed = await product(self._ctx, grouped, columns, "heads")
        return (await truncate(self._ctx, mixed, FRAC)).reshape(heads, n, -1)


async def positioned(
    ctx: Context, spec: TransformerSpec, qkv: Term, tables: Tables | None
) -> tuple[Share, Share, Share]:
    """A term (n, d + 2·d_kv) at 2·FRAC → q, k, v (heads, n, w) at FRAC.

    tables: cosines and sines, float64 (n, w), for families with rotary positions.
    """
    n, turning = qkv.value.shape[0], spec.n_heads + spec.kv_heads
    rows, bits = qkv.value.reshape(n, -1, spec.d_head), FRAC
    if tables is not None:
        cos, sin = (encode(table, ROTATION_FRAC)[:, None] for table in tables)
        still = field61.mul(rows[:, turning:], 1 << ROTATION_FRAC)
        rows = rows[:, :turning]
        half = _residues(rotate_half(rows, spec))
        turned = field61.add(field61.mul(rows, cos), field61.mul(half, sin))
        rows = field61.concatenate([turned, still], dim=1)
        bits += ROTATION_FRAC
    whole = await truncate(ctx, Term(rows, FRAC + bits), bits)
    heads = whole.each(lambda value: value.transpose(0, 1).contiguous())
    q, k, v = heads.split((spec.n_heads, spec.kv_heads, spec.kv_heads), dim=0)
    return q, k, v


def _residues(x: Tensor) -> Tensor:
    """Of residues and negated ones."""
    return x if x.is_meta else field61.from_signed(x)


def positioned_cost(spec: TransformerSpec, n: int) -> Cost:
    """One truncation of q, k and v."""
    return truncate_cost(n * (spec.d_model + 2 * spec.d_kv))


def attention_cost(group: Group, spec: TransformerSpec, n: int, length: int) -> Cost:
    """Scores, softmax, weighted sum."""
    rows, d, cached = spec.n_heads * n, n * spec.d_model, length * spec.d_kv
    scores = product_cost(group, d, cached, rows * length) + truncate_cost(rows * length)
    mixed = product_cost(group, rows * length, cached, d) + truncate_cost(d)
    return scores + softmax_cost(group, rows, length) + mixed
