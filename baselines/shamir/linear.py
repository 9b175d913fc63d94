"""Linear layers y = x·Wᵀ + b on P0's weights, shared once and for all.

Phase prepare: P0 shares W at 16 fractional bits and b at 32 (`dealing`). Online, with t < n/2, a product
of shares of x and W is a term of y: no message before its truncation, one opening of each output
(`truncate`). What else is added to y, such as the residual, is added to the term and costs nothing.

With t ≥ n/2 the dealer shares a random B of W's shape in prepare, and E = W − B is opened, once. Online
x − A is opened for a fresh A, and with the dealer's A·Bᵀ

    [x·Wᵀ] = (x − A)·[W]ᵀ + [A]·Eᵀ + [A·Bᵀ]

| phase | from | to | what | elements | hop |
|---|---|---|---|---|---|
| prepare | P0 | each that draws nothing | W, b | m·k + m | 1 |
| prepare, t ≥ n/2 | dealer | each that draws nothing | B | m·k | 1 |
| prepare, t ≥ n/2 | all | kings, and back | E | m·k | 2, 3 |
| online, t ≥ n/2 | all | kings, and back | x − A | n·k | 1, 2 |

Nobody learns anything. Shapes: W (m, k), x (n, k), y (n, m).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.shamir.context import OPERATIONS, Context, Operation
from baselines.shamir.cost import NOTHING, Cost, message, opening
from baselines.shamir.dealing import Sharing, deal, give, receive, sent_by
from baselines.shamir.group import Group
from baselines.shamir.norm import Affine
from baselines.shamir.openings import opened
from baselines.shamir.share import FRAC, Share, Term
from protocols.arith import field61
from protocols.transformer.weights import Linear, Norm

OWNER = 0  # of the weights


@dataclass(frozen=True)
class Weights:
    """A role's part of one linear layer. weight (m, k) at FRAC, bias (m,) at 2·FRAC or None. mask: which of
    the dealer's masks B is, opened: E, where t ≥ n/2."""

    weight: Share
    bias: Share | None
    mask: int | None = None
    opened: Tensor | None = None

    async def __call__(self, ctx: Context, x: Share) -> Term:
        """x (n, k) → a term of (n, m) at FRAC more."""
        value = await self._product(ctx, x.value, "linear")
        if self.bias is not None:
            value = field61.add(value, self.bias.value)
        return Term(value, x.frac + FRAC)

    async def rows(self, ctx: Context, x: Share) -> Term:
        """x (n, m) → a term of x·W (n, k) at FRAC more."""
        return Term(await self._product(ctx, x.value, "rows"), x.frac + FRAC)

    async def _product(self, ctx: Context, x: Tensor, operation: Operation) -> Tensor:
        apply, weight = OPERATIONS[operation], self.weight.value
        if self.mask is None:
            return apply(x, weight)
        a, ab = ctx.take_triple(operation, x, weight, self.mask)
        (d,) = await opened(field61.sub(x, a))
        value = field61.add(apply(d, weight), ab)  # (x − A)·[W]ᵀ + [A·Bᵀ]
        return value if self.opened is None else field61.add(value, apply(a, self.opened))


def share_linear(
    ctx: Context, name: str, shape: tuple[int, int], plain: Linear | None, biased: bool = True
) -> Weights:
    """Share a layer of `shape` (m, k); P0 passes it. All roles."""
    with ctx.step(name):
        return _share_linear(ctx, shape, plain, biased)


def _share_linear(
    ctx: Context, shape: tuple[int, int], plain: Linear | None, biased: bool
) -> Weights:
    weight = _given(ctx, "weight", None if plain is None else plain.weight, shape, FRAC)
    bias = None
    if biased:
        zeros = torch.zeros(shape[0])
        own = None if plain is None else zeros if plain.bias is None else plain.bias
        bias = _given(ctx, "bias", own, shape[:1], 2 * FRAC)
    if ctx.group.majority:
        return Weights(weight, bias)
    mask = _fixed_mask(ctx, shape)
    number = len(ctx.fixed) - 1
    if mask is None:
        return Weights(weight, bias, number)
    masked = field61.sub(weight.value, mask).reshape(-1)
    return Weights(weight, bias, number, ctx.open(masked).reshape(shape))


def _fixed_mask(ctx: Context, shape: tuple[int, int]) -> Tensor | None:
    """Shares of B, None at the dealer, who keeps it."""
    parts = [Sharing(shape[0] * shape[1], ctx.group.t)]
    if not ctx.deals:
        ctx.fixed.append(None)
        return receive(ctx, ctx.group.n, parts, "weight's mask")[0].reshape(shape)
    mask = field61.uniform(ctx.private, *shape)
    ctx.fixed.append(mask)
    deal(ctx, parts, [mask.reshape(-1)])
    return None


def share_table(ctx: Context, name: str, shape: tuple[int, ...], plain: Tensor | None) -> Share:
    """Share a tensor at FRAC; P0 passes it. All roles."""
    return _given(ctx, name, plain, shape, FRAC)


def _given(ctx: Context, what: str, own: Tensor | None, shape: tuple[int, ...], frac: int) -> Share:
    if ctx.deals:
        return Share(ctx.without_data(*shape), frac)
    return Share(give(ctx, what, OWNER, own, shape, frac), frac)


def share_norm(ctx: Context, name: str, width: int, plain: Norm | None, biased: bool) -> Affine:
    """Share a norm's gain and bias; P0 passes it. All roles."""
    shape = (width,)
    with ctx.step(name):
        gain = _given(ctx, "gain", None if plain is None else plain.gain, shape, FRAC)
        if not biased:
            return Affine(gain, None)
        bias = _given(ctx, "bias", None if plain is None else plain.bias, shape, FRAC)
        return Affine(gain, bias)


def share_cost(group: Group, elements: int) -> Cost:
    """`share_table`."""
    return message(sent_by(group, OWNER, [Sharing(elements, group.t)]))


def share_linear_cost(group: Group, m: int, k: int, biased: bool = True) -> Cost:
    """Weights and bias."""
    weights = share_cost(group, m * k)
    weights = weights + share_cost(group, m) if biased else weights
    if group.majority:
        return weights
    masks = message(sent_by(group, group.n, [Sharing(m * k, group.t)]))
    return weights + masks + opening(m * k)


def share_norm_cost(group: Group, width: int, biased: bool) -> Cost:
    """Gain and bias."""
    return share_cost(group, width) * (2 if biased else 1)


def weights_cost(group: Group, n: int, m: int, k: int) -> Cost:
    """`Weights`, called."""
    return NOTHING if group.majority else opening(n * k) + Cost(tripled=n * k + n * m)
