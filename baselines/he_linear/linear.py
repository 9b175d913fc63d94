"""y = W·x + b: P1 encrypts x, P0 multiplies it by W, P1 decrypts y. Here under BFV.

| phase | from | to | what, of n rows | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1 | the scale of W | 8 | 1 |
| online | P1 | P0 | x under encryption | n·`query_bytes` + 16 | 1 |
| online | P0 | P1 | y under encryption | n·`reply_bytes` | 2 |

P0 learns nothing. P1 learns y, so that as many independent x as W has columns give it W. Each row is
encrypted on its own. Sizes: `parameters.Packing`; the rest: `cipher`.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from baselines.he_linear.cipher import Blank, Zero, as_values, blocked, encoded
from baselines.he_linear.ckks_linear import CkksMatrix
from baselines.he_linear.context import Context
from baselines.he_linear.parameters import POLYNOMIAL_BYTES, PRIMES, SEED_BYTES, BfvSizes, Shape
from baselines.he_linear.secret_matrix import SecretMatrix
from protocols.arith.ntt import Words
from protocols.arith.word_bytes import unpacked
from protocols.errors import PeerError
from protocols.party import P0, P1
from protocols.transformer.weights import Linear


class Matrix(SecretMatrix):
    """Under BFV."""

    def __init__(
        self,
        ctx: Context,
        name: str,
        shape: Shape,
        own: Callable[[], Linear] | None = None,
        kept: bool = False,
    ) -> None:
        super().__init__(ctx, name, shape, own, kept)
        assert isinstance(ctx.sizes, BfvSizes)
        self.packing, self._plain_bits = ctx.sizes.packed(shape), ctx.sizes.plain_bits

    def _scaled(self, weight: Tensor) -> tuple[Tensor, float]:
        return rounded(weight, self.packing.weight_bits)

    def _encoded(self, numbers: Tensor) -> Tensor:
        """int64 (groups, blocks, 2, N)."""
        return encoded(numbers.numpy(), self.packing)

    def _blank(self, count: int) -> Blank:
        return self._ctx.user.blank(self.packing.blocks * count)

    def _zero(self) -> Zero:
        return self._ctx.provider.zero(self.packing)

    def _asked(self, x: Tensor) -> Tensor:
        ctx, one = self._ctx, self.packing
        blank = self._blanks.popleft()
        integers, scales = self._integers_of(x)
        with ctx.party.step("query"):
            zeros = blank.c0.reshape(len(x), one.blocks, *blank.c0.shape[1:])
            rows = zip(zeros, integers.numpy(), strict=True)
            query = [ctx.user.encrypt(zero, blocked(row, one)) for zero, row in rows]
            ctx.party.send(P0, blank.seed, torch.stack(query))
        with ctx.party.step("reply"):
            c0, c1 = ctx.receive(self._name, P0, *self._reply_shapes(len(x)))
            wanted, masks = (self._words(c, PRIMES[:1], "reply")[..., 0, :] for c in (c0, c1))
            pairs = zip(wanted, masks, strict=True)
            opened = [ctx.user.open(mine, mask, one) for mine, mask in pairs]
        return torch.from_numpy(np.stack(opened)).double() / (scales * self._scale)

    def _answer(self, n: int, added: Tensor | None) -> None:
        ctx, one = self._ctx, self.packing
        integers = None
        if added is not None:
            integers = self._limited(added.round().long(), 1 << (self._plain_bits - 2))
        shape = (n, one.blocks, one.query_bytes // one.blocks)
        with ctx.party.step("query"):
            seed, query = ctx.receive(
                self._name, P1, (torch.uint8, (SEED_BYTES,)), (torch.uint8, shape)
            )
            words = self._words(query, PRIMES, "query")
        with ctx.party.step("reply"):
            blocks = as_values(seed, words.reshape(-1, *words.shape[2:]))
            rows = []
            for i, (zero, weights) in enumerate(self._zeros.popleft()):
                mine = blocks[i * one.blocks : (i + 1) * one.blocks]
                more = None if integers is None else integers[i].numpy()
                rows.append(ctx.provider.answer(mine, weights.numpy(), zero, one, more))
            ctx.party.send(P1, *(torch.stack(parts) for parts in zip(*rows, strict=True)))

    def _integers_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (n, k) float64 → integers (n, columns) whose norm is below 2^a, and the scale of each row."""
        one, wide = self.packing, self._checked(x)
        if one.shape.exact:
            return wide.long(), torch.ones(len(x), 1, dtype=torch.float64)
        room = 2**one.input_bits - one.shape.columns**0.5 / 2
        scales = room / wide.norm(dim=1, keepdim=True)
        return (wide * scales).round().long(), scales

    def _reply_shapes(self, n: int) -> tuple[tuple[torch.dtype, tuple[int, ...]], ...]:
        one = self.packing
        c0 = one.reply_bytes - one.groups * POLYNOMIAL_BYTES
        return (torch.uint8, (n, c0)), (torch.uint8, (n, one.groups, POLYNOMIAL_BYTES))

    def _words(self, message: Tensor, primes: tuple[int, ...], what: str) -> Words:
        try:
            return unpacked(message.contiguous().numpy(), primes, what)
        except ValueError as error:
            raise PeerError(f"{self._name}: {error}") from None


def rounded(weight: Tensor, bits: float) -> tuple[Tensor, float]:
    """float32 W (rows, columns) → int32 with rows of a norm below 2^bits, and their scale."""
    most = float(weight.norm(dim=1).max())
    scale = (2**bits - weight.shape[1] ** 0.5 / 2) / (most or 1.0)
    return (weight.double() * scale).round().int(), scale


def matrix(
    ctx: Context,
    name: str,
    shape: Shape,
    own: Callable[[], Linear] | None = None,
    kept: bool = False,
) -> SecretMatrix:
    """A matrix under the scheme that the run has keys of."""
    scheme = Matrix if isinstance(ctx.sizes, BfvSizes) else CkksMatrix
    return scheme(ctx, name, shape, own, kept)
