"""Weights of 8 bits: how they are rounded, and the plaintext model that has them."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch

from protocols.permllm import rounded_weights
from protocols.permllm.domain import Ring64
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.transformer.model import synthetic_model
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.reference import layer_forward
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import LayerWeights, Linear, Norm, fold, synthetic_layer
from protocols.workload import Generation, Layer, UserInput
from tests.play import SEED, play, relative, small

BYTES = PermLLMOptions(weight_bits=8)


def test_a_row_has_the_least_scale_that_fits() -> None:
    """Rows of many sizes, more than are rounded at once: the step is a whole number of 2^-frac, no value
    is beyond ±127, none is off by more than half a step."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.tensor([1e-5, 1e-3, 0.02, 0.3, 1.0]).repeat(220)[:, None]
    weight = torch.randn(1100, 300, generator=generator) * sizes
    fixed = Ring64().quantize(weight, None, 8)
    assert fixed.values.dtype == torch.int8
    assert fixed.scales is not None
    step = fixed.scales[:, None] * 2.0**-fixed.frac
    assert int(fixed.values.abs().max()) <= 127
    least = (weight.abs().amax(1) * 2.0**fixed.frac / 127).ceil().clamp(min=1)
    assert torch.equal(fixed.scales, least.long())
    error = (fixed.rows(0, 1100, torch.int64) * 2.0**-fixed.frac - weight).abs()
    assert bool((error <= step / 2).all())


def test_a_weight_that_no_scale_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit 8 bits"):
        Ring64().quantize(torch.tensor([[1e5]]), None, 8)


@pytest.mark.parametrize("gain", ["some are 0", "all differ"])
def test_an_unfolded_matrix_does_what_the_folded_one_does(gain: str) -> None:
    """Of GLM and BERT, where the norm's output goes elsewhere too."""
    generator = torch.Generator().manual_seed(2)
    gains, bias, x = (torch.randn(size, generator=generator) for size in (24, 24, 24))
    if gain == "some are 0":
        gains[::5] = 0.0
    norm = Norm(gains, bias, 1e-5)
    own = Linear(torch.randn(7, 24, generator=generator), torch.randn(7, generator=generator))
    folded = fold(norm, own)
    fixed = Ring64().quantize(folded.weight, None, 8)
    right = fixed.rows(0, 7, torch.int64).double() * 2.0**-fixed.frac @ x.double()
    unfolded = rounded_weights.linear(norm, own, 8)
    assert folded.bias is not None
    assert unfolded.bias is not None
    got = unfolded.weight.double() @ (gains * x + bias).double() + unfolded.bias.double()
    assert torch.allclose(got, right + folded.bias.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", get_args(Family))
def test_the_rounded_layer_is_near_the_exact_one(family: Family) -> None:
    """Rounded it must be, and to 8 bits, not to less: a norm folded twice, or not at all, shows."""
    spec = small(family)
    weights, x = synthetic_layer(spec, SEED), torch.linspace(-2, 2, 5 * 32).reshape(5, 32)
    exact = layer_forward(spec, weights, x)[0]
    rounded = layer_forward(spec, rounded_weights.layer(spec, weights, 8), x)[0]
    assert 1e-5 < relative(rounded, exact) < 5e-3
    assert 1e-3 < relative(rounded - x, exact - x) < 1.5e-2 or family in ("bert", "glm")


def test_tied_layers_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, layer = [], rounded_weights.layer

    def counted(spec: TransformerSpec, weights: LayerWeights, bits: int) -> LayerWeights:
        calls.append(bits)
        return layer(spec, weights, bits)

    monkeypatch.setattr(rounded_weights, "layer", counted)
    spec = small("glm")
    model = rounded_weights.model(spec, synthetic_model(spec, SEED, tie_layers=True), 8)
    assert model.layers[0] is model.layers[1]
    assert len(calls) == 1


@pytest.mark.parametrize("family", get_args(Family))
def test_a_record_has_both_errors(family: Family) -> None:
    """What the protocol does to the rounded model, and what rounding does to the exact one. The first is
    so small that P0's rounding and this one must be the same."""
    work = Layer(small(family), 1, 9)
    (answer,) = play(PermLLM, work, BYTES, evaluations=1).answers[0]
    own, exact = (PermLLM.plaintext(work, SEED, o) for o in (BYTES, PermLLMOptions()))
    assert relative(answer, own) < 1e-4 < relative(answer, exact)
    assert PermLLM.approximates(BYTES)
    assert not PermLLM.approximates(PermLLMOptions())


@pytest.mark.parametrize("family", ["gpt2", "llama", "chatglm"])
@pytest.mark.parametrize("variant", ["paper", "fused"])
def test_a_checkpoint_generates_what_its_rounded_plaintext_generates(
    family: str, variant: Literal["paper", "fused"], request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"{family}_checkpoint")
    from protocols.transformer.checkpoint import check, load  # noqa: PLC0415 - an optional extra

    prompt = (5, 17, 40, 297, 298) if family == "chatglm" else (5, 17, 40, 8)
    spec = check(folder)
    work = Generation(spec, len(prompt), 16, checkpoint=str(folder))
    options = replace(BYTES, variant=variant, selection="ot")
    played = play(PermLLM, work, options, evaluations=1, user=UserInput(prompt)).answers[0]
    plain = PlainModel(spec, rounded_weights.model(spec, load(folder), 8))
    assert [int(step[0]) for step in played] == plain.greedy(prompt, 16)[0]
