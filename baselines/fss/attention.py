"""The cache of keys and values, and the products with it.

A row is masked once. P0 and P1 keep their shares of its mask, which a product with it takes again; so
keys hold shares of new rows' masks alone.

    scores     q·kᵀ      weighted sum     p·v              `multiply.matmul`, 1 hop each to open

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| offline | P2 | P0, P1 | shares of the masks of r new rows of k, and of v | 2·⌈h·r·w·n/8⌉ | 1 |

P0 and P1 learn masked rows. Source: SIGMA (ePrint 2023/1269), section 4, for a prompt; its rows are all
new.
"""

import torch
from torch import Tensor

from baselines.fss.context import Context
from baselines.fss.multiply import matmul


class _Rows:
    """Masked rows (h, L, w), or their masks at the dealer; shares of the masks at P0 and P1."""

    def __init__(self, heads: int, width: int) -> None:
        self.values = self.shares = torch.empty((heads, 0, width), dtype=torch.int64)

    def append(self, ctx: Context, new: Tensor) -> None:
        """Rows (h, r, w)."""
        share = ctx.shared(tuple(new.shape), ctx.bits, lambda: new)
        self.values = torch.cat([self.values.to(new.device), new], dim=1)
        self.shares = torch.cat([self.shares.to(share.device), share], dim=1)


class Cache:
    """One layer's keys and values at one role, in the offline and in the online pass."""

    def __init__(self, ctx: Context, heads: int, width: int) -> None:
        self._ctx, self._heads, self._width = ctx, heads, width
        self.clear()

    def clear(self) -> None:
        """Forget all rows, in both passes."""
        self._rows = {
            online: (_Rows(self._heads, self._width), _Rows(self._heads, self._width))
            for online in (False, True)
        }

    def fill(self, k: Tensor, v: Tensor) -> None:
        """Take rows (h, r, w)."""
        with self._ctx.step("rows"):
            for rows, new in zip(self._rows[self._ctx.online], (k, v), strict=True):
                rows.append(self._ctx, new)

    def scores(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Take new rows k, v (h, r, w); the masked q·kᵀ, (h, n, L), over all rows."""
        self.fill(k, v)
        keys, _ = self._rows[self._ctx.online]
        return matmul(self._ctx, q, keys.values, keys.shares)

    def weighted(self, p: Tensor) -> Tensor:
        """The masked p·v, (h, n, L) → (h, n, w)."""
        _, values = self._rows[self._ctx.online]
        return matmul(self._ctx, p, values.values.transpose(1, 2), values.shares.transpose(1, 2))
