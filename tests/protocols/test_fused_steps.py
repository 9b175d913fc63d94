"""The steps of PermLLM's fewer hops alone: exact where they say so, at the ends of their ranges."""

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from protocols.arith.prg import Stream
from protocols.errors import OutOfRange, PeerError
from protocols.in_process_party import MemoryParty, run_parties
from protocols.party import P0, P1, P2, ROLES
from protocols.permllm.context import Context
from protocols.permllm.domain import Ring64
from protocols.permllm.input_sharing import Input
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.slot_softmax import SlotCache
from protocols.permllm.slot_sum import SlotSum
from protocols.permllm.square_sum import SquareSum
from protocols.permllm.system import PermLLM
from protocols.workload import Layer
from tests.play import play, small

FULL = PermLLMOptions(variant="fused")


class Fixed(Stream):
    """Draws that are all one word."""

    def __init__(self, word: int) -> None:
        super().__init__(bytes(16))
        self._word = word

    def int64(self, *shape: int) -> Tensor:
        return torch.full(shape, self._word)


def test_the_sum_of_values_is_exact_in_the_masks_of_both_sides() -> None:
    """o's half at P0 and its mask at the dealer are Σ p·v modulo 2^64: a low part that the mask has and
    the half has not would leave P0 with x's own low bits."""
    halves: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    right: Callable[..., Any] = SlotSum.__call__

    def recorded(self: SlotSum, weights: Any, *scales: int) -> Any:
        out, length = right(self, weights, *scales), weights.p.shape[-1]
        if self.role != P1 and out.half is not None:
            cache = self._cache.values
            rows = cache.value if self.role == P0 else cache.mask
            halves[self.role] = weights.p.held[:, 0], rows.view(length).clone(), out.held[:, 0]
        return out

    with patch.object(SlotSum, "__call__", recorded):
        play(PermLLM, Layer(small("llama"), 1, 9), options=FULL)
    p, v, o = (a + b for a, b in zip(halves[P0], halves[P2], strict=True))
    heads, groups = len(p), len(p) // len(v)
    assert torch.equal(o, (p.unsqueeze(-1) * v.repeat_interleave(groups, 0)).sum(1))
    assert heads == len(o)


def test_the_slots_of_one_answer_are_not_those_of_the_next() -> None:
    cache = SlotCache(2, 4, torch.int64, 3)
    assert [cache.slots.count(length) for length in (8, 9, 10)] == [8, 3, 3]
    cache.clear()
    assert cache.slots.count(11) == 11


@pytest.mark.parametrize("word", [0, -1, (1 << 27) << 16, -1 << (27 + 16)])
def test_masks_near_the_ends_are_moved_into_the_middle(word: int) -> None:
    mask = int(Ring64().short_mask(Fixed(word), 16, 28, 1))
    assert 1 << 28 <= mask < (1 << 48) - (1 << 28)


def squared(party: MemoryParty, row: Tensor) -> Tensor | None:
    """Σ x² at P1, of its row (1, d)."""
    ctx = Context(party, None, Ring64())
    with party.phase("prepare"):
        ctx.establish()
    step, given = SquareSum(ctx, "squares"), Input(ctx, "x", tuple(row.shape), 30)
    with party.phase("offline"):
        ctx.begin_offline(range(1))
        step(given.offline())
    ctx.begin_online(0)
    if party.role == P2:
        return None
    with party.phase("online"):
        return step(given.online(row if party.role == P1 else None))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_of_squares_is_right_at_the_ends_of_values_and_masks(sign: int) -> None:
    """x̂ − ℓ stays below 0 and above −2^48 for the least and the largest ℓ that are left as drawn."""
    row = sign * torch.linspace(16000.37, 16383.1, 7, dtype=torch.float64)[None]
    right = Ring64.short_mask
    for word in (1 << (27 + 16), 1 << (28 + 16), -((1 << 28) + 1) << 16):

        def drawn(ring: Ring64, _: Stream, *sizes: int, word: int = word) -> Tensor:
            return right(ring, Fixed(word), *sizes)

        with patch.object(Ring64, "short_mask", drawn):
            square = run_parties(dict.fromkeys(ROLES, partial(squared, row=row)))[P1]
            assert square is not None
            assert float(square) == pytest.approx(float(row.square().sum()), rel=1e-6)


def test_squares_that_do_not_fit_are_refused() -> None:
    row = torch.full((1, 128), 12_000.0, dtype=torch.float64)
    with pytest.raises((OutOfRange, PeerError), match="squares sum to"):
        run_parties(dict.fromkeys(ROLES, partial(squared, row=row)))
