"""Attention weights of one new token in one exchange: P1 learns the scores q·k in an order of rows and
positions that it does not know (`slots`), exactly and modulo 2^40, and returns their softmax.

In the paper's steps (`attention`) P1 takes part in q·k, in natural order, before it sees the permuted
scores: four hops. Here its part of q·k is with numbers R that it knows in the slots' order, so that P0
alone has anything in natural order to add. Row g of the slots holds head h, position i key j; the newest
key is L, at position i*_g. All scores are right modulo 2^40, where they have 24 fractional bits: no bit
is cut, so no carry can tell anything.

Known to P1 and the dealer: masks a (q), b (k), R_gi, Z_gi (values of punctured trees, for the slots dealt
anew), m_hj, μ, e. To P0 and the dealer: the slots, pads r^q_g, r^f_g, r^k, t, γ0.

Offline: C_hj = b_j − R_gi (slots dealt anew); α_g = a_h − Z_g,i*; the trees punctured at i*; e's correction
         c = μ − e by head and key; to P1 γ1_hj = a_h·r^k_j − γ0 and σ_gi = y_gi − t,
         y = r^q_g·R_gi + m_hj for j < L,  y = r^q_g·R_gi + Z_gi·r^f_g + a_h·b_L for j = L.
Online:  P1 sends M2_hj = a_h·E^k_j + a_h·b_j + γ1 − m_hj for the cached keys, j < L.
         P0 has K_hj = Δk_j + C_hj = k_j − R_gi and G = M2 + γ0 = a_h·k_j − m_hj, and sends with
         E^q = Δq_h − r^q_g and F_g = Δk_L − r^f_g
         A = X + t,  X = Δq_h·K_hj + G_hj − F_g·Z_gi (j < L),  X = Δq_h·K_hL + α_g·Δk_L (j = L);
         P1 adds Y + σ, Y = E^q·R_gi + F_g·Z_gi at every slot: X + Y + y = Δq·(k − R) + Δq·R + a·k = q·k.
         It returns p − μ of p = softmax; P0 adds c: Δp = p − e.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P0 | C, α | | 5·h·m·w, 5·h·w | 1 |
| offline | P2 | P0 | c; siblings | | 8·h·L; 16·h·⌈log2 m⌉ | 1 |
| offline | P2 | P1 | γ1, σ | | 5·h·(L−1), 5·h·L | 1 |
| offline (bounded) | P2 | P1 | which positions are dealt anew | | 8·m | 1 |
| online | P1 | P0 | M2 | scores/share | 5·h·(L−1) | 0, with the norm's reply |
| online | P0 | P1 | E^q, F, A; E^k_L, E^v_L | scores/reveal | 5·h·(2·w + L); 16·h_k·w | 1 |
| online | P1 | P0 | p − μ | scores/return | 8·h·L | 2 |

P0 learns k − R, a − Z_i*, a·k − m, p − μ, which R, Z, m, μ hide; it knows every Z but Z_i*. P1 learns q·k
in the slots' order: its other words are under r, t or γ0. That it adds F·Z at every slot and P0 takes it
away at all but i* hides which position is the new key's. P2 learns all masks and pads.

With refresh=full (m = L) every step deals all slots. With refresh=bounded rows keep their heads and L − m
positions their keys: P1 can align these scores over tokens, and the new key is one of m.

Shapes: q (h, 1, w), k and v (h_k, 1, w), h_k dividing h. Scales: q and k 12 fractional bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from protocols.arith.punctured import Trees
from protocols.errors import PeerError
from protocols.party import P0, P1, P2, Role
from protocols.permllm.attention import Cache
from protocols.permllm.context import Context, Step, named
from protocols.permllm.masked_value import Masked
from protocols.permllm.permuted_functions import Function, check_range
from protocols.permllm.slots import Deal, SlotRows, Slots

SCORE_VALUE_FRAC = 12  # scale of q and of k
SCORE_BYTES = 5  # of what is shared modulo 2^40


class SlotCache(Cache):
    """A cache whose rows P1 sees in slots. slots: how many a step deals anew; None: all."""

    def __init__(self, heads: int, width: int, dtype: torch.dtype, slots: int | None) -> None:
        self._bound = slots
        super().__init__(heads, width, dtype, SCORE_VALUE_FRAC)

    def clear(self, length: int = 0) -> None:
        """As of every cache; and no slot is dealt."""
        super().clear(length)
        self.slots = Slots(self._bound)
        keep = self._bound is not None
        self.key_rows = SlotRows(keep)  # R at P1 and P2, k − R at P0
        self.value_rows = SlotRows(keep)  # B, v − B


@dataclass(frozen=True)
class Weights:
    """⟦p⟧ (h, 1, L), and what the sum with the values needs: the step's slots, at P0 and P2; which are
    dealt anew, at P1 (None: all); p as P1 returned it, in its order (h, L)."""

    p: Masked
    deal: Deal | None = None
    moved: Tensor | None = None
    seen: Tensor | None = None

    @property
    def slots(self) -> Deal:
        """`deal`, where there is one."""
        if self.deal is None:
            raise RuntimeError("this role does not know the slots")
        return self.deal


class SlotSoftmax(Step):
    """p = softmax(q·kᵀ) of one new token over all keys."""

    def __init__(self, ctx: Context, name: str, cache: SlotCache, softmax: Function) -> None:
        super().__init__(ctx, name)
        self._cache, self._softmax = cache, softmax

    @named
    def __call__(self, q: Masked, k: Masked, v: Masked, scale: Callable[[int], int]) -> Weights:
        """p at the `scale` for that many keys; opens the new value to P1 on the way. Raises
        OutOfRange."""
        length = self._cache.grow(1, self.ctx.offline_pass)
        frac = scale(length)
        if self.ctx.offline_pass:
            return self._offline(q, k, v, length, frac)
        if self.role == P0:
            return self._online_p0(q, k, v, length, frac)
        return self._online_p1(q, k, length, frac)

    def _offline(self, q: Masked, k: Masked, v: Masked, length: int, frac: int) -> Weights:
        if self.role == P0:
            return self._receive_deal(q, length, frac)
        keys, values, (h, _, w) = self._cache.keys, self._cache.values, q.shape
        keys.mask.extend(k.held)
        values.mask.extend(v.held)
        if self.role == P2:
            return self._deal(q, length, frac)
        m = self._cache.slots.count(length)
        shared = _Shared.draw(self.ctx, self.name, h, m, length, w)
        gamma1, sigma = self._receive_packed(P2, (h, length - 1), (h, length))
        moved = None if m == length else self._receive_moved(m, length)
        mask = q.held[:, 0]  # a
        own = self._grouped(mask, keys.mask.view(length - 1)) + gamma1 - shared.m  # a·b + γ1 − m
        self.keep(mask, own, sigma, moved, shared.r, Trees.values(shared.roots, m, w), shared.mu)
        return Weights(Masked((h, 1, length), frac, shared.e[:, None]), moved=moved)

    def _pads(self, h: int, length: int, w: int) -> tuple[Deal, list[Tensor]]:
        """What P0 and the dealer draw: the slots; r^q, r^f, r^k, r^v, t, γ0."""
        stream, kv = self.ctx.p0p2(self.name), self._cache.heads
        deal = self._cache.slots.deal(stream, h, length)
        shapes = [(h, w), (h, w), (kv, 1, w), (kv, 1, w), (h, length), (h, length - 1)]
        return deal, [self.ctx.ring.mask(stream, *shape) for shape in shapes]

    def _receive_deal(self, q: Masked, length: int, frac: int) -> Weights:
        h, _, w = q.shape
        deal, pads = self._pads(h, length, w)
        m = len(deal.moved)
        corrections, alpha = self._receive_packed(P2, (h, m, w), (h, w))  # C, α
        weights, siblings = self.receive(P2, (h, length), Trees.key_shape(h, m, w))  # c
        z = Trees.punctured_values(siblings, m, deal.newest, w)
        self.keep(deal, pads, corrections, alpha, weights, z)
        return Weights(Masked((h, 1, length), frac, None), deal)

    def _deal(self, q: Masked, length: int, frac: int) -> Weights:
        h, _, w = q.shape
        deal, (r_q, r_f, r_k, r_v, t, gamma0) = self._pads(h, length, w)
        keys, m, rows = self._cache.keys, len(deal.moved), torch.arange(h)
        keys.pad.extend(r_k)
        self._cache.values.pad.extend(r_v)
        shared = _Shared.draw(self.ctx, self.name, h, m, length, w)
        a, b = q.held[:, 0], keys.mask.view(length)
        newest = deal.newest
        siblings, z = Trees.puncture(shared.roots, m, newest, w)  # z = Z_i*   (h, w)
        corrections = of_heads(b, h, deal.moved_keys) - deal.moved_natural(shared.r)  # C
        self._send_packed(P0, corrections, a[deal.head] - z)  # C, α
        self.party.send(P0, deal.natural(shared.mu) - shared.e, siblings)  # c = μ − e
        gamma1 = self._grouped(a, keys.pad.view(length - 1)) - gamma0  # a·r^k − γ0   (h, L − 1)
        r = self._cache.key_rows.replace(deal.moved_positions, shared.r, length)
        y = self.domain.matmul_t(r_q[:, None], r)[:, 0]  # r^q·R   (h, L)
        last = self._grouped(a, b[:, -1:].contiguous())  # a·b_L   (h, 1)
        y += deal.seen(torch.cat([shared.m, last], dim=1))
        y[rows, deal.moved[newest]] += (z * r_f).sum(-1)  # Z·r^f at i*
        self._send_packed(P1, gamma1, y - t)
        if m < length:
            self.party.send(P1, deal.moved)
        return Weights(Masked((h, 1, length), frac, shared.e[:, None]), deal)

    def _online_p0(self, q: Masked, k: Masked, v: Masked, length: int, frac: int) -> Weights:
        h, matmul_t = q.shape[0], self.domain.matmul_t
        deal: Deal
        deal, (r_q, r_f, r_k, r_v, t, gamma0), corrections, alpha, weights, z = self.take()
        keys = self._cache.keys
        keys.value.extend(k.held)
        self._cache.values.value.extend(v.held)
        anew = of_heads(keys.value.view(length), h, deal.moved_keys) + corrections
        rows = self._cache.key_rows.replace(deal.moved_keys, anew, length)  # K = k − R   (h, L, w)
        delta, newest = q.held[:, 0], k.held[:, 0].repeat_interleave(h // k.shape[0], dim=0)
        x = matmul_t(delta[:, None], rows)[:, 0]  # Δq·K   (h, L)
        x[:, -1] += (deal.by_head(alpha) * newest).sum(-1)  # + α·Δk_L
        with self.party.step("share"):
            (reply,) = self._receive_packed(P1, (h, length - 1))  # M2
        x[:, :-1] += reply + gamma0  # + G
        seen, f = deal.seen(x), newest[deal.head] - r_f  # F   (h, w)
        seen[:, deal.moved] -= matmul_t(f[:, None], z)[:, 0]  # − F·Z
        with self.party.step("reveal"):
            self._send_packed(P1, delta[deal.head] - r_q, f, seen + t)  # E^q, F, A
            self.party.send(P1, k.held - r_k, v.held - r_v)  # E^k_L, E^v_L
        with self.party.step("return"):
            (masked,) = self.receive(P1, (h, length))  # p − μ
        held = deal.natural(masked) + weights  # Δp = p − e   (h, L)
        return Weights(Masked((h, 1, length), frac, held[:, None]), deal)

    def _online_p1(self, q: Masked, k: Masked, length: int, frac: int) -> Weights:
        (h, _, w), matmul_t = q.shape, self.domain.matmul_t
        mask, own, sigma, moved, r, z, mu = self.take()
        keys, values = self._cache.keys, self._cache.values
        cross = self._grouped(mask, keys.opened.view(length - 1))  # a·E^k   (h, L − 1)
        with self.party.step("share"):
            self._send_packed(P0, cross + own)  # M2
        with self.party.step("reveal"):
            e_q, f, a = self._receive_packed(P0, (h, w), (h, w), (h, length))
            e_k, e_v = self.receive(P0, k.shape, k.shape)
        keys.opened.extend(e_k)
        values.opened.extend(e_v)
        at = None if moved is None else moved.expand(h, len(moved))
        rows = self._cache.key_rows.replace(at, r, length)
        scores = a + sigma + matmul_t(e_q[:, None], rows)[:, 0]  # A + σ + E^q·R
        scores[:, slice(None) if moved is None else moved] += matmul_t(f[:, None], z)[:, 0]  # + F·Z
        with self.party.step("return"):
            p = self._probabilities(scores, frac)
            self.party.send(P0, p - mu)
        return Weights(Masked((h, 1, length), frac, None), moved=moved, seen=p)

    def _probabilities(self, scores: Tensor, frac: int) -> Tensor:
        """p, encoded, of scores modulo 2^40."""
        ring = self.ctx.ring
        seen = ring.decode(ring.signed(scores, SCORE_BYTES), 2 * SCORE_VALUE_FRAC)
        if ring.exact:
            limit = 2.0 ** (8 * SCORE_BYTES - 2 - 2 * SCORE_VALUE_FRAC)
            check_range(self.name, seen, limit)
        return ring.encode(self._softmax(seen), frac)

    def _send_packed(self, to: Role, *words: Tensor) -> None:
        """Modulo 2^40."""
        self.party.send(to, *(self.ctx.ring.pack(x, SCORE_BYTES) for x in words))

    def _receive_packed(self, source: Role, *shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Of `shapes`, modulo 2^40."""
        ring = self.ctx.ring
        packed = (ring.packed_shape(SCORE_BYTES, *shape) for shape in shapes)
        sent = self.receive(source, *packed, dtype=ring.packed_dtype)
        return tuple(ring.unpack(x) for x in sent)

    def _receive_moved(self, count: int, length: int) -> Tensor:
        """Which positions are dealt anew. Raises PeerError."""
        (moved,) = self.receive(P2, (count,))
        if int(moved[0]) < 0 or int(moved[-1]) >= length or bool((moved.diff() <= 0).any()):
            raise PeerError(
                f"{self.name}: {P2} sent positions that are not ascending below {length}"
            )
        return moved

    def _grouped(self, x: Tensor, rows: Tensor) -> Tensor:
        """x (h, w) times the rows (h_k, n, w) of its key head: (h, n)."""
        h, w = x.shape
        grouped = x.reshape(len(rows), h // len(rows), w)
        return self.domain.matmul_t(grouped, rows).reshape(h, -1)


@dataclass(frozen=True)
class _Shared:
    """What P1 and the dealer draw: R (h, m, w), m (h, L − 1), μ and e (h, L), roots of the trees."""

    r: Tensor
    m: Tensor
    mu: Tensor
    e: Tensor
    roots: Tensor

    @classmethod
    def draw(cls, ctx: Context, name: str, h: int, moved: int, length: int, w: int) -> "_Shared":
        stream, mask = ctx.p1p2(name), ctx.ring.mask
        r, m = mask(stream, h, moved, w), mask(stream, h, length - 1)
        mu, e = mask(stream, h, length), mask(stream, h, length)
        return cls(r, m, mu, e, Trees.roots(stream, h, moved, w))


def of_heads(rows: Tensor, heads: int, keys: Tensor | None) -> Tensor:
    """rows (h_k, L, w) of the key head of each query head, at keys (h, m), or at all: (h, m, w)."""
    group = heads // len(rows)
    if keys is None:
        return rows if group == 1 else rows.repeat_interleave(group, dim=0)
    return rows[torch.arange(heads)[:, None] // group, keys]
