"""Whether the messages of sessions with fresh keys are uniform, byte by byte."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.views.watch import RIGHT, Fault, Received, Walk, watch

Public = Callable[[Received], bool]
LEAST = 1300  # values at one place: five of each byte


def uneven(walk: Walk, sessions: int, public: Public, fault: Fault = RIGHT) -> list[str]:
    """The places in received messages whose values are not uniform over sessions with fresh keys.

    A place is a byte of the words of one tensor of one message, or the bit where a word holds no more;
    short messages of one direction and phase are taken together. public: what need not be uniform.
    """
    values: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
    for seed in range(sessions):
        session = watch(walk, fault=fault, seed=seed)
        for r in session.received:
            if not (session.is_key(r.tensor) or public(r)):
                number = r.place if r.tensor.numel() * sessions >= LEAST else ()
                for size, i, column in _columns(r.tensor):
                    values[size, r.source, r.to, r.phase, number, i].append(column)
    counts = {
        place: torch.bincount(torch.cat(parts).long(), minlength=place[0])
        for place, parts in values.items()
    }
    return [str(place) for place, count in counts.items() if chi_square(count) > limit(count)]


def _columns(words: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """How many values there are, which byte, and the bytes."""
    flat = words.reshape(-1)
    if bool(((flat == 0) | (flat == 1)).all()):
        yield 2, 0, flat
        return
    columns = flat.contiguous().view(torch.uint8).reshape(-1, words.element_size())
    yield from ((256, i, column) for i, column in enumerate(columns.T))


def chi_square(counts: Tensor) -> float:
    """Σ (count − expected)² / expected of equally likely values."""
    expected = float(counts.sum()) / len(counts)
    return float(((counts - expected) ** 2).sum()) / expected


def limit(counts: Tensor) -> float:
    """What uniform values exceed with a probability below 10^-8; more where there are few of them."""
    freedom = len(counts) - 1
    return freedom + 7 * math.sqrt(2 * freedom) + 25 + freedom**2 / float(counts.sum())


def public_to_permllm(r: Received) -> bool:
    """Exponents of weights, and what belongs to BFV: keys and ciphertexts, below their primes. (Short
    words are bytes as well, of at most 8 in a row.)"""
    cipher = r.tensor.dtype == torch.uint8 and r.tensor.shape[-1] > 4096
    return cipher or (r.phase == "prepare" and r.tensor.numel() <= 4)


def nothing(r: Received) -> bool:
    return False
