"""Products with P0's secret matrices: y = x·Wᵀ + bias, W masked once as Ŵ = W + B.

    y + r′ = x̂·Wᵀ − [a]·Ŵᵀ + [a·Bᵀ + r′]                    x̂ = x + a

P0 computes x̂·Wᵀ on its small integers; the rest is known offline, all of P1's share among it.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 | Ŵ, n bits each, in blocks of rows | ⌈m·k·n/8⌉ | 1 |
| offline | P2 | P0, P1 | shares of a and of a·Bᵀ + r′ | ⌈rows·k·n/8⌉ + ⌈rows·m·n/8⌉ | 1 |
| online | P0, P1 | each other | shares of y + r′ | ⌈rows·m·n/8⌉ | 1 |

B comes from the key that P0 has of the dealer. P1 learns Ŵ, both learn ŷ: B and r′ hide what is under
them. A diagonal matrix y = g∘x + bias is the same with elementwise products. Source: SIGMA (ePrint
2023/1269), section 4, whose keys have shares of B besides: here P0's is B and P1's is 0.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from baselines.fss.bits import low_bits
from baselines.fss.context import Context
from protocols.arith import ring
from protocols.party import P0, P1
from protocols.shares.fixed_weight import FixedWeight

BLOCK_ELEMENTS = 1 << 21  # weights a message
_BLOCK_ROWS = 8  # a multiple: only the last block is filled up to a byte


class Matrix:
    """One secret matrix (m, k). P0 is built with its weights, the others with None."""

    def __init__(
        self, ctx: Context, name: str, shape: tuple[int, int], weight: FixedWeight | None
    ) -> None:
        self._ctx, self._name, self.shape = ctx, name, shape
        self._weight = weight
        self._masked: list[Tensor] = []  # Ŵ at P0 and P1

    def prepare(self) -> None:
        """Mask the matrix (phase prepare)."""
        if self._ctx.is_dealer:
            return
        with self._ctx.step(self._name):
            if self._weight is not None:
                for block, mask in zip(self._blocks(), self._masks(), strict=True):
                    rows = self._weight.values[block].to(torch.int64)
                    self._masked.append((rows + mask) & low_bits(self._ctx.bits))
                    self._ctx.send_masked(P1, self._masked[-1], self._ctx.bits)
                return
            for block in self._blocks():
                shape = (block.stop - block.start, self.shape[1])
                self._masked.append(self._ctx.receive_masked(P0, shape, self._ctx.bits))

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """The masked x·Wᵀ + bias: x (n, k) → (n, m) at the sum of the scales. added: what P0 adds."""
        with self._ctx.step("matrix"):
            share = self._product(x)
            if self._ctx.online and added is not None:
                share = share + added
            return self._ctx.open(share, self._ctx.bits)

    def _product(self, x: Tensor) -> Tensor:
        ctx, shape = self._ctx, (x.shape[0], self.shape[0])
        if ctx.online:
            known = ctx.kept(shape)
            return known if self._weight is None else known + self._apply(self._weight.values, x)
        out = ctx.mask(shape, ctx.bits)
        a = ctx.shared(tuple(x.shape), ctx.bits, lambda: x, now=True)
        rest = ctx.shared(shape, ctx.bits, lambda: self._times(self._masks(), x) + out, now=True)
        if not ctx.is_dealer:
            ctx.keep(self._known(a, rest))
        return out

    def _known(self, a: Tensor, rest: Tensor) -> Tensor:
        known = rest - self._times(self._masked, a)
        bias = None if self._weight is None else self._weight.bias
        return known if bias is None else known + bias

    def _masks(self) -> Iterator[Tensor]:
        """Blocks of B."""
        stream = self._ctx.weight_masks(self._name)
        for block in self._blocks():
            yield stream.int64(block.stop - block.start, self.shape[1])

    def _blocks(self) -> list[slice]:
        m, rows = self.shape[0], BLOCK_ELEMENTS // max(1, self.shape[1])
        step = max(_BLOCK_ROWS, rows // _BLOCK_ROWS * _BLOCK_ROWS)
        return [slice(lo, min(m, lo + step)) for lo in range(0, m, step)]

    def _times(self, blocks: Iterable[Tensor], x: Tensor) -> Tensor:
        return torch.cat([self._apply(block, x) for block in blocks], dim=1)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return ring.linear(weight, x)


class Diagonal(Matrix):
    """y = g∘x + bias with secret gains g, given as a matrix (d, 1)."""

    def __init__(self, ctx: Context, name: str, d: int, gains: FixedWeight | None) -> None:
        super().__init__(ctx, name, (d, 1), gains)

    def _apply(self, weight: Tensor, x: Tensor) -> Tensor:
        return weight.reshape(-1) * x

    def _blocks(self) -> list[slice]:
        return [slice(0, self.shape[0])]
