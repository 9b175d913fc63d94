"""Where a model's values are beyond what a system computes with: which bound, which layer, how large."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from harness.measure import beyond_bounds, verify
from harness.measure.verify import Answers
from harness.parties.job import Job
from harness.registry import system_class
from protocols.inputs import prompt_tokens
from protocols.permllm import generation
from protocols.permllm.options import PermLLMOptions
from protocols.permllm.system import PermLLM
from protocols.system import System
from protocols.transformer.model import ModelWeights
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.source import model_weights
from protocols.transformer.weights import LayerWeights
from protocols.workload import Generation
from tests.play import FAMILIES, SEED, play, small

WORK = Generation(small("gpt2"), 4, 2)


def changed(work: Generation, layer: int, change: Any) -> ModelWeights:
    weights = model_weights(work, SEED)
    layers = list(weights.layers)
    layers[layer] = change(layers[layer])
    return replace(weights, layers=layers)


def large_output(value: float) -> Any:
    """A layer that adds `value` to coordinate 5, whatever its input."""

    def change(layer: LayerWeights) -> LayerWeights:
        bias = torch.zeros(layer.down.weight.shape[0])
        bias[5] = value
        return replace(layer, down=replace(layer.down, bias=bias))

    return change


def one_large_weight(layer: LayerWeights) -> LayerWeights:
    weight = layer.down.weight.clone()
    weight[5, 7] = 60.0
    return replace(layer, down=replace(layer.down, weight=weight))


def told(name: str, work: Generation, weights: ModelWeights, **options: Any) -> list[str]:
    system = system_class(name)
    bounds, plain = system.bounds(system.Options(**options)), PlainModel(work.spec, weights)
    prompt = prompt_tokens(work.spec, work.prompt_len, SEED)
    steps = [prompt, [3]] if work.new_tokens > 1 else [prompt]
    return beyond_bounds.beyond_bounds(bounds, work.spec, weights, plain, steps)


@pytest.mark.parametrize("name", ["permllm", "puma", "plaintext"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_ordinary_model_is_within(name: str, family: Any) -> None:
    work = Generation(small(family), 4, 0 if family == "bert" else 2)
    assert told(name, work, model_weights(work, SEED)) == []


@pytest.mark.parametrize(("family", "place"), [("gpt2", "layer1/norm1"), ("bert", "layer0/norm2")])
def test_a_large_activation_is_named_with_its_layer_size_and_bound(family: Any, place: str) -> None:
    work = Generation(small(family), 4, 0 if family == "bert" else 2)
    found = told("permllm", work, changed(work, 0, large_output(6e4)))
    assert f"{place}: norm input 6e+04, the system computes with less than 8192" in found
    told_of_puma = told("puma", work, changed(work, 0, large_output(6e4)))
    assert any(text.startswith(f"{place}: norm deviation 1.0") for text in told_of_puma)


def test_coarse_weights_are_named_and_32_bits_mend_them() -> None:
    """One weight of 60 leaves 16-bit steps of 2^-9 to those around 0.02."""
    weights = changed(WORK, 1, one_large_weight)
    (text,) = told("permllm", WORK, weights)
    assert text.startswith("layer1/down: weight peak ")
    assert text.endswith("system.weight_bits=32 mends it")
    assert told("permllm", WORK, weights, weight_bits=32) == []
    errors = {}
    with (
        patch.object(generation, "model_weights", lambda *_: weights),
        patch.object(verify, "model_weights", lambda *_: weights),
        patch.object(System, "plain_model", classmethod(lambda *_: PlainModel(WORK.spec, weights))),
    ):
        for bits in (16, 32):
            options = PermLLMOptions(weight_bits=bits)
            job = Job("permllm", options, WORK, SEED)
            answers = play(PermLLM, WORK, options, evaluations=1).answers
            errors[bits] = Answers().check(PermLLM, job, answers).value
            assert bool(Answers().beyond_bounds(PermLLM, job, answers)) == (bits == 16)
    assert errors[32] < errors[16] / 1.5
