"""Contexts of SEAL are held to 128 bits of security."""

import pytest

from protocols.arith.seal_context import BFV, CKKS, chosen_primes, context


def test_primes_too_large_for_the_ring_are_refused() -> None:
    context(CKKS, 4096, chosen_primes(4096, (54, 55)))  # 109 bits are allowed
    with pytest.raises(ValueError, match=r"^SEAL refuses N = 4096 with primes of \[55, 55\] bits"):
        context(BFV, 4096, chosen_primes(4096, (55, 55)), 1 << 20)
