"""MPCFormer's primitives: exactness, accuracy over their ranges, failure probabilities, costs."""

from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.additive import (
    a2b,
    approx,
    beaver,
    compare,
    maximum,
    primitive_costs,
    product_truncation,
    truncate,
)
from baselines.additive.context import Context
from baselines.additive.encoding import decode, encode
from baselines.additive.exponential import exponential
from baselines.additive.functions import function, function_cost
from baselines.additive.norm import inverse_of, normalize
from baselines.additive.options import Approx
from baselines.additive.reciprocal import OUT_FRAC, positive_reciprocal
from baselines.additive.softmax import WEIGHT_FRAC, softmax
from baselines.mpcformer.options import Settings
from tests.additive import LOCAL, ULP, Protocol, play

Truncation = Literal["local", "exact"]
EXACT = Settings(truncation="exact")
BOTH = pytest.mark.parametrize("chosen", [LOCAL, EXACT], ids=["local", "exact"])
ANY_INT64 = st.integers(-(2**63), 2**63 - 1)
FEW = settings(max_examples=12, deadline=None)


def off_by(got: Tensor, value: Tensor, bits: int) -> Tensor:
    """|got − value / 2^bits| in units of got, without rounding `value` to float64."""
    whole, rest = value >> bits, value & ((1 << bits) - 1)
    return ((got - whole).double() - rest.double() * 2.0**-bits).abs()


@pytest.mark.parametrize("bits", [1, 16, 61])
def test_exact_truncation_never_fails(bits: int) -> None:
    """A million values up to the largest allowed."""
    generator = torch.Generator().manual_seed(bits)
    x = torch.randint(-(2**62), 2**62, (1_000_000,), generator=generator)
    x[:4] = torch.tensor([-(2**62), 2**62 - 1, 0, -1])
    got, cost = play(lambda ctx, t: truncate.truncate(ctx, t, bits), x, chosen=EXACT)
    assert float(off_by(got, x, bits).max()) <= 1.0
    assert cost == primitive_costs.truncation(EXACT, len(x))


def test_local_truncation_fails_as_often_as_stated() -> None:
    """|x|·2^-64 an element, by 2^(64−s); within 1 ulp otherwise."""
    x = torch.full((1_000_000,), 2**54)
    got, cost = play(lambda ctx, t: truncate.truncate(ctx, t, 16), x)
    error = off_by(got, x, 16)
    failed = error > 1.0
    assert 850 < int(failed.sum()) < 1110  # 977 ± 4 standard deviations
    assert bool((error[failed] >= 2.0**47).all())
    assert cost == primitive_costs.Cost()
    small, _ = play(lambda ctx, t: truncate.truncate(ctx, t, 16), x >> 24)
    assert float(off_by(small, x >> 24, 16).max()) <= 1.0


def test_exact_products_never_fail() -> None:
    """A million products of the largest operands allowed, whose shares would often wrap."""
    edge = 1 << product_truncation.EXACT_BITS
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randint(-edge, edge, (2, 1_000_000), generator=generator)
    x[:2], y[:2] = torch.tensor([-edge, edge - 1]), torch.tensor([-edge, -edge])
    got, cost = play(
        lambda ctx, a, b: product_truncation.product(ctx, a, b, 64), x, y, chosen=EXACT
    )
    assert float((got.double() - x.double() * y.double() * 2.0**-64).abs().max()) <= 1.0
    assert cost == primitive_costs.wide_product(*[len(x)] * 3)
    lax, _ = play(lambda ctx, a, b: product_truncation.product(ctx, a, b, 64), x, y)
    wrong = (lax.double() - x.double() * y.double() * 2.0**-64).abs() > 1.0
    assert 180 < int(wrong.sum()) < 310  # 2·E|x|·2^-64 = 2^-12 each: 244 ± 4 standard deviations


