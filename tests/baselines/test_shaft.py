"""SHAFT: its published costs and errors, its functions over their ranges, one-hots from the dealer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baselines.additive import approx, euler_softmax, fourier_gelu, primitive_costs
from baselines.additive.encoding import decode, encode
from baselines.additive.fourier_gelu import GELU, SILU, TABLE_FRAC, SineSeries
from baselines.additive.functions import function, function_cost
from baselines.additive.primitive_costs import Cost
from baselines.additive.softmax import WEIGHT_FRAC
from baselines.shaft.one_hot import one_hot
from baselines.shaft.options import ShaftOptions
from baselines.shaft.system import Shaft
from protocols.expected_answer import answer
from protocols.transformer.reference import gelu
from protocols.transformer.spec import Family
from protocols.workload import Layer
from tests.additive import ULP, play
from tests.play import FAMILIES, SEED, relative, small
from tests.play import play as play_system

CHOSEN = ShaftOptions()
MIB = 2**20


def both_parties(cost: Cost) -> float:
    """What both send each other, in MiB."""
    return 2 * 8 * cost.words / MIB


@pytest.mark.parametrize(("m", "published"), [(32, 0.0596), (128, 0.2383), (256, 0.4766)])
def test_softmax_costs_what_is_published(m: int, published: float) -> None:
    """41 rounds whatever the row, and 0.2383 MB for one of 128, to the last printed digit."""
    x = encode(torch.linspace(-3, 3, m).reshape(1, m))
    _, cost = play(euler_softmax.euler_softmax, x, chosen=CHOSEN)
    assert cost == primitive_costs.euler_softmax(1, m)
    assert cost.hops == 41
    assert both_parties(cost) == 1952 * m / MIB
    assert round(both_parties(cost), 4) == published


def test_gelu_costs_what_is_published() -> None:
    """19 rounds; 354 MB for BERT-base's (128, 3072)."""
    x = encode(torch.linspace(-6, 6, 50))
    _, cost = play(function("gelu", CHOSEN).protocol, x, chosen=CHOSEN)
    assert cost == function_cost("gelu", CHOSEN, (50,))
    assert (cost.words, cost.hops) == (59 * 50, 19)
    assert both_parties(function_cost("gelu", CHOSEN, (128, 3072))) == 354


def test_other_published_costs() -> None:
    """Less-than log₂64 + 2 rounds, ReLU one more; 8 squarings and 5 Newton steps of 3 products."""
    assert primitive_costs.less_than_zero(1).hops == math.log2(64) + 2
    assert primitive_costs.relu(1).hops == math.log2(64) + 3
    assert function_cost("rsqrt", CHOSEN, (1,)).hops == 8 + 5 * 3


def test_gelu_is_as_far_from_the_exact_one_as_published() -> None:
    """4.60e-3 at most, 7.39e-4 in the mean."""
    x = torch.linspace(-5, 5, 100_001, dtype=torch.float64)
    error = (approx.fourier(x, GELU) - gelu(x, "erf")).abs()
    assert float(error.max()) == pytest.approx(4.60e-3, rel=0.03)
    assert float(error.mean()) == pytest.approx(7.39e-4, rel=0.01)


@pytest.mark.parametrize("series", [GELU, SILU], ids=["gelu", "silu"])
@pytest.mark.parametrize("truncation", ["local", "exact"])
def test_fourier_is_its_series(series: SineSeries, truncation: str) -> None:
    """On both sides of where it ends, and far away."""
    low = torch.linspace(-series.width - 1, series.width + 1, 4001)
    x = encode(torch.cat([low, torch.tensor([-3e4, -100.0, 100.0, 3e4])]))
    x = x[(decode(x).abs() - series.width).abs() > ULP]  # the step itself is a comparison
    chosen = ShaftOptions(truncation="local" if truncation == "local" else "exact")
    got, cost = play(lambda ctx, t: fourier_gelu.fourier(ctx, t, series), x, chosen=chosen)
    assert float((decode(got) - approx.fourier(decode(x), series)).abs().max()) <= 4 * ULP
    assert cost == primitive_costs.fourier(len(x), len(series.betas))


def test_both_parties_find_the_same_factors() -> None:
    """No sine in a table is so near a tie that another machine's could be rounded otherwise."""
    for series in (GELU, SILU):
        fine = series.period_bits
        steps = [*range(1 << 10), *(i << 10 for i in range(1 << (fine - 10)))]
        angles = torch.tensor(steps, dtype=torch.float64) * (2 * math.pi / 2**fine)
        for values in (angles.sin(), angles.cos()):
            rest = (values * 2.0**TABLE_FRAC).remainder(1.0)
            assert float((rest - 0.5).abs().min()) > 1e-6


@pytest.mark.parametrize("shape", [(3, 1), (2, 3, 7), (4, 128), (2, 1000)])
def test_euler_softmax(shape: tuple[int, ...]) -> None:
    """With and without keys that may not be seen; scores beyond the clip too."""
    generator = torch.Generator().manual_seed(3)
    x = encode(5 * torch.randn(shape, generator=generator, dtype=torch.float64))
    seen = torch.ones(shape[-2:], dtype=torch.bool).tril(shape[-1] // 2)
    for visible in (None, seen):

        def protocol(ctx: object, t: Tensor, v: Tensor | None = visible) -> Tensor:
            return euler_softmax.euler_softmax(ctx, t, v)  # type: ignore[arg-type]

        got, cost = play(protocol, x, chosen=CHOSEN)
        right = approx.euler_softmax(decode(x), visible)
        assert float((decode(got, WEIGHT_FRAC) - right).abs().max()) <= 4 * ULP
        assert cost == primitive_costs.euler_softmax(x.numel() // shape[-1], shape[-1])
        assert visible is None or not bool(decode(got).masked_select(~visible.expand(shape)).any())


def test_euler_steps_come_to_the_softmax() -> None:
    """As the module says for scores of deviation 1 and 3; and the weights add up to 1."""
    generator = torch.Generator().manual_seed(5)
    for deviation, within in ((1, 0.05), (3, 0.125)):
        x = deviation * torch.randn(50, 128, generator=generator, dtype=torch.float64)
        weights = approx.euler_softmax(x)
        assert float((weights - torch.softmax(x, -1)).abs().max()) <= within
        assert float((weights.sum(-1) - 1).abs().max()) <= 1e-12


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([1, 2, 7, 64, 200]), st.data())
def test_one_hot(size: int, data: st.DataObject) -> None:
    index = torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=9)))
    got, cost = play(lambda ctx, i: one_hot(ctx, i, size), index, chosen=CHOSEN)
    assert torch.equal(got, torch.nn.functional.one_hot(index, size))
    assert cost == Cost(len(index), 1, len(index) * size)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_close_to_exact_plaintext(family: Family) -> None:
    work = Layer(small(family), 4, 9)
    played = play_system(Shaft, work, ShaftOptions(truncation="exact"), evaluations=1)
    assert relative(played.answers[0][0], answer(work, SEED)) <= 2e-2
