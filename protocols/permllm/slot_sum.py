"""The sum of the values, o = p·v, with the message that returns the softmax: no hop of its own.

P1 knows p in the order of the slots (`slot_softmax`), as it returned it; it weighs numbers B that it knows
in that order, and P0, which has v − B in natural order, adds what is missing.

Known to P1 and the dealer: B_gi (for the slots dealt anew), the mask e of p, ν_g, and of o's mask
μo = m·2^s + ℓ the part m. To P0 and the dealer: r^v (the pads of opened values), o0. To the dealer: ℓ.

Offline: C_hj = d_j − B_gi to P0 (d: mask of v);
         o1_h = ν_g − Σ_j e_hj·B_gi + Σ_j e_hj·r^v_j − o0_h − ℓ to P1.
Online:  P0 has V_hj = Δv_j + C_hj = v_j − B_gi. P1 sends, in the slots' order and in natural order,
         O1_g = Σ_i p_gi·B_gi − ν_g  and  O2_h = Σ_j e_hj·(E^v_j + d_j) + o1_h − m·2^s;
         P0: Δo = Σ_j Δp_hj·V_hj + O1 + O2 + o0 = Σ (p − e)·(v − B) + Σ p·B + Σ e·v − Σ e·B − μo = p·v − μo.

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P0 | C | | 8·h·m·w | 1 |
| offline | P2 | P1 | o1 | | 8·h·w | 1 |
| online | P1 | P0 | O1, O2 | sum/share | 16·h·w | 2, with p − μ |

The two sums travel apart: P1 does not know which row is which head. P0 learns v − B, which B hides, and
O1, O2, which ν and μo hide one by one; P1 learns o1, under o0; P2 learns all masks and pads.
Shapes: p (h, 1, L), v (h_k, 1, w), o (h, 1, w); m slots are dealt anew.
"""

from torch import Tensor

from protocols.party import P0, P1, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import BOUND_BITS
from protocols.permllm.masked_value import Masked
from protocols.permllm.slot_softmax import SlotCache, Weights, of_heads


class SlotSum(Step):
    """o = p·v over all cached values; its mask allows the exact truncation of |o| < 2^BOUND_BITS."""

    def __init__(self, ctx: Context, name: str, cache: SlotCache) -> None:
        super().__init__(ctx, name)
        self._cache = cache

    @named
    def __call__(self, weights: Weights, value_frac: int, truncated: int) -> Masked:
        """(h, 1, L) → (h, 1, w) at the sum of the scales of p and v, of which `truncated` bits will
        be cut."""
        h, _, length = weights.p.shape
        shape, frac = (h, 1, self._cache.width), weights.p.frac + value_frac
        if self.ctx.offline_pass:
            half = self._offline(weights, h, length, frac + BOUND_BITS, truncated)
        elif self.role == P0:
            half = self._online_p0(weights, h, length)
        else:
            half = None
            self._online_p1(weights, h, length)
        return Masked(shape, frac, None if half is None else half[:, None])

    def _offline(
        self, weights: Weights, h: int, length: int, safe_bits: int, truncated: int
    ) -> Tensor | None:
        """o's mask (h, w) at P1 and P2."""
        w = self._cache.width
        if self.role != P1:
            o0 = self.ctx.ring.mask(self.ctx.p0p2(self.name), h, w)
        if self.role == P0:
            (corrections,) = self.receive(P2, (h, len(weights.slots.moved), w))  # C
            self.keep(corrections, o0)
            return None
        moved = self._moved(weights, length)
        stream = self.ctx.p1p2(self.name)
        b, nu = self.ctx.ring.mask(stream, h, moved, w), self.ctx.ring.mask(stream, h, w)
        out, low = self.ctx.truncatable_mask(f"{self.name}/out", safe_bits, truncated, h, w)
        e, values = weights.p.held[:, 0], self._cache.values
        if self.role == P1:
            (o1,) = self.receive(P2, (h, w))
            own = self._weighed(e, values.mask.view(length)) + o1 - out  # Σ e·d + o1 − m·2^s
            self.keep(e, b, nu, own)
            return out
        deal = weights.slots
        masks = of_heads(values.mask.view(length), h, deal.moved_keys)
        self.party.send(P0, masks - deal.moved_natural(b))  # C = d − B   (h, m, w)
        rows = self._cache.value_rows.replace(deal.moved_positions, b, length)
        own = nu - self._sums(deal.seen(e), rows)  # ν − Σ e·B, as P1 sees rows
        opened = self._weighed(e, values.pad.view(length))  # Σ e·r^v
        self.party.send(P1, deal.by_head(own) + opened - o0 - low)  # o1
        return out

    def _online_p0(self, weights: Weights, h: int, length: int) -> Tensor:
        o0: Tensor
        corrections, o0 = self.take()
        deal, w = weights.slots, self._cache.width
        anew = of_heads(self._cache.values.value.view(length), h, deal.moved_keys) + corrections
        rows = self._cache.value_rows.replace(
            deal.moved_keys, anew, length
        )  # V = v − B   (h, L, w)
        local = self._sums(weights.p.held[:, 0], rows) + o0  # Σ Δp·V + o0   (h, w)
        with self.party.step("share"):
            seen, natural = self.receive(P1, (h, w), (h, w))  # O1, O2
        return local + deal.by_head(seen) + natural

    def _online_p1(self, weights: Weights, h: int, length: int) -> None:
        e, b, nu, own = self.take()
        if weights.seen is None:
            raise RuntimeError("P1 has returned p")
        at = None if weights.moved is None else weights.moved.expand(h, len(weights.moved))
        rows = self._cache.value_rows.replace(at, b, length)
        opened = self._weighed(e, self._cache.values.opened.view(length))  # Σ e·E^v
        with self.party.step("share"):
            self.party.send(P0, self._sums(weights.seen, rows) - nu, opened + own)  # O1, O2

    def _moved(self, weights: Weights, length: int) -> int:
        """How many slots are dealt anew."""
        if weights.deal is not None:
            return len(weights.deal.moved)
        return length if weights.moved is None else len(weights.moved)

    def _sums(self, p: Tensor, rows: Tensor) -> Tensor:
        """p (h, L) times rows (h, L, w): (h, w)."""
        return self.domain.matmul(p[:, None], rows)[:, 0]

    def _weighed(self, e: Tensor, rows: Tensor) -> Tensor:
        """e (h, L) times the rows (h_k, L, w) of its key head: (h, w)."""
        h, length = e.shape
        grouped = e.reshape(len(rows), h // len(rows), length)
        return self.domain.matmul(grouped, rows).reshape(h, -1)
