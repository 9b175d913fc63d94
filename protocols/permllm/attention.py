"""Attention with a key/value cache: scores s = q·kᵀ and sums o = p·v, two hops each.

Masks a (q), b (k), d (v), e (p) are known to P1 and P2; pads r of P0 and P2 open P0's halves to P1
without showing them: E_q = Δq − r_q, likewise E_k, E_v, E_p. Cached rows keep their Δ, E, b and r.

Scores:  s = Δq·Δk + [E_q·b + a·E_k + a·b] + [r_q·b + a·r_k]
  Offline: the dealer splits the last bracket into τ0 (stream of P0 and P2) and τ1. Online: P0 opens
  E_q, E_k, E_v of the new rows; P1 returns its bracket + τ1 − μ; P0 adds Δq·Δk + τ0, so Δs = s − μ.
Sums:    o = Δp·Δv + [E_p·d + e·E_v + e·d] + [r_p·d + e·r_v]      likewise, with μ' for o.
  o is truncated: of its mask μ' = m·2^s + ℓ P1 knows m alone; the dealer takes ℓ from τ1.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P1 | τ1 of s; τ1 of o | | 8·h·n·L; 8·h·n·w | 1 |
| online | P0 | P1 | E_q, E_k, E_v (new rows, one message) | scores/open | 24·h·n·w | 1 |
| online | P1 | P0 | P1's share of s | scores/share | 8·h·n·L | 2 |
| online | P0 | P1 | E_p | sum/open | 8·h·n·L | 1 (after the softmax) |
| online | P1 | P0 | P1's share of o | sum/share | 8·h·n·w | 2 |

P0 learns s − μ, o − μ'; P1 learns the E's, which the r's hide; P2 learns all masks and pads.
Shapes: q, k, v (h, n, w) for h heads, n new tokens, width w; L keys in all. Source: PermLLM,
section 3 (multiplication of two shared tensors), with the opened rows kept for reuse.
"""

import torch
from torch import Tensor

from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import BOUND_BITS, VALUE_FRAC
from protocols.permllm.masked_value import Masked


class Rows:
    """Rows (h, L, w) that grow: the memory doubles, so that a new row is copied once on average."""

    def __init__(self, heads: int, width: int, dtype: torch.dtype) -> None:
        self._memory = torch.empty((heads, 0, width), dtype=dtype)
        self._length = 0

    def view(self, length: int) -> Tensor:
        """The first `length` rows, (h, length, w)."""
        return self._memory[:, :length]

    def extend(self, rows: Tensor) -> None:
        """Append rows (h, n, w)."""
        length = self._length + rows.shape[1]
        if length > self._memory.shape[1]:
            heads, _, width = self._memory.shape
            grown = torch.empty((heads, 2 * length, width), dtype=self._memory.dtype)
            grown[:, : self._length] = self.view(self._length)
            self._memory = grown
        self._memory[:, self._length : length] = rows
        self._length = length


class Cached:
    """The cached rows of one tensor, as far as a role holds them.

    mask: P1, P2. pad (r): P2. value (Δ): P0. opened (E): P1. frac: their scale.
    """

    def __init__(self, heads: int, width: int, dtype: torch.dtype, frac: int) -> None:
        self.frac = frac
        self.mask, self.pad, self.value, self.opened = (Rows(heads, width, dtype) for _ in range(4))


class Cache:
    """Keys and values seen so far, of `heads` heads and `width` columns."""

    def __init__(
        self, heads: int, width: int, dtype: torch.dtype, key_frac: int = VALUE_FRAC
    ) -> None:
        self.heads, self.width, self.key_frac = heads, width, key_frac
        self._dtype = dtype
        self.clear()

    def clear(self, length: int = 0) -> None:
        """Forget all rows; `length` rows are to be shared before either pass."""
        self.keys = Cached(self.heads, self.width, self._dtype, self.key_frac)
        self.values = Cached(self.heads, self.width, self._dtype, VALUE_FRAC)
        self._lengths = {True: length, False: length}

    def seen(self, offline: bool) -> int:
        """How many rows a pass has seen so far."""
        return self._lengths[offline]

    def grow(self, rows: int, offline: bool) -> int:
        """A pass brings new rows: how many it has seen then. The offline pass may be ahead."""
        self._lengths[offline] += rows
        return self._lengths[offline]


