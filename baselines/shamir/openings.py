"""Protocols as coroutines that pause where something is opened, so that independent ones share openings.

A protocol is an `async def` that awaits an `Opening`, and nothing else. All parties run the same
protocols. `drive` runs one over a `Context`; `together` runs several in lockstep: what they open in one
round travels together, in two hops.
"""

from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from baselines.shamir.context import Context
from protocols.arith import field61

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
Running = Coroutine[Any, Any, T]


@dataclass(frozen=True)
class Opening:
    """A vector of masked shares. `await` it to get their secrets."""

    shares: Tensor

    def __await__(self) -> Generator["Opening", Tensor, Tensor]:
        return (yield self)


async def opened(*shares: Tensor) -> list[Tensor]:
    """The secrets of shares of any shapes, all in one round."""
    flat = await Opening(field61.concatenate([share.reshape(-1) for share in shares]))
    pieces = torch.split(flat, [share.numel() for share in shares])
    return [piece.reshape(share.shape) for piece, share in zip(pieces, shares, strict=True)]


def drive(ctx: Context, protocol: Running[T]) -> T:
    """Run `protocol` to its end, inside the party's current phase."""
    secrets: Tensor | None = None
    while True:
        try:
            opening = protocol.send(secrets)
        except StopIteration as end:
            result: T = end.value
            return result
        secrets = ctx.open(opening.shares)


@overload
async def together(a: Running[A], b: Running[B], /) -> tuple[A, B]: ...
@overload
async def together(*protocols: Running[T]) -> tuple[T, ...]: ...
async def together(*protocols: Running[Any]) -> tuple[Any, ...]:
    """Run protocols in lockstep and return what they return, in order."""
    results: list[Any] = [None] * len(protocols)
    secrets: dict[int, Tensor | None] = dict.fromkeys(range(len(protocols)))
    while True:
        wanted: dict[int, Tensor] = {}
        for index, received in secrets.items():
            try:
                wanted[index] = protocols[index].send(received).shares
            except StopIteration as end:
                results[index] = end.value
        if not wanted:
            return tuple(results)
        found = await Opening(field61.concatenate(list(wanted.values())))
        pieces = torch.split(found, [shares.numel() for shares in wanted.values()])
        secrets = dict(zip(wanted, pieces, strict=True))
