"""Products of two shared values, and their way back to degree t.

**t < n/2** (Damgård, Nielsen, CRYPTO 2007). The product of two shares of degree t is a share of the
product, of degree 2t: a `Term`. So is any sum of products, an inner product or a matrix product, without
a message. With a double, r shared with degree t and with degree 2t, one opening (`Context.open`) brings a
term back:

    e = z + r, opened               [z] = e − [r]

| what is opened | elements | hops |
|---|---|---|
| z + r | 1 for each element of the result | 2 |

**t ≥ n/2**, with a dealer alone (Beaver, CRYPTO 1991). No n shares of degree 2t can be opened. With the
dealer's random a, b and a·b, also of matrices,

    d = x − a, e = y − b, opened    [x·y] = d·[y] + [a]·e + [a·b]

| what is opened | elements | hops |
|---|---|---|
| x − a, y − b | 1 for each element of both factors | 2 |

is of degree t, and need not be brought back. All parties learn what is opened, which r, a, b hide.
"""

from baselines.shamir.context import OPERATIONS, Context, Operation
from baselines.shamir.cost import NOTHING, Cost, opening
from baselines.shamir.group import Group
from baselines.shamir.openings import opened
from baselines.shamir.share import Share, Term
from protocols.arith import field61


async def product(ctx: Context, x: Share, y: Share, operation: Operation = "times") -> Term:
    """x·y: elementwise with broadcasting; of `heads`: x (h, n, k) · y (h, m, k)ᵀ; to `carry`: of the k rows
    of x with the first k of y, and of all but the first with the other k − 1."""
    apply, frac = OPERATIONS[operation], x.frac + y.frac
    if ctx.group.majority:
        return Term(apply(x.value, y.value), frac)
    a, b, ab = ctx.take_triple(operation, x.value, y.value)
    d, e = await opened(field61.sub(x.value, a), field61.sub(y.value, b))
    cross = field61.add(apply(d, y.value), apply(a, e))  # d·[y] + [a]·e
    return Term(field61.add(cross, ab), frac)


async def reduce(ctx: Context, x: Term) -> Share:
    """A share of degree t of the same secret."""
    if not ctx.group.majority:
        return Share(x.value, x.frac)
    low, high = ctx.take_doubles(x.value.numel())
    (e,) = await opened(field61.add(x.value.reshape(-1), high))
    return Share(field61.sub(e, low).reshape(x.value.shape), x.frac)


async def multiply(ctx: Context, x: Share, y: Share, operation: Operation = "times") -> Share:
    """`product` as a share of degree t, at the sum of their scales."""
    return await reduce(ctx, await product(ctx, x, y, operation))


def product_cost(
    group: Group, elements: int, other: int | None = None, result: int | None = None
) -> Cost:
    """Of factors of `elements` and `other`; the product has `result`: as many as the first if None."""
    if group.majority:
        return NOTHING
    factors = elements + (elements if other is None else other)
    return opening(factors) + Cost(tripled=factors + (elements if result is None else result))


def reduce_cost(group: Group, elements: int) -> Cost:
    """One opening, one double an element."""
    return opening(elements) + Cost(doubles=elements) if group.majority else NOTHING


def multiply_cost(
    group: Group, elements: int, other: int | None = None, result: int | None = None
) -> Cost:
    """As `product_cost` counts, and the way back."""
    made = elements if result is None else result
    return product_cost(group, elements, other, made) + reduce_cost(group, made)
