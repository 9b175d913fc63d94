"""How many relations a role can read off its view: the rank test.

A role's view over a session is every word it received, a function of the words that it does not know:
those of the streams whose keys it does not hold. Play the session again with each of these words
greater by 2^32 or not, by a coin. Products of two such changes are multiples of 2^64, so the view
changes by 2^32·J·e for the coins e and the matrix J of its derivatives, exactly. A row of J that
depends (mod 2) on the others is a relation between words of the view that owes nothing to the pads: the
role has learnt it. So the rank of J is found from about as many sessions as the view has words. Missing
rows must be 0 for P0 and P2, and for P1 the number of values that it is meant to see.

That needs steps without shifts. `Affine` is PermLLM's ring without them: the same code runs, windows and
truncations keep all their bits, and what P1 should see comes out exactly. P1's functions f work on its
low bits, which never change: its reply is an input like any other. (What carries of shifts would show is
the subject of `test_redraw`.)

Systems that compute with bits are played with all unknown words drawn anew (`nudged=False`) and the last
bit of every word is looked at: that finds the relations that are sums of words, whatever the pads.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from protocols.arith.prg import Stream
from protocols.party import Role
from protocols.permllm.domain import Ring64
from tests.views.watch import NUDGED_BIT, RIGHT, Change, Fault, Session, Walk, watch

SPARE = 12  # a relation that is not there passes as many redraws with probability 2^-12


class Affine(Ring64):
    """Z_2^64 without shifts, so without low bits that a shift would cut; windows are as wide. Decoded
    values, on which P1's functions work, are small and arbitrary."""

    window_dtype = packed_dtype = torch.int64
    exact = False  # products of masks row by row, from streams that can be watched

    def decode(self, x: Tensor, frac: int) -> Tensor:
        """In [-1, 1), from the low bits."""
        return (x & 0xFFFF).double() * 2.0**-15 - 1.0

    def safe_mask(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """Uniform: there is nothing to keep safe."""
        return stream.int64(*shape)

    def narrow_mask(self, stream: Stream, *shape: int, scale: float = 1.0) -> Tensor:
        """As wide as any."""
        return stream.int64(*shape)

    def round_mask(self, mask: Tensor, bits: int | Tensor) -> Tensor:
        """All bits."""
        return mask

    def low_bits(self, stream: Stream, bits: int | Tensor, *shape: int) -> Tensor:
        """Drawn, but 0."""
        return super().low_bits(stream, bits, *shape) * 0

    def truncate_mask(self, mask: Tensor, bits: int) -> Tensor:
        """All bits."""
        return mask

    def truncate_value(self, delta: Tensor, bits: int) -> Tensor:
        """All bits."""
        return delta

    def pack(self, x: Tensor, size: int) -> Tensor:
        """All bits."""
        return x.contiguous()

    def unpack(self, packed: Tensor) -> Tensor:
        """All bits."""
        return packed

    def packed_shape(self, size: int, *shape: int) -> tuple[int, ...]:
        """As it is."""
        return shape

    def signed(self, x: Tensor, size: int) -> Tensor:
        """All bits."""
        return x

    def short_mask(self, stream: Stream, bits: int, safe_bits: int, *shape: int) -> Tensor:
        """Uniform, of all bits."""
        return stream.int64(*shape)

    def shorten(self, half: Tensor, bits: int) -> Tensor:
        """All bits."""
        return half

    def lift(self, short: Tensor, bits: int) -> Tensor:
        """As it is."""
        return short

    def window_mask(self, mask: Tensor, shift: int) -> Tensor:
        """All bits."""
        return mask

    def window_value(self, delta: Tensor, shift: int) -> Tensor:
        """All bits."""
        return delta

    def widen(self, window: Tensor, bits: int) -> Tensor:
        """As it is."""
        return window

    def window_limit(self, frac: int) -> float:
        """None."""
        return math.inf


def relations(
    walk: Walk,
    role: Role,
    known: tuple[str, ...] = (),
    fault: Fault = RIGHT,
    nudged: bool = True,
    view: Callable[[Session], list[Tensor]] | None = None,
) -> int:
    """The number of relations between the words that `role` received in a session.

    known: beginnings of the names of streams that it may know, although it does not. view: other words
    to look at, such as what the role can compute from those that it received.
    """
    first = watch(walk, fault=fault)
    bit = NUDGED_BIT if nudged else 0
    view = view or (lambda session: session.view(role))
    base, unknown = _bits(view(first), bit), first.unknown_to(role)
    words = sum(tensor.numel() for tensor in view(first))
    pivots: dict[int, int] = {}
    salt = idle = 0
    while len(pivots) < words and idle < SPARE:
        salt += 1
        again = watch(walk, Change(unknown, salt, nudged, known), fault)
        idle = 0 if _adds(pivots, base ^ _bits(view(again), bit)) else idle + 1
    return words - len(pivots)


def _bits(view: list[Tensor], bit: int) -> int:
    """One bit of every word, as one number."""
    bits = [((tensor.reshape(-1) >> bit) & 1).tolist() for tensor in view]
    return int("".join(map(str, itertools.chain(*bits))) or "0", 2)


def _adds(pivots: dict[int, int], row: int) -> bool:
    """Whether `row` is independent (mod 2) of the rows kept in `pivots`; then it is kept as well."""
    while row:
        top = row.bit_length()
        if top not in pivots:
            pivots[top] = row
            return True
        row ^= pivots[top]
    return False