class Scores(Step):
    """s = q·kᵀ over all cached and new keys; opens the new values on the way."""

    def __init__(self, ctx: Context, name: str, cache: Cache) -> None:
        super().__init__(ctx, name)
        self._cache = cache
        self._scale = cache.width**0.5  # scores are sums over the width

    @named
    def __call__(self, q: Masked, k: Masked, v: Masked) -> Masked:
        """(h, n, w) each → (h, n, L) at the sum of the scales of q and k."""
        length = self._cache.grow(k.shape[1], self.ctx.offline_pass)
        compute = self._offline if self.ctx.offline_pass else self._online
        return Masked((*q.shape[:2], length), q.frac + k.frac, compute(q, k, v, length))

    def _offline(self, q: Masked, k: Masked, v: Masked, length: int) -> Tensor | None:
        shape = (*q.shape[:2], length)
        if self.role != P1:
            stream = self.ctx.p0p2(self.name)
            pads = [self.domain.mask(stream, *x.shape) for x in (q, k, v)]  # r of q, k, v
            tau0 = self.domain.mask(stream, *shape, scale=self._scale)
        if self.role == P0:
            self.keep(pads, tau0)
            return None
        keys, values, matmul_t = self._cache.keys, self._cache.values, self.domain.matmul_t
        keys.mask.extend(k.held)
        values.mask.extend(v.held)
        masks = keys.mask.view(length)  # b
        mu = self.domain.mask(self.ctx.p1p2(self.name), *shape, scale=self._scale)
        if self.role == P2:
            keys.pad.extend(pads[1])
            values.pad.extend(pads[2])
            cross = matmul_t(pads[0], masks)  # r_q·b   (h, n, L)
            cross += matmul_t(q.held, keys.pad.view(length))  # + a·r_k
            self.party.send(P1, cross - tau0)  # τ1 = r_q·b + a·r_k − τ0
            return mu
        (tau1,) = self.receive(P2, shape)
        self.keep(q.held, matmul_t(q.held, masks) + tau1 - mu)  # a; a·b + τ1 − μ
        return mu

    def _online(self, q: Masked, k: Masked, v: Masked, length: int) -> Tensor | None:
        keys, values, matmul_t = self._cache.keys, self._cache.values, self.domain.matmul_t
        if self.role == P0:
            tau0: Tensor
            pads, tau0 = self.take()
            with self.party.step("open"):
                opened = [x.held - r for x, r in zip((q, k, v), pads, strict=True)]
                self.party.send(P1, *opened)  # E_q, E_k, E_v   (h, n, w)
            keys.value.extend(k.held)
            values.value.extend(v.held)
            local = matmul_t(q.held, keys.value.view(length)) + tau0  # Δq·Δk + τ0   (h, n, L)
            with self.party.step("share"):
                (share,) = self.receive(P1, tuple(local.shape))
                return local + share  # Δs = s − μ
        query_mask, own = self.take()
        with self.party.step("open"):
            e_q, e_k, e_v = self.receive(P0, q.shape, k.shape, v.shape)
        with self.party.step("share"):
            keys.opened.extend(e_k)
            values.opened.extend(e_v)
            cross = matmul_t(e_q, keys.mask.view(length))  # E_q·b   (h, n, L)
            cross += matmul_t(query_mask, keys.opened.view(length))  # + a·E_k
            self.party.send(P0, cross + own)  # + a·b + τ1 − μ
            return None


class WeightedSum(Step):
    """o = p·v over all cached values; its mask allows the exact truncation of |o| < 2^BOUND_BITS."""

    def __init__(self, ctx: Context, name: str, cache: Cache) -> None:
        super().__init__(ctx, name)
        self._cache = cache

    @named
    def __call__(self, p: Masked, value_frac: int, truncated: int) -> Masked:
        """(h, n, L) → (h, n, w) at the sum of the scales of p and v, of which `truncated` bits will be
        cut."""
        frac = p.frac + value_frac
        if self.ctx.offline_pass:
            half = self._offline(p, frac + BOUND_BITS, truncated)
        else:
            half = self._online(p)
        return Masked(self._out_shape(p), frac, half)

    def _out_shape(self, p: Masked) -> tuple[int, int, int]:
        return (p.shape[0], p.shape[1], self._cache.width)

    def _offline(self, p: Masked, safe_bits: int, truncated: int) -> Tensor | None:
        values, shape, length = self._cache.values, self._out_shape(p), p.shape[2]
        if self.role != P1:
            stream = self.ctx.p0p2(self.name)
            pad = self.domain.mask(stream, *p.shape)  # r of p
            tau0 = self.domain.mask(stream, *shape)
        if self.role == P0:
            self.keep(pad, tau0)
            return None
        mu, low = self.ctx.truncatable_mask(self.name, safe_bits, truncated, *shape)
        matmul, masks = self.domain.matmul, values.mask.view(length)  # d
        if self.role == P2:
            cross = matmul(pad, masks)  # r_p·d   (h, n, w)
            cross += matmul(p.held, values.pad.view(length))  # + e·r_v
            self.party.send(P1, cross - tau0 - low)  # τ1 = r_p·d + e·r_v − τ0 − ℓ
            return mu
        (tau1,) = self.receive(P2, shape)
        self.keep(p.held, matmul(p.held, masks) + tau1 - mu)  # e; e·d + τ1 − μ'
        return mu

    def _online(self, p: Masked) -> Tensor | None:
        values, matmul, length = self._cache.values, self.domain.matmul, p.shape[2]
        if self.role == P0:
            return self._close(self._open(p))
        weight_mask, own = self.take()
        with self.party.step("open"):
            (e_p,) = self.receive(P0, p.shape)
        with self.party.step("share"):
            cross = matmul(e_p, values.mask.view(length))  # E_p·d   (h, n, w)
            cross += matmul(weight_mask, values.opened.view(length))  # + e·E_v
            self.party.send(P0, cross + own)  # + e·d + τ1 − μ'
            return None

    def _open(self, p: Masked) -> Tensor:
        tau0: Tensor
        pad, tau0 = self.take()
        with self.party.step("open"):
            self.party.send(P1, p.held - pad)  # E_p = Δp − r_p   (h, n, L)
        values = self._cache.values.value.view(p.shape[2])
        return self.domain.matmul(p.held, values) + tau0  # Δp·Δv + τ0   (h, n, w)

    def _close(self, local: Tensor) -> Tensor:
        with self.party.step("share"):
            (share,) = self.receive(P1, tuple(local.shape))
            return local + share  # Δo = o − μ'

    @named
    def open(self, p: Masked) -> Tensor:
        """P0 sends E_p. Returns what `close` takes; other messages may lie between."""
        return self._open(p)

    @named
    def close(self, local: Tensor) -> Tensor:
        """P0: Δo, once P1's share is there."""
        return self._close(local)