@FEW
@given(st.lists(st.tuples(ANY_INT64, ANY_INT64), min_size=1, max_size=40))
def test_comparisons_are_exact(pairs: list[tuple[int, int]]) -> None:
    """On the whole ring, its ends included."""
    ends = [(0, 0), (-(2**63), 2**63 - 1), (2**63 - 1, 1), (-1, -1), (1, 0)]
    x, y = torch.tensor(pairs + ends).T.contiguous()
    n = len(x)
    cases: list[tuple[Protocol, Tensor, primitive_costs.Cost]] = [
        (compare.less_than_zero, (x < 0).long(), primitive_costs.less_than_zero(n)),
        (compare.is_zero, (x == 0).long(), primitive_costs.is_zero(n)),
        (compare.relu, x.clamp(min=0), primitive_costs.relu(n)),
    ]
    for protocol, right, cost in cases:
        got, measured = play(protocol, x)
        assert torch.equal(got, right)
        assert measured == cost
    product, cost = play(beaver.multiply, x, y)
    assert torch.equal(product, x * y)
    assert cost == primitive_costs.product(n, n, n)


@FEW
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=33))
def test_tournament(values: list[int]) -> None:
    x = torch.tensor(values)
    largest, cost = play(maximum.maximum, x.reshape(1, -1))
    assert int(largest) == max(values)
    assert cost == primitive_costs.maximum(1, len(values))
    index, cost = play(maximum.argmax, x)
    assert values[int(index)] == max(values)
    assert cost == primitive_costs.argmax(len(values))


# Where each function is promised to be within 4 ulp of its approximation.
RANGES = {
    "exp": (-512.0, 6.0),
    "rsqrt": (0.0, 200.0),
    "sigmoid": (-512.0, 512.0),
    "tanh": (-256.0, 256.0),
    "gelu": (-18.0, 18.0),
    "silu": (-512.0, 512.0),
    "quad": (-1000.0, 1000.0),
}


@BOTH
@pytest.mark.parametrize("name", RANGES)
@FEW
@given(data=st.data())
def test_functions_are_their_approximation(name: str, chosen: Settings, data: Any) -> None:
    """Within 4 ulp of the approximation in exact arithmetic, over the whole range and at its ends."""
    low, high = RANGES[name]
    drawn = data.draw(st.lists(st.floats(low, high), min_size=1, max_size=20))
    x = encode(torch.cat([torch.tensor([*drawn, low, high, 0.0]), torch.linspace(low, high, 200)]))
    chosen = Settings("exact", truncation=chosen.truncation)
    wanted = function(name, Settings("exact"))
    got, cost = play(wanted.protocol, x, chosen=chosen)
    error = (decode(got, wanted.out_frac) - wanted.plain(decode(x))).abs()
    assert float(error.max()) <= 4 * ULP
    assert cost == function_cost(name, chosen, tuple(x.shape))


@BOTH
@FEW
@given(st.lists(st.floats(1 / 512, 250.0), min_size=1, max_size=20))
def test_reciprocal(chosen: Settings, drawn: list[float]) -> None:
    """Of both signs, within 4 ulp of the Newton iteration."""
    ends = [1 / 512, 250.0, 1.0]
    x = encode(torch.cat([torch.tensor([*drawn, *ends]), torch.linspace(1 / 512, 250, 200)]))
    x = torch.cat([x, -x])
    got, cost = play(function("reciprocal", Settings("exact")).protocol, x, chosen=chosen)
    assert float((decode(got) - approx.reciprocal(decode(x))).abs().max()) <= 4 * ULP
    assert cost == function_cost("reciprocal", chosen, tuple(x.shape))


def test_outside_their_ranges_functions_stay_their_approximation() -> None:
    """Relative to a value that is large: the limit beyond its ends, the reciprocal towards 0."""

    def worst(got: Tensor, right: Tensor) -> float:
        return float(((got - right).abs() / right.abs().clamp(min=1.0)).max())

    x = encode(torch.cat([torch.linspace(6, 14, 200), torch.linspace(-530, -512, 200)]))
    got, _ = play(lambda ctx, t: exponential(ctx, t << 8, 24, 16), x, chosen=EXACT)
    assert worst(decode(got), approx.exponential(decode(x))) <= 4 * ULP
    x = encode(torch.linspace(2**-12, 1 / 512, 200))
    got, _ = play(positive_reciprocal, x, chosen=EXACT)
    assert worst(decode(got, OUT_FRAC), approx.positive_reciprocal(decode(x))) <= 4 * ULP
    zero, _ = play(positive_reciprocal, torch.zeros(3, dtype=torch.int64), chosen=EXACT)
    assert bool((zero > 0).all())


