"""Rotary positions: a public rotation that each half undergoes locally, then an exact truncation.

    R(x) = x·cos + J(x)·sin, J a signed permutation of the coordinates, so R(Δ) + R(λ) = R(x)

with cos and sin at scale 2^ROTATION_FRAC. Offline, the dealer moves R(λ) to a fresh mask λ' from which
the extra bits can be truncated exactly, and of which P1 knows all but the low bits.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0 | R(λ) − λ' | 8·elements | 1 |

P0 learns R(λ) − λ', which λ' hides. Nothing travels online.
"""

from torch import Tensor

from protocols.party import P0, P2
from protocols.permllm.context import Context, Step, named
from protocols.permllm.domain import BOUND_BITS, VALUE_FRAC
from protocols.permllm.masked_value import Masked
from protocols.transformer.rotary import rotate_half
from protocols.transformer.spec import TransformerSpec

Tables = tuple[Tensor, Tensor]  # cos and sin, float64 (n, d_head)

ROTATION_FRAC = 16
SAFE_BITS = VALUE_FRAC + ROTATION_FRAC + BOUND_BITS + 1


class Rotary(Step):
    """Rotate queries and keys, (n, heads, d_head) each, by their tokens' positions."""

    def __init__(self, ctx: Context, name: str, spec: TransformerSpec, dropped: int = 0) -> None:
        super().__init__(ctx, name)
        self._spec = spec
        self._truncated = ROTATION_FRAC + dropped

    @named
    def __call__(self, x: Masked, tables: Tables) -> Masked:
        """x (n, heads, d_head) at any scale, cos and sin (n, d_head) → the same shape, at the
        same scale but for the bits that are to be `dropped`."""
        half = self._offline(x, tables) if self.ctx.offline_pass else self._online(x, tables)
        return self.ctx.truncate(Masked(x.shape, x.frac + ROTATION_FRAC, half), self._truncated)

    def _offline(self, x: Masked, tables: Tables) -> Tensor | None:
        if self.role == P0:
            (correction,) = self.receive(P2, x.shape)
            self.keep_each(correction)
            return None
        fresh, _ = self.ctx.truncatable_mask(self.name, SAFE_BITS, self._truncated, *x.shape)
        if self.role == P2:
            self.party.send(P0, self._rotate(x.held, tables) - fresh)  # R(λ) − λ'
        return fresh

    def _online(self, x: Masked, tables: Tables) -> Tensor | None:
        if self.role != P0:
            return None
        correction: Tensor
        (correction,) = self.take()
        return self._rotate(x.held, tables) + correction  # R(Δ) + R(λ) − λ' = R(x) − λ'

    def _rotate(self, half: Tensor, tables: Tables) -> Tensor:
        cos, sin = (self.domain.encode(t, ROTATION_FRAC)[:, None] for t in tables)
        return half * cos + rotate_half(half, self._spec) * sin
