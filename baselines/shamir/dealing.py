"""Sharing what one role knows, with pairwise keys in the place of messages.

An owner shares secrets by a polynomial of degree d. Its values at the first points may be chosen at
will, so those parties draw them from the key that they share with the owner:

| secret | drawn from keys | sent |
|---|---|---|
| the owner's choice | d values, at the d parties after the owner | the others' |
| random | d + 1 values, and they say what the secret is | the others' |

| from | to | what | elements a secret | hop |
|---|---|---|---|---|
| owner | each other party that draws nothing | its value | 1 | 1 |

The owner's own value follows from the rest. Any t parties (d ≥ t) but the owner see independent uniform
values. A deal is made in blocks, and sent in one message. Key κ_ij is drawn by P_i, i < j, or the
dealer, and sent in phase prepare, 16 bytes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from baselines.shamir.context import Context
from baselines.shamir.group import Group
from baselines.shamir.share import encode
from protocols.arith import field61
from protocols.arith.field61 import Words
from protocols.errors import OutOfRange
from protocols.party import ALL_ROLES
from protocols.system import Pair

WORD = 8
BLOCK = 1 << 19  # secrets whose drawn values are held at once


@dataclass(frozen=True)
class Sharing:
    """`count` secrets by polynomials of `degree`. chosen: by the owner, rather than random."""

    count: int
    degree: int
    chosen: bool = True

    @property
    def drawn(self) -> int:
        """How many parties draw their values."""
        return self.degree if self.chosen else self.degree + 1


@lru_cache(256)
def _completion(group: Group, owner: int, drawn: int, chosen: bool) -> Words:
    """From the values that are drawn (after the secret, if chosen) to those of the parties after them,
    then the owner's."""
    order = group.after(owner)
    known = [*([0] if chosen else []), *(j + 1 for j in order[:drawn])]
    rest = [j + 1 for j in order[drawn:]]
    return field61.lagrange(known, [*rest, *([owner + 1] if owner < group.n else [])])


def deal(ctx: Context, parts: Sequence[Sharing], secrets: Sequence[Tensor | None]) -> list[Tensor]:
    """Share flat `secrets` (None: random ones) as `parts` say, one message to each party. Returns this
    role's own shares, none of the dealer's."""
    order = ctx.group.after(ctx.index)
    sent: dict[int, list[Tensor]] = {j: [] for j in order}
    own = []
    for part, secret in zip(parts, secrets, strict=True):
        matrix = _completion(ctx.group, ctx.index, part.drawn, part.chosen)
        rest = [torch.empty(part.count, dtype=torch.int64) for _ in matrix]
        for lo in range(0, part.count, BLOCK):
            hi = min(lo + BLOCK, part.count)
            values = [] if secret is None else [secret[lo:hi]]
            values += [ctx.draw(ctx.index, j, hi - lo) for j in order[: part.drawn]]
            for row, made in zip(rest, field61.combine(matrix, torch.stack(values)), strict=True):
                row[lo:hi] = made
        for j, row in zip(order[part.drawn :], rest, strict=False):
            sent[j].append(row)
        if not ctx.deals:
            own.append(rest[-1])
    for j, tensors in sent.items():
        if tensors:
            ctx.party.send(ALL_ROLES[j], *tensors)
    return own


def receive(
    ctx: Context, owner: int, parts: Sequence[Sharing], what: str = "sharing"
) -> list[Tensor]:
    """This party's shares of what role number `owner` deals. what: its name in errors."""
    place = ctx.group.after(owner).index(ctx.index)
    counts = [part.count for part in parts if place >= part.drawn]
    sent = iter(ctx.receive(what, owner, *counts) if counts else ())
    return [
        next(sent) if place >= part.drawn else ctx.draw(owner, ctx.index, part.count)
        for part in parts
    ]


def give(
    ctx: Context, what: str, owner: int, own: Tensor | None, shape: tuple[int, ...], frac: int
) -> Tensor:
    """This party's shares (degree t) of numbers of `shape` at `frac`, which role number `owner` passes.
    what: their name in errors. Raises OutOfRange, before anything is sent, for a number that is none or
    not below 2^(60 − frac)."""
    parts = [Sharing(torch.Size(shape).numel(), ctx.group.t)]
    if ctx.index != owner:
        return receive(ctx, owner, parts, what)[0].reshape(shape)
    if own is None:
        raise ValueError(ctx.named(f"{ctx.role} must pass {what}"))
    largest = float(own.abs().max()) if own.numel() else 0.0
    if not largest < 2.0 ** (60 - frac):  # also of what is no number
        raise OutOfRange(ctx.named(f"{what} has {largest:.3g}, must be below 2^{60 - frac}"))
    return deal(ctx, parts, [encode(own, frac).reshape(-1)])[0].reshape(shape)


def sent_by(group: Group, owner: int, parts: Sequence[Sharing]) -> Counter[Pair]:
    """Bytes by pair of one `deal`."""
    traffic: Counter[Pair] = Counter()
    for part in parts:
        for j in group.after(owner)[part.drawn :]:
            traffic[ALL_ROLES[owner], ALL_ROLES[j]] += WORD * part.count
    return +traffic
