"""Circuits on plain numbers: their errors as stated, over the whole range, and their depth."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from torch import Tensor

from baselines.ckks import functions
from baselines.ckks.attention import Head
from baselines.ckks.functions import DEVIATION, ELEMENTWISE, INPUT_SCALE, RANGES, SCORE_BOUND, Rows
from baselines.ckks.operations import Levels, Plain, polynomial, polynomial_levels
from baselines.ckks.parameters import VALUE_BITS
from protocols.errors import Unsupported
from protocols.expected_answer import apply_nonlinear, attention
from protocols.workload import NonlinearOp

SLOTS = 4096


class Watched(Plain):
    """Remembers the largest value that would be re-encrypted."""

    largest = 0.0

    def ready(self, x: Any, levels: int) -> Any:
        self.largest = max(self.largest, float(np.abs(x).max()))
        return x


def levels(top: int, may_reencrypt: bool = True) -> Levels:
    return Levels(top, "circuit", 16384, may_reencrypt)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.randoms(use_true_random=False))
def test_polynomial(k: int, random: Any) -> None:
    """The right value in the declared levels, and in no fewer."""
    c = [random.choice((-1, 1)) * random.uniform(0.1, 1) for _ in range(2**k)]
    x = np.linspace(-1, 1, 257)
    assert np.abs(polynomial(Plain(), x, c) - chebyshev.chebval(x, c)).max() < 1e-9
    walk = levels(polynomial_levels(2**k))
    assert polynomial(walk, walk.fresh(1), c).left == 0
    short = levels(polynomial_levels(2**k) - 1)
    with pytest.raises(Unsupported, match="is deeper than the"):
        polynomial(short, short.fresh(1), c)


def test_polynomials_with_zeros() -> None:
    x = np.linspace(-1, 1, 257)
    for c in ([0.0] * 8, [1.5, *[0.0] * 7], [0.0] * 7 + [1.0], [0, 0, 1, 0, 1e-20, 0, 0, 0]):
        off = np.abs(polynomial(Plain(), x, c) - chebyshev.chebval(x, c)).max()
        assert off < 2e-10


@pytest.mark.parametrize(
    ("op", "error", "relative"),
    [
        ("exp", 2e-10, False),
        ("gelu", 2e-6, False),
        ("reciprocal", 2e-9, True),
        ("rsqrt", 1e-9, True),
    ],
)
def test_elementwise_functions(op: NonlinearOp, error: float, relative: bool) -> None:
    x = np.linspace(*RANGES[op], 100_001)
    right = apply_nonlinear(op, torch.from_numpy(x)).numpy()
    got: Any = ELEMENTWISE[op](Watched(), x * INPUT_SCALE.get(op, 1.0))
    off = np.abs(got / right - 1) if relative else np.abs(got - right)
    assert off.max() <= error


def rows_of(x: Tensor, op: NonlinearOp) -> tuple[Tensor, Watched]:
    """Softmax or LayerNorm of the rows of x, on plain numbers."""
    ops, rows = Watched(), Rows.of(x.shape[-1], SLOTS)
    if op == "softmax":
        packed = rows.pack(x) / SCORE_BOUND
        got = functions.softmax(ops, packed, rows.length, rows.valid(), rows.sums)
        return rows.unpack(got, len(x)), ops
    return rows.unpack(functions.layernorm(ops, rows.pack(x), rows), len(x)), ops


@pytest.mark.parametrize("length", [1, 2, 50, 128, 1000, 4096])
def test_softmax(length: int) -> None:
    """Rows of any shape: flat, steep, all of one bound, one weight alone, random."""
    generator = torch.Generator().manual_seed(length)
    random = torch.randn((20, length), generator=generator, dtype=torch.float64)
    one = torch.full((1, length), -SCORE_BOUND)
    one[0, -1] = SCORE_BOUND
    edges = [torch.full((1, length), v) for v in (-SCORE_BOUND, 0.0, SCORE_BOUND)]
    steep = torch.linspace(-SCORE_BOUND, SCORE_BOUND, length)[None]
    bound = (4 * random).clamp(-SCORE_BOUND, SCORE_BOUND)
    x = torch.cat([random, 3 * random, bound, one, steep, *edges]).double()
    x = x.clamp(-SCORE_BOUND, SCORE_BOUND)
    got, ops = rows_of(x, "softmax")
    assert float((got - torch.softmax(x, -1)).abs().max()) <= 2e-5
    assert ops.largest <= 2**VALUE_BITS


@pytest.mark.parametrize("length", [8, 96, 768, 4096])
def test_layernorm(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    x = torch.randn((12, length), generator=generator, dtype=torch.float64)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
    deviations = torch.linspace(*DEVIATION, 12, dtype=torch.float64)[:, None]
    got, ops = rows_of(x * deviations + 3, "layernorm")
    off = (got - apply_nonlinear("layernorm", x * deviations)).abs() / x.abs().max()
    assert float(off.max()) <= 1e-4
    assert float(off[6:].max()) <= 3e-6
    assert ops.largest <= 2**VALUE_BITS


@pytest.mark.parametrize(("n", "keys", "d"), [(1, 64, 64), (3, 9, 5), (2, 100, 32), (1, 1, 1)])
def test_attention(n: int, keys: int, d: int) -> None:
    """And no slot of what P1 decrypts has anything but the answer."""
    generator = torch.Generator().manual_seed(d)
    q, k, v = (
        torch.randn((rows, d), generator=generator, dtype=torch.float64) for rows in (n, keys, keys)
    )
    head, ops = Head(keys, d, SLOTS), Watched()
    got = head.attend(ops, head.pack_queries(q), head.pack_rows(k), head.pack_rows(v))
    right = attention(q, k, v)
    assert float((head.unpack(got) - right).abs().max()) <= 1e-4
    assert ops.largest <= 2**VALUE_BITS
    others = np.ones(SLOTS, bool)
    others[:: head.rows] = False
    assert not got[:, others].any()


def test_reencryptions_follow_the_depth() -> None:
    """One for each division of a softmax and its last corrections; none where all levels fit."""
    rows = Rows.of(128, 8192)
    for top, reencryptions in ((7, 5), (18, 1), (40, 0)):
        walk = levels(top)
        functions.softmax(walk, walk.fresh(3), rows.length, rows.valid(), rows.sums)
        assert walk.reencryptions == [3] * reencryptions
        assert walk.rotations == {64 << i for i in range(7)}


def test_what_is_too_deep_is_refused() -> None:
    rows = Rows.of(128, 8192)
    walk = levels(7, may_reencrypt=False)
    with pytest.raises(Unsupported, match=r"deeper than the 7 levels .* system\.reencrypt=true"):
        functions.softmax(walk, walk.fresh(1), rows.length, rows.valid(), rows.sums)
    walk = levels(3)
    with pytest.raises(Unsupported, match=r"needs 7 levels at once.* has 3"):
        functions.gelu(walk, walk.fresh(1))


def test_divisions_come_within_what_they_say() -> None:
    """Every Σy² of extreme rows lies within the bounds of its division."""
    for length in (2, 64, 1024):
        heights = np.linspace(0, 2 * SCORE_BOUND, 50)
        for count in {1, length // 2, length - 1}:
            for j, division in enumerate(functions.divisions(length, SCORE_BOUND)):
                a = heights * 2.0**j / SCORE_BOUND
                total = count * np.exp(a - a) + (length - count) * np.exp(-a)
                squares = (count + (length - count) * np.exp(-2 * a)) / total**2
                if j:
                    assert squares.min() >= division.low
                    assert squares.max() <= division.high
    assert math.isclose(functions.inverse_error(1.0, 3.0, 4), 1 / math.cosh(4 * math.acosh(2)))
