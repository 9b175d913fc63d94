"""The plaintext system's sampling and limits, and the forward pass that it and others compute with."""

from typing import get_args

import pytest
import torch

from baselines.plaintext.functions import PYTORCH, plain_function
from baselines.plaintext.options import PlaintextOptions
from baselines.plaintext.system import Plaintext
from protocols.errors import Unsupported
from protocols.expected_answer import answer, apply_nonlinear
from protocols.inputs import layer_input, nonlinear_input
from protocols.transformer.forward import EXACT, Functions, LayerForward, ModelForward
from protocols.transformer.model import synthetic_model
from protocols.transformer.plain_model import PlainModel
from protocols.transformer.rotary import rotary_tables
from protocols.transformer.spec import Family, TransformerSpec
from protocols.transformer.weights import synthetic_layer
from protocols.workload import Generation, Layer, NonlinearOp, Sampling, UserInput
from tests.play import FAMILIES, SEED, play, small


def test_sampling_is_what_the_user_asks() -> None:
    """P0 draws as P1 says: repeatably with a seed, and not always the likeliest."""
    work = Generation(small("gpt2"), 4, 6)

    def tokens(sampling: Sampling) -> list[list[int]]:
        played = play(Plaintext, work, user=UserInput((5, 6, 7, 8), sampling))
        return [[int(step[0]) for step in got] for got in played.answers]

    hot = Sampling(temperature=5.0, top_k=50, seed=3)
    assert tokens(hot) == tokens(hot)
    assert tokens(hot)[0] != tokens(Sampling())[0]
    assert tokens(Sampling(temperature=5.0, top_k=1)) == tokens(Sampling())


@pytest.mark.parametrize("op", get_args(NonlinearOp))
def test_functions_are_the_reference(op: NonlinearOp) -> None:
    """In float64, where a kernel's constants would show."""
    x = nonlinear_input(op, (3, 40), SEED)
    assert torch.allclose(
        plain_function(op, x, "exact"), apply_nonlinear(op, x), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("functions", [EXACT, PYTORCH], ids=["own", "pytorch"])
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_agrees_with_the_reference(family: Family, functions: Functions) -> None:
    """Two passes of a layer and of a model, in float64."""
    shape = small(family, 2 if family == "llama" else None)
    work = Layer(shape, 3, 8)
    given = layer_input(shape, 3, 8, SEED)
    layer = LayerForward(
        shape, synthetic_layer(shape, SEED), functions, (given.past_k, given.past_v)
    )
    tables = rotary_tables(shape, torch.arange(5, 8)) if shape.rotary else None
    assert torch.allclose(layer(given.x, tables), answer(work, SEED), rtol=0, atol=1e-11)
    weights = synthetic_model(shape, SEED)
    own, reference = ModelForward(shape, weights, functions), PlainModel(shape, weights)
    if family == "bert":
        assert torch.allclose(own.encode([1, 2, 3]), reference.encode([1, 2, 3]), atol=1e-11)
        with pytest.raises(ValueError, match="no head"):
            own.step([1])
        return
    for tokens in ([1, 2, 3, 4], [5], [6]):
        assert torch.allclose(own.step(tokens), reference.step(tokens), rtol=0, atol=1e-11)


def test_what_does_not_fit_is_unsupported() -> None:
    """A 6B model in float32, unless its layers are tied."""
    large = TransformerSpec("glm", "glm", 28, 4096, 32, 16384, 130528, 2048)
    with pytest.raises(Unsupported, match="25 GiB"):
        Plaintext.check(Generation(large, 4, 1), PlaintextOptions())
    Plaintext.check(Generation(large, 4, 1, tie_layers=True), PlaintextOptions())
    Plaintext.check(Layer(large, 1, 1), PlaintextOptions())
