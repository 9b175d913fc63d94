"""Linear layers y = x·Wᵀ + b on P0's weights, shared once and for all.

Phase prepare: P0 shares W at 18 fractional bits and b at 36 (`give`), W in blocks of 16 MiB. A role keeps
[W_i + W_(i+1) | W_i] side by side, so that its term of the product is one product of plain matrices:

    t_i = x_i·(W_i + W_(i+1))ᵀ + x_(i+1)·W_iᵀ = [x_i | x_(i+1)]·[W_i + W_(i+1) | W_i]ᵀ

Online there is no message before the truncation of the sum (`truncate`); whatever else is added to y, such
as the residual, is added to the terms and costs nothing.

| phase | from | to | what | payload | hop |
|---|---|---|---|---|---|
| prepare | P0 | P1, P2 | parts 2 of W and b | 8·(m·k + m) each | 1 |

Nobody learns anything. Shapes: W (m, k), x (n, k), y (n, m). Source: ABY3 (ePrint 2018/403).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from baselines.puma.context import Context
from baselines.puma.cost import Cost
from baselines.puma.norm import Affine
from baselines.puma.share import FRAC, Share, Term, encode
from baselines.puma.share_and_reveal import give, give_cost
from protocols.arith import ring
from protocols.transformer.weights import Linear, Norm

OWNER = 0  # of the weights
BLOCK_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class WeightShares:
    """A role's part of one linear layer: weight int64 (m, 2k), bias at 2·FRAC or None."""

    weight: Tensor
    bias: Share | None = None

    def __call__(self, x: Share) -> Term:
        """x (n, k) at FRAC → terms of (n, m) at 2·FRAC."""
        value = ring.linear(self.weight, torch.cat([x.first, x.second], dim=1))
        if self.bias is not None:
            value += self.bias.first
        return Term(value, x.frac + FRAC)

    def rows(self, choice: Share) -> Term:
        """choice·W, (n, m) at scale 0 → terms of (n, k) at FRAC: rows of a table."""
        out = torch.zeros(choice.shape[0], self.weight.shape[1] // 2, dtype=torch.int64)
        first, second = (part.contiguous().numpy() for part in (choice.first, choice.second))
        _mix(self.weight.numpy(), first, second, out.numpy())
        return Term(out, FRAC)


async def share_linear(
    ctx: Context, shape: tuple[int, int], plain: Linear | None, biased: bool = True
) -> WeightShares:
    """Share a layer of `shape` (m, k); P0 passes it."""
    m, k = shape
    weight = torch.empty(m, 2 * k, dtype=torch.int64)
    step = max(1, BLOCK_ELEMENTS // k)
    for low in range(0, m, step):
        high = min(m, low + step)
        block = None if plain is None else encode(plain.weight[low:high], FRAC)
        part = await give(ctx, OWNER, block, (high - low, k), FRAC)
        torch.add(part.first, part.second, out=weight[low:high, :k])
        weight[low:high, k:] = part.first
    if not biased:
        return WeightShares(weight)
    bias = None if plain is None else _bias(plain, m)
    return WeightShares(weight, await give(ctx, OWNER, bias, (m,), 2 * FRAC))


def _bias(plain: Linear, m: int) -> Tensor:
    values = torch.zeros(m) if plain.bias is None else plain.bias
    return encode(values, 2 * FRAC)


async def share_norm(ctx: Context, width: int, plain: Norm | None, biased: bool) -> Affine:
    """Share a norm's gain and bias; P0 passes it."""
    own = None if plain is None else encode(plain.gain, FRAC)
    gain = await give(ctx, OWNER, own, (width,), FRAC)
    if not biased:
        return Affine(gain, None)
    own = None if plain is None or plain.bias is None else encode(plain.bias, FRAC)
    return Affine(gain, await give(ctx, OWNER, own, (width,), FRAC))


@njit(cache=True, nogil=True)
def _mix(
    weight: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    out: NDArray[np.int64],
) -> None:
    """out += first·weight[:, :k] + second·weight[:, k:], two rows of weights at a time."""
    n, m = first.shape
    k = out.shape[1]
    for i in range(0, m - 1, 2):
        s0, s1 = weight[i, :k], weight[i + 1, :k]
        t0, t1 = weight[i, k:], weight[i + 1, k:]
        for c in range(n):
            a0, a1, b0, b1 = first[c, i], first[c, i + 1], second[c, i], second[c, i + 1]
            row = out[c]
            for j in range(k):
                row[j] += a0 * s0[j] + a1 * s1[j] + b0 * t0[j] + b1 * t1[j]
    if m % 2:
        for c in range(n):
            a0, b0 = first[c, m - 1], second[c, m - 1]
            for j in range(k):
                out[c, j] += a0 * weight[m - 1, j] + b0 * weight[m - 1, k + j]


def share_linear_cost(m: int, k: int, biased: bool = True) -> Cost:
    """Weights, in however many blocks, and bias."""
    weights = give_cost(OWNER, m * k)
    return weights + give_cost(OWNER, m) if biased else weights


def share_norm_cost(width: int, biased: bool) -> Cost:
    """Gain and bias."""
    return give_cost(OWNER, width) * (2 if biased else 1)
