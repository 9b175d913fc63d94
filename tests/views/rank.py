"""How many relations a role can read off its view: the rank test.

A role's view over a session is every word it received. Play the session again and again with other
words in all streams whose keys the role does not hold, everything else the same: data, permutations,
the role's own keys. A sum (mod 2) of words of the view that never changes owes nothing to those pads:
it is a relation that the role has learnt. Their number is the view's words less the rank mod 2 of the
changes. It must be 0 for P0 and P2; for P1 the number of values that it is meant to see.

Sums of words are all there is while every step is affine in its pads, which shifts are not. `Affine` is
the ring without them: windows and truncations keep all their bits, the same code runs, everything P1
should see comes out exactly, and what P1 then makes of it and returns is constant with it, as an input
of its own would be. (What the shifts' carries show is the subject of `test_redraw`.)
"""

import math

import torch
from torch import Tensor

from protocols.arith.prg import Stream
from protocols.party import Role
from protocols.permllm.domain import Ring64
from tests.views.watch import RIGHT, Fault, Redraw, Walk, watch

SPARE = 12  # a relation that is not there passes as many redraws with probability 2^-12


class Affine(Ring64):
    """Z_2^64 without shifts, so without low bits that a shift would cut. Decoded values, on which P1's
    functions work, are small and arbitrary."""

    def decode(self, x: Tensor, frac: int) -> Tensor:
        """In [-1, 1), from the low bits."""
        return (x & 0xFFFF).double() * 2.0**-15 - 1.0

    def safe_mask(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """Uniform: there is nothing to keep safe."""
        return stream.int64(*shape)

    def round_mask(self, mask: Tensor, bits: int) -> Tensor:
        """All bits."""
        return mask

    def low_bits(self, stream: Stream, bits: int, *shape: int) -> Tensor:
        """Drawn, but 0."""
        return super().low_bits(stream, bits, *shape) * 0

    def truncate_mask(self, mask: Tensor, bits: int) -> Tensor:
        """All bits."""
        return mask

    def truncate_value(self, delta: Tensor, bits: int) -> Tensor:
        """All bits."""
        return delta

    def window_mask(self, mask: Tensor, shift: int) -> Tensor:
        """λ mod 2^32."""
        return mask.to(torch.int32)

    def window_value(self, delta: Tensor, shift: int) -> Tensor:
        """Δ mod 2^32."""
        return delta.to(torch.int32)

    def window_limit(self, frac: int) -> float:
        """None."""
        return math.inf


def relations(walk: Walk, role: Role, known: tuple[str, ...] = (), fault: Fault = RIGHT) -> int:
    """The number of relations between the words that `role` received in a session.

    known: beginnings of the names of streams that it may know, although it does not.
    """
    first = watch(walk, fault=fault)
    base, unknown = _parities(first.view(role)), first.unknown_to(role)
    words = sum(tensor.numel() for tensor in first.view(role))
    pivots: dict[int, int] = {}
    salt = idle = 0
    while len(pivots) < words and idle < SPARE:
        salt += 1
        again = watch(walk, redraw=Redraw(unknown, salt, known), fault=fault)
        idle = 0 if _adds(pivots, base ^ _parities(again.view(role))) else idle + 1
    return words - len(pivots)


def _parities(view: list[Tensor]) -> int:
    """The last bits of all words, as one number."""
    bits = [((tensor.reshape(-1) & 1) == 1).tolist() for tensor in view]
    return int("".join("01"[bit] for part in bits for bit in part) or "0", 2)


def _adds(pivots: dict[int, int], row: int) -> bool:
    """Whether `row` is independent (mod 2) of the rows kept in `pivots`; then it is kept as well."""
    while row:
        top = row.bit_length()
        if top not in pivots:
            pivots[top] = row
            return True
        row ^= pivots[top]
    return False
