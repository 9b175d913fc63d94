"""Arithmetic modulo 2^61 − 1, against Python's own integers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protocols.arith import field61
from protocols.arith.field61 import P
from protocols.arith.prg import Prg

EDGES = st.sampled_from([0, 1, 2, 1 << 30, 1 << 60, P // 2, P // 2 + 1, P - 2, P - 1])
RESIDUES = EDGES | st.integers(0, P - 1)
PAIRS = st.lists(st.tuples(RESIDUES, RESIDUES), min_size=1, max_size=40)


def words(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_elements(pairs: list[tuple[int, int]]) -> None:
    a, b = words([pair[0] for pair in pairs]), words([pair[1] for pair in pairs])
    assert field61.add(a, b).tolist() == [(x + y) % P for x, y in pairs]
    assert field61.sub(a, b).tolist() == [(x - y) % P for x, y in pairs]
    assert field61.mul(a, b).tolist() == [x * y % P for x, y in pairs]
    assert field61.mul(a, -3).tolist() == [-3 * x % P for x, _ in pairs]
    assert field61.neg(a).tolist() == [-x % P for x, _ in pairs]
    assert int(field61.total(a, 0)) == sum(x for x, _ in pairs) % P
    assert field61.from_signed(field61.to_signed(a)).tolist() == a.tolist()
    assert all(-P < 2 * x < P for x in field61.to_signed(a).tolist())
    for square, inverse in zip(
        field61.mul(a, a).tolist(), field61.inverse_root(field61.mul(a, a)).tolist(), strict=True
    ):
        assert inverse * inverse * square % P == (square != 0)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 5), m=st.integers(1, 9), k=st.integers(1, 80), data=st.data())
def test_products(n: int, m: int, k: int, data: st.DataObject) -> None:
    """The largest residues everywhere, and others: sums of 32 products fill 127 bits."""
    full = data.draw(st.booleans())
    stream = Prg(bytes(16)).stream("test")
    x = torch.full((n, k), P - 1) if full else field61.uniform(stream, n, k)
    w = torch.full((m, k), P - 1) if full else field61.uniform(stream, m, k)
    right = [[sum(a * b for a, b in zip(p, q, strict=True)) % P for q in w.tolist()]
             for p in x.tolist()]  # fmt: skip
    assert field61.linear(w, x).tolist() == right
    assert field61.matmul_t(x[None], w[None])[0].tolist() == right
    assert field61.matmul(x, w.T).tolist() == right
    assert field61.combine(x.numpy(), w.T).tolist() == right


@given(st.lists(RESIDUES, min_size=1, max_size=6), st.integers(7, 12))
@settings(max_examples=30, deadline=None)
def test_interpolation(coefficients: list[int], at: int) -> None:
    def value(x: int) -> int:
        total: int = sum(c * x**i for i, c in enumerate(coefficients))
        return total % P

    points = range(1, len(coefficients) + 1)
    shares = words([[value(x)] for x in points])
    got = field61.combine(field61.lagrange(points, (0, at)), shares)
    assert got[:, 0].tolist() == [coefficients[0], value(at)]


def test_shapes_without_data() -> None:
    a = torch.empty(3, 1, dtype=torch.int64, device="meta")
    assert field61.mul(a, words([[1, 2]])).shape == (3, 2)
    assert field61.linear(words([[1]]), a).shape == (3, 1)
    assert field61.total(a, 0).shape == (1,)


@pytest.mark.parametrize("rows", [1, 3])
def test_any_columns_of_an_extraction_are_independent(rows: int) -> None:
    """All subsets of the points, so that what is extracted hides what some dealt."""
    matrix = field61.vandermonde(rows, (1, 2, 3, 4))
    for skip in range(4):
        left = [matrix[:, c].tolist() for c in range(4) if c != skip][:rows]
        det = left[0][0] if rows == 1 else _determinant(left)
        assert det % P


def _determinant(m: list[list[int]]) -> int:
    (a, b, c), (d, e, f), (g, h, i) = m
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
