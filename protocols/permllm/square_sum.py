"""Σ x² of a row, at P1 alone: all that it needs of an RMSNorm whose gain is folded and whose row it never
sees.

RMSNorm without bias scales its row by one number, so W·norm(x) = r·(W·x) with r = (Σx²/d + ε)^(-1/2).
P0 multiplies the row as it is; P1 gets the products in random order, and Σx² from this step.

x̂ = x >> s, rounded by a coin; λ is x's mask, δ a dither of P0 and P2, ℓ a mask of P1 and P2 that is
safe: ℓ in [2^28, 2^48 − 2^28), s = 16, so that x̂ − ℓ, known modulo 2^48, is known over the integers
for |x| < 2^14, and squares are right modulo 2^64.

Offline: c = ((λ − δ) >> s) − ℓ to P0;  θ = 2·Σ r·ℓ + Σ ℓ² − τ to P1.
Online:  P0 forms D = ((Δ + δ) >> s) + 1 + c = x̂ − ℓ, sends E = D − r and S = Σ D² + τ; P1 forms
         S + 2·Σ E·ℓ + θ = Σ D² + 2·Σ D·ℓ + Σ ℓ² = Σ x̂².

| phase | from | to | what | name | payload | hop |
|---|---|---|---|---|---|---|
| offline | P2 | P0 | c | | 6·n·d | 1 |
| offline | P2 | P1 | θ | | 8·n | 1 |
| online | P0 | P1 | E, S | reveal | 8·n·d + 8·n | 1 |

The online message leaves beside the one that shows P1 the products, so it costs no hop.

P0 learns x̂ − ℓ (ℓ hides it, up to the edges of its range); P1 learns Σ x̂² (r hides E, τ the rest); P2
learns all masks and pads. Did P1 know the dither, as it does λ, the carries in Σ x̂² would be equations
for x in order. Shapes: x (n, d) at LINEAR_FRAC, right modulo 2^64. For one new row a step: with more, P1
would learn which products belong to one row.
"""

import torch
from torch import Tensor

from protocols.errors import OutOfRange
from protocols.party import P0, P1, P2
from protocols.permllm.context import Step, named
from protocols.permllm.domain import LINEAR_FRAC
from protocols.permllm.masked_value import Masked

CUT_BITS = 16  # s
SHORT_BYTES = (64 - CUT_BITS) // 8
SAFE_BITS = LINEAR_FRAC - CUT_BITS + 14  # of x̂, for |x| < 2^14
SQUARE_FRAC = 2 * (LINEAR_FRAC - CUT_BITS)
LIMIT = 2.0 ** (62 - SQUARE_FRAC)  # half of what fits, so that three times as much is seen


class SquareSum(Step):
    """Σ x² of each row of x (n, d)."""

    @named
    def __call__(self, x: Masked) -> Tensor | None:
        """float64 (n,) at P1 in the online pass, else None. Raises OutOfRange."""
        if self.ctx.offline_pass:
            self._offline(x)
            return None
        return self._online(x)

    def _offline(self, x: Masked) -> None:
        ring, (n, d) = self.ctx.ring, x.shape
        if self.role != P1:
            stream = self.ctx.p0p2(self.name)
            dither = ring.low_bits(stream, CUT_BITS, n, d)  # δ
            pad, tau = ring.mask(stream, n, d), ring.mask(stream, n)  # r, τ
        if self.role == P0:
            shape = ring.packed_shape(SHORT_BYTES, n, d)
            (correction,) = self.receive(P2, shape, dtype=ring.packed_dtype)  # c
            self.keep_each(dither, pad, tau, ring.unpack(correction))
            return
        mask = ring.short_mask(self.ctx.p1p2(self.name), CUT_BITS, SAFE_BITS, n, d)  # ℓ
        if self.role == P1:
            (theta,) = self.receive(P2, (n,))
            self.keep_each(mask, theta)
            return
        correction = ring.shorten(x.held - dither, CUT_BITS) - mask  # c = (λ − δ >> s) − ℓ
        self.party.send(P0, ring.pack(correction, SHORT_BYTES))
        self.party.send(P1, _dot(2 * pad + mask, mask) - tau)  # θ = 2·Σ r·ℓ + Σ ℓ² − τ   (n,)

    def _online(self, x: Masked) -> Tensor | None:
        ring = self.ctx.ring
        if self.role == P0:
            dither, pad, tau, correction = self.take()
            # The halves' carry is lost where there is one: 1 more, and x̂ is right in the mean.
            short = ring.shorten(x.held + dither, CUT_BITS) + 1 + correction
            own = ring.lift(short, CUT_BITS)  # D = x̂ − ℓ   (n, d)
            with self.party.step("reveal"):
                self.party.send(P1, own - pad, _dot(own, own) + tau)  # E = D − r, S = Σ D² + τ
            return None
        mask, theta = self.take()
        with self.party.step("reveal"):
            opened, total = self.receive(P0, x.shape, (x.shape[0],))  # E, S
        square = total + 2 * _dot(opened, mask) + theta  # Σ x̂²
        return self._checked(ring.decode(square, SQUARE_FRAC))

    def _checked(self, square: Tensor) -> Tensor:
        if self.ctx.ring.exact and not bool(((square >= 0) & (square < LIMIT)).all()):
            raise OutOfRange(
                f"{self.name}: a row whose squares sum to {LIMIT:.3g} or more; PermLLM computes there "
                "with smaller ones"
            )
        return square


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b of each row, mod 2^64."""
    return (a * b).sum(-1, dtype=torch.int64)
