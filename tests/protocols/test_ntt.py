"""Products of polynomials modulo X^N + 1 and several primes, against Python's own integers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.arith import ring
from protocols.arith.ntt import PolynomialRing, Words, scaled

PRIMES = (2**48 - 73727, 2**48 - 16383)
LARGEST = 2**50 - 27  # no transform: of products alone
EDGES = st.sampled_from([0, 1, 2, 1 << 24, PRIMES[0] // 2, PRIMES[0] - 2, PRIMES[0] - 1])
WORDS = EDGES | st.integers(0, PRIMES[0] - 1)


def product(a: list[int], b: list[int], p: int) -> list[int]:
    """a·b modulo X^n + 1 and p, by the definition."""
    n = len(a)
    out = [0] * n
    for i in range(n):
        for j in range(n):
            sign = -1 if i + j >= n else 1
            out[(i + j) % n] += sign * a[i] * b[j]
    return [value % p for value in out]


def both_primes(values: list[int]) -> Words:
    return np.array([[value % p for value in values] for p in PRIMES], np.int64)


@settings(max_examples=40, deadline=None)
@given(n=st.sampled_from([1, 2, 4, 16]), data=st.data())
def test_values_of_a_product_are_products_of_values(n: int, data: st.DataObject) -> None:
    a, b = (data.draw(st.lists(WORDS, min_size=n, max_size=n)) for _ in range(2))
    over = PolynomialRing(n, PRIMES)
    x, y = over.forward(both_primes(a)), over.forward(both_primes(b))
    got = over.backward(over.product(x, y))
    assert got.tolist() == [product(a, b, p) for p in PRIMES]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fill", ["edges", "random"])
def test_sums_of_products(threads: int, fill: str) -> None:
    """Of many terms that are all as large as can be, on one thread and on two."""
    over, shape = PolynomialRing(8, PRIMES), (600, 2, 2, 8)
    rng, column = np.random.default_rng(1), np.array(PRIMES)[:, None]
    x = (
        np.broadcast_to(column - 1, shape)
        if fill == "edges"
        else rng.integers(0, 2**48 - 73727, shape)
    )
    w = (
        np.broadcast_to(column - 1, (3, 600, 2, 8))
        if fill == "edges"
        else rng.integers(0, 2**40, (3, 600, 2, 8))
    )
    before = ring.threads()
    ring.use_threads(threads)
    got = over.sums(np.ascontiguousarray(x), np.ascontiguousarray(w))
    ring.use_threads(before)
    exact = np.einsum("bcjn,gbjn->gcjn", x.astype(object), w.astype(object)) % column
    assert (got == exact).all()


@settings(max_examples=60, deadline=None)
@given(x=WORDS, factor=WORDS)
def test_scaled(x: int, factor: int) -> None:
    assert scaled(np.array([x]), factor, PRIMES[0]).tolist() == [x * factor % PRIMES[0]]


def test_integers_have_a_word_for_each_prime() -> None:
    over = PolynomialRing(4, PRIMES)
    words = over.words(np.array([[0, -1, 5, -(2**40)]]))
    assert words.tolist() == [[[v % p for v in (0, -1, 5, -(2**40))] for p in PRIMES]]


@pytest.mark.parametrize("primes", [[2**50 + 1], [LARGEST], [97]])
def test_primes_that_do_not_fit_are_refused(primes: list[int]) -> None:
    with pytest.raises(ValueError, match="must be below 2\\^50 and 1 modulo 8192"):
        PolynomialRing(4096, primes)
