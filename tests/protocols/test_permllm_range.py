"""What PermLLM shows to P1, and how large values may be: right, or refused by name."""

from dataclasses import replace
from typing import Any, Literal
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from protocols import expected_answer
from protocols.errors import OutOfRange
from protocols.inputs import prompt_tokens
from protocols.party import P0, P1, Role
from protocols.permllm import generation, programs
from protocols.permllm.context import Context
from protocols.permllm.domain import VALUE_FRAC
from protocols.permllm.layer import HIDDEN
from protocols.permllm.masked_value import Masked
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.permuted_functions import Revealed
from protocols.permllm.system import PermLLM
from protocols.transformer import reference
from protocols.transformer.model import ModelWeights
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import LayerWeights, synthetic_layer
from protocols.workload import Generation, Layer
from tests.play import SEED, play, relative, small

FAMILIES: tuple[Family, ...] = ("gpt2", "glm", "bert", "llama")


def seen_by_p1(work: Layer, step: str) -> Tensor:
    """What P1 saw in one step of one evaluation."""
    seen: list[Tensor] = []
    online = Revealed.online

    def listen(self: Revealed, inputs: list[Masked]) -> Tensor | None:
        shown = online(self, inputs)
        if shown is not None and self.name == f"layer/{step}":
            seen.append(shown)
        return shown

    with patch.object(Revealed, "online", listen):
        play(PermLLM, work, evaluations=1)
    (shown,) = seen
    return shown.reshape(-1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_scores_that_no_token_may_use_are_a_constant_to_p1(family: Family) -> None:
    """Of 5 keys the last of 3 new tokens sees all, the first 3; 4 heads."""
    shown = seen_by_p1(Layer(small(family), 3, 5), "softmax")
    hidden = shown == HIDDEN
    assert int(hidden.sum()) == 4 * (2 + 1)
    assert float(shown[~hidden].abs().max()) < 100


def model_with_one_large_activation(work: Generation, value: float) -> ModelWeights:
    """The first layer's feed-forward block adds `value` to coordinate 5, whatever its input."""
    weights = model_weights(work, SEED)
    layers = list(weights.layers)
    layers[0] = with_large_output(layers[0], value)
    return replace(weights, layers=layers)


def with_large_output(layer: LayerWeights, value: float) -> LayerWeights:
    bias = torch.zeros(layer.down.weight.shape[0]) if layer.down.bias is None else layer.down.bias
    bias = bias.clone()
    bias[5] = value
    return replace(layer, down=replace(layer.down, bias=bias))


@pytest.mark.parametrize("variant", ["paper", "fused"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [2600.0, -7000.0, 20000.0])
def test_a_large_activation_is_right_or_refused_by_name(
    family: Family, value: float, variant: Literal["paper", "fused"]
) -> None:
    """20,000 wraps in the window of a norm; P1 must see that it does. Fused, with two decoded tokens: in
    LLaMA's norm 2 the squares of 7,000 must not wrap."""
    options = PermLLMOptions(variant=variant)
    new = 3 if variant == "fused" else 1
    work = Generation(small(family), 3, 0 if family == "bert" else new)
    weights = model_with_one_large_activation(work, value)
    with patch.object(generation, "model_weights", lambda *_: weights):
        if abs(value) > 8192:
            step = "layer0/norm2" if family == "bert" else "layer1/norm1"
            told = rf"^{step}: a value of -127\S+ or (1999|2000)\S*; .* magnitudes below 8192$"
            with pytest.raises(OutOfRange, match=told):
                play(PermLLM, work, options, evaluations=1)
            return
        answers = play(PermLLM, work, options, evaluations=1).answers[0]
    plain_model = PlainModel(work.spec, weights)
    prompt = prompt_tokens(work.spec, 3, SEED)
    if family == "bert":
        assert relative(answers[0], plain_model.encode(prompt)) <= 3e-3
        return
    tokens = list(prompt)
    for answer in answers:
        assert relative(answer[1:], plain_model.step(tokens)) <= 3e-3
        tokens = [int(answer[0])]


def test_weighted_sums_over_many_keys_are_right() -> None:
    """2048 probabilities of about 2^-11 each: their rounding must not show in the sum."""
    spec = TransformerSpec("glm", "glm", 1, 64, 2, 64, 100, 4096)
    work = Layer(spec, 1, 2048)

    def grown(*args: Any) -> LayerWeights:
        layer = synthetic_layer(*args)
        return replace(layer, qkv=replace(layer.qkv, weight=layer.qkv.weight * 8))

    with (
        patch.object(programs, "synthetic_layer", grown),
        patch.object(expected_answer, "synthetic_layer", grown),
    ):
        got, exact = weighted_sums(work)
    assert relative(got, exact) <= 1e-3


def weighted_sums(work: Layer) -> tuple[Tensor, Tensor]:
    """o of a layer's one new token (d_model,): as PermLLM computes it, and in float64."""
    halves: dict[Role, Tensor] = {}
    exact: list[Tensor] = []
    truncate, attention = Context.truncate, reference.attention

    def listen(self: Context, x: Masked, bits: int) -> Masked:
        result = truncate(self, x, bits)
        if result.shape == (1, work.spec.d_model) and result.half is not None:
            assert result.frac == VALUE_FRAC
            halves[self.role] = result.half
        return result

    def exactly(*args: Any) -> Tensor:
        exact.append(attention(*args))
        return exact[0]

    with (
        patch.object(Context, "truncate", listen),
        patch.object(reference, "attention", exactly),
    ):
        play(PermLLM, work, evaluations=1)
        expected_answer.answer(work, SEED)
    got = (halves[P0] + halves[P1]).double() * 2.0**-VALUE_FRAC
    return got.reshape(-1), exact[0].reshape(-1)