@BOTH
@pytest.mark.parametrize("which", ["quad+2quad", "quad+2relu", "exact"])
@pytest.mark.parametrize("shape", [(3, 1), (2, 3, 7), (4, 128), (2, 1000)])
def test_softmax(which: Approx, shape: tuple[int, ...], chosen: Settings) -> None:
    """The weights of rows, with and without keys that may not be seen."""
    chosen = Settings(which, truncation=chosen.truncation)
    generator = torch.Generator().manual_seed(3)
    x = encode(2 * torch.randn(shape, generator=generator, dtype=torch.float64))
    seen = torch.ones(shape[-2:], dtype=torch.bool).tril(shape[-1] // 2)
    for visible in (None, seen):
        got, cost = play(lambda ctx, t, v=visible: softmax(ctx, t, v), x, chosen=chosen)
        right = approx.softmax(decode(x), which, visible)
        assert float((decode(got, WEIGHT_FRAC) - right).abs().max()) <= 4 * ULP
        assert cost == primitive_costs.softmax(which, x.numel() // shape[-1], shape[-1])


@BOTH
@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (8, 96), (2, 768), (1, 4096)])
def test_norms(rms: bool, shape: tuple[int, int], chosen: Settings) -> None:
    generator = torch.Generator().manual_seed(4)
    x = encode(0.5 + 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64))
    got, cost = play(lambda ctx, t: normalize(ctx, t, 1e-5, rms), x, chosen=chosen)
    assert float((decode(got) - approx.normalize(decode(x), 1e-5, rms)).abs().max()) <= 4 * ULP
    assert cost == primitive_costs.normalize(chosen, *shape, rms)


@given(st.integers(1, 20000), st.integers(1, 40))
def test_inverse_of(n: int, precision: int) -> None:
    factor, bits = inverse_of(n, precision)
    assert abs(factor * 2.0**-bits * n - 1) <= 2.0**-precision
    assert factor.bit_length() <= precision + 2


# Bits that each party sends for one element, and the original's rounds (its counters).
PUBLISHED: dict[str, tuple[Protocol, int, int]] = {
    "mul": (lambda ctx, x: product_truncation.product(ctx, x, x, 16), 128, 1),
    "square": (lambda ctx, x: product_truncation.quadratic(ctx, x, 16), 64, 1),
    "public scale": (lambda ctx, x: truncate.truncate(ctx, x, 8), 0, 0),
    "A2B": (a2b.add_bits, 1664, 7),
    "less than zero": (compare.less_than_zero, 1728, 8),
    "eq": (compare.is_zero, 832, 7),
    "ReLU": (compare.relu, 1856, 9),
    "exp": (function("exp", Settings("exact")).protocol, 512, 8),
    "reciprocal": (function("reciprocal", Settings("exact")).protocol, 4416, 38),
    "positive reciprocal": (positive_reciprocal, 2432, 28),
    "inverse square root": (function("rsqrt", Settings("exact")).protocol, 1472, 17),
    "sigmoid": (function("sigmoid", Settings("exact")).protocol, 3008, 23),
    "tanh": (function("tanh", Settings("exact")).protocol, 3008, 23),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_are_the_published_ones(name: str) -> None:
    """Bits exactly; hops no more."""
    protocol, bits, rounds = PUBLISHED[name]
    x = encode(torch.linspace(0.5, 2.0, 7))
    _, cost = play(protocol, x)
    assert 64 * cost.words == bits * len(x)
    assert cost.hops <= rounds


def test_passes_must_agree() -> None:
    """A protocol that walks otherwise online than offline is stopped."""

    def uneven(ctx: Context, x: Tensor) -> Tensor:
        return x if ctx.offline_pass else product_truncation.quadratic(ctx, x, 16)

    def other(ctx: Context, x: Tensor) -> Tensor:
        return product_truncation.quadratic(ctx, x[:-1] if ctx.offline_pass else x, 16)

    def unused(ctx: Context, x: Tensor) -> Tensor:
        return product_truncation.quadratic(ctx, x, 16) if ctx.offline_pass else x

    for protocol in (uneven, other, unused):
        with pytest.raises((RuntimeError, IndexError)):
            play(protocol, torch.ones(4, dtype=torch.int64))
